//! The options of commands that sign, verify, or obey the trust policy.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;
use secrecy::SecretString;
use tokio::task::spawn_blocking;

use super::CommandContext;
use crate::error::Failure;
use crate::image::{Blob, Reference};
use crate::registry::client::Client;
use crate::store::Store;
use crate::trust::{Policy, pull_referrers};

/// Where the policy of a machine is, unless told otherwise.
const POLICY_FILE: &str = "/etc/sealift/trust.yaml";

/// Which images may be used.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PolicyArgs {
    /// The file that says which images must be signed, and by whom [default: /etc/sealift/trust.yaml, if there is one]
    #[arg(long, value_name = "FILE", env = "SEALIFT_TRUST_POLICY", help_heading = "Registry options")]
    trust_policy: Option<PathBuf>,
}

impl PolicyArgs {
    /// The policy; without a file nothing must be signed.
    pub fn policy(&self) -> Result<Policy> {
        match &self.trust_policy {
            Some(file) => Policy::read(file),
            None if Path::new(POLICY_FILE).exists() => Policy::read(Path::new(POLICY_FILE)),
            None => Ok(Policy::default()),
        }
    }

    /// Refuses an image that the policy does not trust.
    pub async fn check(&self, store: &Store, name: &Reference, image: &Descriptor, cmd: &CommandContext) -> Result<()> {
        let (policy, digest) = (self.policy()?, Blob::try_from(image)?.digest);
        let (store, name, ctx) = (store.clone(), name.clone(), cmd.ctx.clone());
        spawn_blocking(move || policy.check(&store, &name, &digest, &ctx)).await?
    }
}

/// Where an image to sign or to verify is.
#[derive(Debug, Clone, clap::Args)]
pub struct WhereArgs {
    /// Look in the registry, also when the store has the image [default: in the store first]
    #[arg(long)]
    pub remote: bool,
}

/// Where the password of a private key comes from.
#[derive(Debug, Clone, clap::Args)]
pub struct PasswordArgs {
    /// The file with the key's password [default: $COSIGN_PASSWORD, else it is asked for]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password; asked for twice when it is a new one.
    pub async fn password(&self, new: bool) -> Result<SecretString> {
        if let Some(file) = &self.password_file {
            let text = fs_err::read_to_string(file).map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(text.trim_end_matches(['\r', '\n']).into());
        }
        if let Some(text) = std::env::var_os("COSIGN_PASSWORD") {
            let text = text.into_string().map_err(|_| Failure::usage("COSIGN_PASSWORD is no text"))?;
            return Ok(text.into());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage("there is no terminal to ask for the key's password")
                .hint("set COSIGN_PASSWORD, or name a file with `--password-file`")
                .into());
        }
        spawn_blocking(move || ask(new)).await?
    }
}

fn ask(new: bool) -> Result<SecretString> {
    let password = rpassword::prompt_password("password of the private key: ").context("the terminal")?;
    if new && rpassword::prompt_password("once more: ").context("the terminal")? != password {
        return Err(Failure::usage("these were two passwords").into());
    }
    Ok(password.into())
}

/// `KEY=VALUE` arguments as a map.
pub fn annotations(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    let split = |pair: &String| {
        let (key, value) = pair.split_once('=').with_context(|| Failure::usage(format!("`{pair}` is not KEY=VALUE")))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    pairs.iter().map(split).collect()
}

/// An image in a registry, with a store of its own for what refers to it.
pub struct Remote {
    /// The image's descriptor.
    pub image: Descriptor,
    /// The store: signatures are in it, the image is not.
    pub store: Store,
    _dir: tempfile::TempDir,
}

impl Remote {
    /// Looks the image up and fetches what refers to it.
    pub async fn fetch(client: &Client, name: &Reference, cmd: &CommandContext) -> Result<Remote> {
        let missing = || Failure::failed(format!("no such image: {} (not in {}: 404)", name.familiar(), name.registry()));
        let image = client.resolve(name, &cmd.ctx).await?.with_context(missing)?;
        let dir = tempfile::tempdir().context("a directory for signatures")?;
        let store = Store::open(dir.path())?;
        pull_referrers(client, &image, name, &store, &cmd.ctx).await?;
        Ok(Remote { image, store, _dir: dir })
    }

    /// Brings the image's own document, so that what it names is known.
    pub async fn bring_index(&self, client: &Client, name: &Reference, cmd: &CommandContext) -> Result<()> {
        let exact = name.with_digest(Blob::try_from(&self.image)?.digest);
        let (_, bytes) = client.manifest(&exact, &cmd.ctx).await?.with_context(|| format!("{exact} is not there any more"))?;
        self.store.put(&bytes)?;
        Ok(())
    }
}
