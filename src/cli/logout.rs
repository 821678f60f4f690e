//! `sealift logout`

use anyhow::Result;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{CommandContext, RegistryArgs};
use crate::registry::client::remove_credentials;

/// Log out of a registry
///
/// Removes the password that `login` saved.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift logout registry.example.com")]
pub struct Args {
    /// The registry, for example registry.example.com:5000
    #[arg(default_value = "docker.io")]
    registry: String,
    #[command(flatten)]
    options: RegistryArgs,
}

/// Removes the saved password.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let file = args.options.written_authfile()?;
    let registry = super::login::host(&args.registry).to_owned();
    let (path, host) = (file.clone(), registry.clone());
    let was_logged_in = spawn_blocking(move || remove_credentials(&path, &host)).await??;
    cmd.console.answer(&json!({"registry": registry, "wasLoggedIn": was_logged_in, "file": file}), || match was_logged_in {
        true => format!("logged out of {registry}\n"),
        false => format!("not logged in to {registry} (according to {})\n", file.display()),
    })
}
