//! `--engine`: what renders helm charts.

use clap::ValueEnum;

use crate::chart::Engine;

/// What renders helm charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum EngineArg {
    /// sealift itself.
    #[default]
    Sealift,
    /// A `helm` program.
    Helm,
}

impl EngineArg {
    /// The engine; of helm the first program in PATH.
    pub fn resolve(self) -> Engine {
        match self {
            EngineArg::Sealift => Engine::Sealift,
            EngineArg::Helm => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let programs = std::env::split_paths(&path).map(|dir| dir.join("helm"));
                Engine::Helm(programs.into_iter().find(|program| is_program(program)))
            }
        }
    }
}

fn is_program(path: &std::path::Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
