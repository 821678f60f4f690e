//! `sealift key`

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::CommandContext;
use super::trust_args::PasswordArgs;
use crate::atomic_file;
use crate::error::Failure;
use crate::trust::PrivateKey;

/// Generate keys to sign images with
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Generate(GenerateArgs),
}

/// Generate a key pair: PREFIX.key, encrypted with a password, and PREFIX.pub
///
/// The keys have cosign's format: ECDSA P-256 in PEM. Whoever has the private key and its password can sign; give the public key to
/// those who verify.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift key generate\n  sealift key generate --output-key-prefix release")]
struct GenerateArgs {
    /// The path of both files, without the extension
    #[arg(long, default_value = "cosign", value_name = "PREFIX")]
    output_key_prefix: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    password: PasswordArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let Command::Generate(args) = args.command;
    let [private, public] = ["key", "pub"].map(|extension| with_extension(&args.output_key_prefix, extension));
    for file in [&private, &public] {
        if file.exists() && !args.force {
            return Err(Failure::usage(format!("{} exists already", file.display()))
                .hint("name another file with `--output-key-prefix`; `--force` overwrites the key, which cannot be recovered")
                .into());
        }
    }
    let password = args.password.password(true).await?;
    let (private_file, public_file) = (private.clone(), public.clone());
    spawn_blocking(move || {
        let key = PrivateKey::generate();
        atomic_file::write(&private_file, key.to_encrypted_pem(&password)?.as_bytes(), 0o600)?;
        atomic_file::write(&public_file, key.public().to_pem()?.as_bytes(), 0o644)
    })
    .await??;
    let answer = json!({ "privateKey": private, "publicKey": public });
    cmd.console.answer(&answer, || format!("{}\n{}\n", private.display(), public.display()))
}

fn with_extension(prefix: &Path, extension: &str) -> PathBuf {
    let mut path = prefix.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}
