//! `sealift verify`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;
use serde::Serialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::trust_args::{Remote, WhereArgs, annotations};
use super::{CommandContext, ImageArg, RegistryArgs};
use crate::image::{Blob, Digest, Reference};
use crate::store::Store;
use crate::trust::{Pattern, PublicKey, SignatureRequirements, VerifiedSignature, attested, is_signature, verify};

/// Verify the signatures of an image
///
/// Accepts signatures that sealift or cosign made with a key, in both of cosign's formats. An image in the store is verified offline, any other in its registry.
/// Exits with code 6 if no signature is valid. Also lists what is attached to the image, such as SBOMs and
/// attestations: it is no signature, and the signature does not cover it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift verify shop:1.0 --key cosign.pub\n  sealift verify shop:1.0 --key old.pub --key new.pub -a release=1.0"
)]
pub struct Args {
    /// The image: its name, or its digest in the store
    #[arg(add = super::complete::images())]
    name: ImageArg,
    /// A public key in PEM; one of several must have signed
    #[arg(long, value_name = "FILE", required = true)]
    key: Vec<PathBuf>,
    /// Require this annotation in the signature
    #[arg(short, long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// The image must have been signed as this: a full name without tag; `*` stands for a part of it, `**` for several [default: any]
    #[arg(long, value_name = "NAME")]
    signed_as: Option<Pattern>,
    #[command(flatten)]
    place: WhereArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (keys, annotations) = (PublicKey::read_all(&args.key)?, annotations(&args.annotations)?);
    let requirements = SignatureRequirements { keys, annotations, signed_as: args.signed_as };
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let name = args.name.in_store(&store)?;
    let local = if args.place.remote { None } else { store.resolve(&name)? };
    let (store, image, _remote) = match local {
        Some(image) => (store, image, None),
        None => {
            let remote = Remote::fetch(&args.registry.client()?, &name, cmd).await?;
            (remote.store.clone(), remote.image.clone(), Some(remote))
        }
    };
    let digest = Blob::try_from(&image)?.digest;
    let (signed, attached) = spawn_blocking(move || anyhow::Ok((verify(&store, &digest, &requirements)?, attached(&store, &digest)?)))
        .await?
        .with_context(|| name.familiar())?;
    let answer = json!({ "image": digest, "signatures": signed, "attached": attached });
    cmd.console.answer(&answer, || {
        let kind = |one: &Attached| match &one.predicate_type {
            Some(predicate) => format!("attestation {predicate}"),
            None => one.artifact_type.clone(),
        };
        let attached = attached.iter().map(|one| format!("  attached: {} ({})\n", kind(one), one.digest));
        signed.iter().map(|signed| signature_line(&name, &digest, signed)).chain(attached).collect()
    })
}

/// A manifest that refers to an image and is no signature.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Attached {
    artifact_type: String,
    digest: String,
    /// Of an attestation: what kind of statement it makes.
    #[serde(skip_serializing_if = "Option::is_none")]
    predicate_type: Option<String>,
}

fn attached(store: &Store, image: &Digest) -> Result<Vec<Attached>> {
    let documents = store.referrers(image)?.into_iter().filter(|one| !is_signature(store, one));
    let attached = |one: Descriptor| Attached {
        artifact_type: one.artifact_type().as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
        digest: one.digest().to_string(),
        predicate_type: attested(store, &one),
    };
    Ok(documents.map(attached).collect())
}

/// A signature in one line, with the name that was signed, if that is another.
fn signature_line(name: &Reference, digest: &Digest, signed: &VerifiedSignature) -> String {
    let own = format!("{}/{}", name.registry(), name.repository());
    let signed_as = signed.signed_as.as_ref().filter(|signed_as| **signed_as != own);
    let signed_as = signed_as.map_or_else(String::new, |signed_as| format!(", as {signed_as}"));
    format!("{} ({digest}) is signed by {}{signed_as}\n", name.familiar(), signed.key)
}
