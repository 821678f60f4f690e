//! `sealift agent`: runs on a host, started over SSH by `sealift run` and other commands; not for people.

use anyhow::Result;

use crate::host::serve_stdio;

/// Serve the operator's sealift over stdin and stdout
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Serves until the stream ends.
pub async fn run(_: Args) -> Result<()> {
    serve_stdio().await
}
