//! `sealift login`

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use anyhow::{Context as _, Result};
use secrecy::SecretString;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{CommandContext, RegistryArgs};
use crate::error::Failure;
use crate::registry::client::keep;

/// Log in to a registry
///
/// The password is checked against the registry, then kept where docker and podman keep theirs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The registry, for example registry.example.com:5000
    #[arg(default_value = "docker.io")]
    registry: String,
    /// The user; asked for when left out
    #[arg(short, long)]
    username: Option<String>,
    /// The password; other users of this machine see it in the process list: better `--password-stdin`
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<SecretString>,
    /// Read the password from stdin
    #[arg(long, requires = "username")]
    password_stdin: bool,
    #[command(flatten)]
    options: RegistryArgs,
}

/// Checks the password and keeps it.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let file = args.options.written_authfile()?;
    let registry = host(&args.registry).to_owned();
    let (user, password) = credential(&args).await?;
    args.options.client()?.login(&registry, &user, &password, &cmd.ctx).await?;
    let (place, kept_for, name) = (file.clone(), registry.clone(), user.clone());
    spawn_blocking(move || keep(&place, &kept_for, &name, &password)).await??;
    let answer = json!({"registry": registry, "user": user, "file": file});
    cmd.console.answer(&answer, || format!("logged in to {registry} as {user} (kept in {})\n", file.display()))
}

/// What users write: with a scheme, or with a slash at the end.
pub fn host(registry: &str) -> &str {
    let host = registry.split_once("://").map_or(registry, |(_, host)| host);
    host.split('/').next().unwrap_or(host)
}

async fn credential(args: &Args) -> Result<(String, SecretString)> {
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("user name: ", false).await?,
    };
    if let Some(password) = &args.password {
        return Ok((user, password.clone()));
    }
    let password = if args.password_stdin { from_stdin()? } else { ask("password: ", true).await? };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty").into());
    }
    Ok((user, password.into()))
}

/// All of stdin without the line end, as docker reads it.
fn from_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_to_string(&mut text).context("stdin")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks on the terminal.
async fn ask(prompt: &'static str, secret: bool) -> Result<String> {
    if !std::io::stdin().is_terminal() {
        let failure = Failure::usage("there is no terminal to ask for user and password").hint("say `-u USER --password-stdin`");
        return Err(failure.into());
    }
    spawn_blocking(move || {
        if secret {
            return rpassword::prompt_password(prompt).context("the terminal");
        }
        use std::io::Write as _;
        let mut terminal = std::io::stderr();
        terminal.write_all(prompt.as_bytes()).and_then(|()| terminal.flush())?;
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line)?;
        Ok(line.trim().to_owned())
    })
    .await?
}
