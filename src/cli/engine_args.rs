//! `--engine`: the renderer of helm charts.

use clap::ValueEnum;

use crate::chart::Engine;

/// The renderer of helm charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum EngineArg {
    /// The built-in renderer.
    #[default]
    Sealift,
    /// The `helm` program.
    Helm,
}

impl EngineArg {
    /// The engine; for helm, the first `helm` in PATH.
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
