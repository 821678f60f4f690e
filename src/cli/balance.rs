//! `sealift balance`

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

use super::CommandContext;
use crate::service::apiserver_balancer;

/// Forward TCP connections to the first backend that answers; runs as a systemd unit on workers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// The backends, the preferred one first
    #[arg(required = true, value_name = "ADDRESS:PORT")]
    backends: Vec<SocketAddr>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
    apiserver_balancer::serve(listener, args.backends, &cmd.ctx).await
}
