//! `sealift completion`

use anyhow::Result;
use clap_complete::Shell;
use clap_complete::env::Shells;

use super::{CommandContext, complete};
use crate::error::Failure;

/// Print the completion script for a shell
///
/// Completes commands, options, names of images in the store and of known clusters.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  source <(sealift completion bash)\n  sealift completion fish > ~/.config/fish/completions/sealift.fish"
)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    if args.shell == Shell::Bash {
        return cmd.console.raw(BASH.as_bytes());
    }
    let (shells, name) = (Shells::builtins(), args.shell.to_string());
    let shell = shells.completer(&name).ok_or_else(|| Failure::usage(format!("no completion for {name}")))?;
    let mut script = Vec::new();
    shell.write_registration(complete::VARIABLE, "sealift", "sealift", "sealift", &mut script)?;
    cmd.console.raw(&script)
}

/// Bash splits words at colons too, which names of images have: the words are taken from the line, and what stands before the last
/// colon is taken off the answers.
const BASH: &str = r#"_sealift() {
    local line="${COMP_LINE:0:COMP_POINT}" words current cut
    read -ra words <<< "$line"
    [[ "$line" == *[[:space:]] ]] && words+=("")
    current="${words[-1]}"
    mapfile -t COMPREPLY < <(SEALIFT_COMPLETE=bash _CLAP_IFS=$'\n' _CLAP_COMPLETE_INDEX=$((${#words[@]} - 1)) \
        "${words[0]}" -- "${words[@]}" 2>/dev/null)
    if [[ "$current" == *[:=]* && "$COMP_WORDBREAKS" == *:* ]]; then
        cut="${current%"${current##*[:=]}"}"
        COMPREPLY=("${COMPREPLY[@]#"$cut"}")
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" != *[=/] ]] && COMPREPLY=("${COMPREPLY[0]} ")
}
complete -o nospace -o bashdefault -o default -F _sealift sealift
"#;
