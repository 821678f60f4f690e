//! `sealift login`

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use anyhow::{Context as _, Result};
use secrecy::SecretString;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{CommandContext, RegistryArgs};
use crate::error::Failure;
use crate::registry::client::store_credentials;

/// Log in to a registry
///
/// Checks the password with the registry, then saves it where docker and podman do.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift login registry.example.com\n  pass show registry | sealift login -u me --password-stdin 10.0.0.1:5000"
)]
pub struct Args {
    /// The registry, for example registry.example.com:5000
    #[arg(default_value = "docker.io")]
    registry: String,
    /// The user name [default: prompt for it]
    #[arg(short, long)]
    username: Option<String>,
    /// The password, visible in the process list; safer is `--password-stdin`
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<SecretString>,
    /// Read the password from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
    #[command(flatten)]
    options: RegistryArgs,
}

/// Checks the password and saves it.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let file = args.options.written_authfile()?;
    let registry = host(&args.registry).to_owned();
    let (user, password) = credential(&args).await?;
    args.options.client()?.login(&registry, &user, &password, &cmd.ctx).await?;
    let (place, kept_for, name) = (file.clone(), registry.clone(), user.clone());
    spawn_blocking(move || store_credentials(&place, &kept_for, &name, &password)).await??;
    let answer = json!({"registry": registry, "user": user, "file": file});
    cmd.console.answer(&answer, || format!("logged in to {registry} as {user} (saved in {})\n", file.display()))
}

/// The host of what users write: it may have a scheme, or a slash at the end.
pub fn host(registry: &str) -> &str {
    let host = registry.split_once("://").map_or(registry, |(_, host)| host);
    host.split('/').next().unwrap_or(host)
}

async fn credential(args: &Args) -> Result<(String, SecretString)> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None => prompt("user name: ", false).await?,
    };
    if let Some(password) = &args.password {
        return Ok((user, password.clone()));
    }
    let password = if args.password_stdin { from_stdin()? } else { prompt("password: ", true).await? };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty").hint("`--password-stdin` reads it from stdin").into());
    }
    Ok((user, password.into()))
}

/// All of stdin without the line end, as docker reads it.
fn from_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("stdin")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Prompts on the terminal.
async fn prompt(text: &'static str, secret: bool) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        let failure = Failure::usage("no terminal to prompt for user and password").hint("use `-u USER --password-stdin`");
        return Err(failure.into());
    }
    spawn_blocking(move || {
        if secret {
            return rpassword::prompt_password(text).context("the terminal");
        }
        use std::io::Write as _;
        let mut terminal = std::io::stderr();
        terminal.write_all(text.as_bytes()).and_then(|()| terminal.flush())?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    })
    .await?
}
