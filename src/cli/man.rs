//! `sealift man`

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::CommandContext;

/// Write a man page for every command
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift man /usr/local/share/man/man1")]
pub struct Args {
    /// The directory for the pages
    directory: PathBuf,
}

/// Writes `sealift.1`, `sealift-build.1` and so on.
pub fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    fs_err::create_dir_all(&args.directory)?;
    // the grouped help is a template for terminals; man pages have the commands in a list
    clap_mangen::generate_to(super::plain_command(), &args.directory)?;
    cmd.console.answer(&json!({ "directory": args.directory }), || format!("man pages are in {}\n", args.directory.display()))
}
