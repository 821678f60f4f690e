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

/// The default place of the trust policy.
const POLICY_FILE: &str = "/etc/sealift/trust.yaml";

/// The trust policy: which images may be used.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct PolicyArgs {
    /// The trust policy: which images must be signed, and by whom [default: /etc/sealift/trust.yaml, if it exists]
    #[arg(long, value_name = "FILE", env = "SEALIFT_TRUST_POLICY", hide_env_values = true, help_heading = "Registry options")]
    trust_policy: Option<PathBuf>,
}

impl PolicyArgs {
    /// The policy; without a file, no image needs a signature.
    pub fn policy(&self) -> Result<Policy> {
        match &self.trust_policy {
            Some(file) => Policy::read(file),
            None => policy_in(Path::new(POLICY_FILE)),
        }
    }

    /// Refuses an image that the policy does not trust.
    pub async fn check(&self, store: &Store, name: &Reference, image: &Descriptor, cmd: &CommandContext) -> Result<()> {
        let (policy, digest) = (self.policy()?, Blob::try_from(image)?.digest);
        let (store, name, ctx) = (store.clone(), name.clone(), cmd.ctx.clone());
        spawn_blocking(move || policy.check(&store, &name, &digest, &ctx)).await?
    }
}

/// The policy in this file, if there is one. One that cannot be read is an error: it must not count as none.
fn policy_in(file: &Path) -> Result<Policy> {
    match std::fs::symlink_metadata(file) {
        Ok(_) => Policy::read(file),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Policy::default()),
        Err(error) => Err(Failure::usage(format!("cannot read the trust policy {}: {error}", file.display()))
            .hint("run the command as a user who may read it")
            .into()),
    }
}

/// Where an image to sign or to verify is.
#[derive(Debug, Clone, clap::Args)]
pub struct WhereArgs {
    /// Use the image in the registry even if the store has it
    #[arg(long)]
    pub remote: bool,
}

/// Where the password of a private key comes from.
#[derive(Debug, Clone, clap::Args)]
pub struct PasswordArgs {
    /// The file with the key's password [default: $COSIGN_PASSWORD, else prompt]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password; prompts for it, twice if it is new.
    pub async fn password(&self, new: bool) -> Result<SecretString> {
        if let Some(file) = &self.password_file {
            let text = fs_err::read_to_string(file).map_err(|error| Failure::usage(error.to_string()))?;
            return Ok(text.trim_end_matches(['\r', '\n']).into());
        }
        if let Some(text) = std::env::var_os("COSIGN_PASSWORD") {
            let text = text.into_string().map_err(|_| Failure::usage("COSIGN_PASSWORD is not UTF-8"))?;
            return Ok(text.into());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage("no terminal to prompt for the key's password")
                .hint("set COSIGN_PASSWORD, or name a file with `--password-file`")
                .into());
        }
        spawn_blocking(move || prompt(new)).await?
    }
}

fn prompt(new: bool) -> Result<SecretString> {
    let password = rpassword::prompt_password("password of the private key: ").context("the terminal")?;
    if new && rpassword::prompt_password("repeat the password: ").context("the terminal")? != password {
        return Err(Failure::usage("the passwords do not match").hint("run the command again").into());
    }
    Ok(password.into())
}

/// `KEY=VALUE` arguments as a map.
pub fn annotations(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    let split = |pair: &String| {
        let (key, value) = pair.split_once('=').with_context(|| Failure::usage(format!("annotation `{pair}`: expected KEY=VALUE")))?;
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
    /// Resolves the name and fetches what refers to the image.
    pub async fn fetch(client: &Client, name: &Reference, cmd: &CommandContext) -> Result<Remote> {
        let missing =
            || Failure::failed(format!("no such image: {} (not in {}: 404)", name.familiar(), name.registry())).hint("check the spelling");
        let image = client.resolve(name, &cmd.ctx).await?.with_context(missing)?;
        let dir = tempfile::tempdir().context("temporary directory for signatures")?;
        let store = Store::open(dir.path())?;
        pull_referrers(client, &image, name, &store, &cmd.ctx).await?;
        Ok(Remote { image, store, _dir: dir })
    }

    /// Fetches the image's index, for the manifests that it names.
    pub async fn fetch_index(&self, client: &Client, name: &Reference, cmd: &CommandContext) -> Result<()> {
        let exact = name.with_digest(Blob::try_from(&self.image)?.digest);
        let (_, bytes) = client.manifest(&exact, &cmd.ctx).await?.with_context(|| format!("{exact} was deleted meanwhile"))?;
        self.store.put(&bytes)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::error::{Kind, kind_of};

    #[test]
    fn only_a_policy_that_is_not_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("good"), "trust: off").unwrap();
        std::fs::write(at("file"), "").unwrap();
        std::fs::create_dir(at("directory")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        symlink("circle", at("circle")).unwrap();
        symlink("good", at("link")).unwrap();
        for (name, is_read) in [
            ("none", true),
            ("none/trust.yaml", true),
            ("good", true),
            ("link", true),
            ("dangling", false),
            ("circle", false),
            ("directory", false),
            ("file/trust.yaml", false),
        ] {
            match policy_in(&at(name)) {
                Ok(_) => assert!(is_read, "{name}"),
                Err(error) => assert!(!is_read && kind_of(&error) == Kind::Usage, "{name}: {error:#}"),
            }
        }
    }
}
