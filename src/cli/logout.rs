//! `sealift logout`

use anyhow::Result;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{CommandContext, RegistryArgs};
use crate::registry::client::remove_credentials;

/// Forget the password of a registry
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry
    #[arg(default_value = "docker.io")]
    registry: String,
    #[command(flatten)]
    options: RegistryArgs,
}

/// Removes what `login` kept.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let file = args.options.written_authfile()?;
    let registry = super::login::host(&args.registry).to_owned();
    let (place, forgotten) = (file.clone(), registry.clone());
    let was_there = spawn_blocking(move || remove_credentials(&place, &forgotten)).await??;
    cmd.console.answer(&json!({"registry": registry, "wasLoggedIn": was_there, "file": file}), || match was_there {
        true => format!("logged out of {registry}\n"),
        false => format!("not logged in to {registry} (by {})\n", file.display()),
    })
}
