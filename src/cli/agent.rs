//! `sealift agent`: the end of an SSH channel that a runner started; not for people.

use anyhow::Result;

use crate::host::serve_stdio;

/// Serve a runner on stdin and stdout
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Serves until the stream ends.
pub async fn run(_: Args) -> Result<()> {
    serve_stdio().await
}
