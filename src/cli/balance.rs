//! `sealift balance`

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;

use super::CommandContext;
use crate::cluster::runtime::load_balancer;

/// Pass TCP connections on to the first of several addresses that answers; runs as a unit on workers
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: SocketAddr,
    /// Where connections go
    #[arg(required = true, value_name = "ADDRESS:PORT")]
    backends: Vec<SocketAddr>,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("listen on {}", args.listen))?;
    load_balancer::serve(listener, args.backends, &cmd.ctx).await
}
