//! `sealift verify`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::trust_args::{Remote, WhereArgs, annotations};
use super::{Context, RegistryArgs};
use crate::image::{Blob, Name};
use crate::trust::{PublicKey, verify};

/// Verify that an image is signed
///
/// With the signatures that sealift or cosign made with a key. An image in the store is verified without a network; another in its
/// registry. Exit code 6 if no signature holds.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image
    name: Name,
    /// A public key in PEM; of several, one must have signed
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// The signer must have said this
    #[arg(short, long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    #[command(flatten)]
    place: WhereArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the command.
pub async fn run(args: Args, context: &Context) -> Result<()> {
    let annotations = annotations(&args.annotations)?;
    let keys = PublicKey::read_all(&args.key)?;
    let store = context.store()?;
    let _in_use = store.in_use()?;
    let local = if args.place.remote { None } else { store.resolve(&args.name)? };
    let (store, image, _remote) = match local {
        Some(image) => (store, image, None),
        None => {
            let remote = Remote::fetch(&args.registry.client()?, &args.name, context).await?;
            (remote.store.clone(), remote.image.clone(), Some(remote))
        }
    };
    let digest = Blob::try_from(&image)?.digest;
    let signed = spawn_blocking(move || verify(&store, &digest, &keys, &annotations)).await?.with_context(|| args.name.familiar())?;
    let answer = json!({ "image": digest, "signatures": signed });
    context.console.answer(&answer, || {
        signed.iter().map(|signed| format!("{} ({digest}) is signed by {}\n", args.name.familiar(), signed.key)).collect()
    })
}
