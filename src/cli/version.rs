//! `sealift version`

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use crate::image::{host_platform, platform_string};

/// Print the version
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints it.
pub fn run(_: Args, cmd: &CommandContext) -> Result<()> {
    let (version, platform) = (env!("CARGO_PKG_VERSION"), platform_string(&host_platform()));
    cmd.console.answer(&json!({"version": version, "platform": platform}), || format!("sealift {version} {platform}\n"))
}
