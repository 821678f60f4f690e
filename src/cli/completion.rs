//! `sealift completion`

use anyhow::Result;
use clap_complete::Shell;

use super::CommandContext;

/// Print a completion script for a shell
///
/// For bash: source <(sealift completion bash)
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "sealift", &mut script);
    cmd.console.raw(&script)
}
