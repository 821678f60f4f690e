//! The command: parses arguments, starts `cli`, turns its error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sealift::cli::main()
}
