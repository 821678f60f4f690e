//! `sealift sign`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;
use serde::Serialize;
use serde_json::json;
use tokio::task::spawn_blocking;

use super::trust_args::{PasswordArgs, Remote, WhereArgs, annotations};
use super::{CommandContext, ImageArg, RegistryArgs};
use crate::error::Failure;
use crate::image::Reference;
use crate::store::Store;
use crate::trust::{self, Format, PrivateKey, platform_manifests, push_referrers};

/// Sign an image
///
/// The signature has one of cosign's formats: `cosign verify --key` accepts it. It is attached to the image in the store, and goes with
/// it through push, pull, save and load. An image that is not in the store is signed in its registry.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift sign shop:1.0 --key cosign.key\n  sealift sign shop:1.0 --key cosign.key -a release=1.0\n  sealift sign registry.example.com/shop:1.0 --remote --key cosign.key"
)]
pub struct Args {
    /// The image: its name, or its digest in the store
    #[arg(add = super::complete::images())]
    name: ImageArg,
    /// The private key: cosign's, or PKCS#8 or EC in PEM
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Sign this annotation too
    #[arg(short, long = "annotation", value_name = "KEY=VALUE")]
    annotations: Vec<String>,
    /// The format: `simple` for cosign of every version, podman and CRI-O, `bundle` as cosign makes it since 3.0
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    format: FormatArg,
    /// Also sign each manifest of the image, for tools that verify only their platform's, as podman and CRI-O do
    #[arg(short, long)]
    recursive: bool,
    #[command(flatten)]
    place: WhereArgs,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// The formats by their names.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum FormatArg {
    #[default]
    Simple,
    Bundle,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Format {
        match format {
            FormatArg::Simple => Format::Simple,
            FormatArg::Bundle => Format::Bundle,
        }
    }
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let annotations = annotations(&args.annotations)?;
    let signer = Signer { key: read_key(&args.key, &args.password).await?, annotations, format: args.format.into() };
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let name = args.name.only_name_in_store(&store)?;
    let local = if args.place.remote { None } else { store.resolve(&name)? };
    let (image, signed) = match local {
        Some(image) => {
            let signed = sign(&store, &name, args.recursive, &image, signer).await?;
            (image, signed)
        }
        None => {
            let client = args.registry.client()?;
            let remote = Remote::fetch(&client, &name, cmd).await?;
            if args.recursive {
                remote.fetch_index(&client, &name, cmd).await?;
            }
            let signed = sign(&remote.store, &name, args.recursive, &remote.image, signer).await?;
            push_referrers(&client, &remote.image, &name, &remote.store, &cmd.ctx).await?;
            (remote.image, signed)
        }
    };
    cmd.ctx.note(format!("signed {} ({})", name.familiar(), image.digest()));
    let (signatures, manifests) = signed.split_first().context("the image is signed first")?;
    let mut answer = json!({ "image": image.digest(), "signatures": signatures.signatures });
    if args.recursive {
        answer["manifests"] = json!(manifests);
    }
    cmd.console.answer(&answer, || signed.iter().map(|one| format!("{}\n", one.signatures)).collect())
}

/// What was signed, and the manifest with its signatures.
#[derive(Debug, Serialize)]
struct Done {
    image: String,
    signatures: String,
}

/// How an image is signed.
struct Signer {
    key: PrivateKey,
    annotations: BTreeMap<String, String>,
    format: Format,
}

/// Signs the image, and with `--recursive` its manifests.
async fn sign(store: &Store, name: &Reference, recursive: bool, image: &Descriptor, signer: Signer) -> Result<Vec<Done>> {
    let (store, name, image) = (store.clone(), name.clone(), image.clone());
    spawn_blocking(move || {
        let manifests = if recursive { platform_manifests(&store, &image)? } else { Vec::new() };
        let sign = |one: &Descriptor| {
            let signatures = trust::sign(&store, &name, one, &signer.key, &signer.annotations, signer.format)?;
            Ok(Done { image: one.digest().to_string(), signatures: signatures.digest().to_string() })
        };
        std::iter::once(&image).chain(&manifests).map(sign).collect()
    })
    .await?
}

async fn read_key(file: &Path, password: &PasswordArgs) -> Result<PrivateKey> {
    let pem = fs_err::read_to_string(file).map_err(|error| Failure::usage(error.to_string()))?;
    let password = if PrivateKey::is_encrypted(&pem) { Some(password.password(false).await?) } else { None };
    let place = file.display().to_string();
    spawn_blocking(move || PrivateKey::from_pem(&pem, password.as_ref())).await?.context(place)
}
