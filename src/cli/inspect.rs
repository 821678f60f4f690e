//! `sealift inspect`

use std::path::PathBuf;

use anyhow::Result;
use oci_spec::image::Descriptor;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{CommandContext, bytes, table};
use crate::image::{ClusterConfig, ClusterKind, Digest, Reference, platform_string, subject_of};
use crate::layer::{self, Listing, Source};
use crate::store::{InspectedImage, Store};
use crate::workloads::workloads_of;

/// Show what an image consists of
///
/// Its platforms, layers, cluster config and container images, and what refers to it. Reads cluster images, images made by Sealer, and others.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in the store
    name: Reference,
    /// Only the layers of its root file system
    #[arg(long, group = "only")]
    layers: bool,
    /// Only the files of its root file system, as they are after all layers, with the digests of their bytes
    #[arg(long, group = "only")]
    files: bool,
    /// Only its container images; those of an image made by Sealer are looked for in its layers
    #[arg(long, group = "only")]
    workloads: bool,
    /// With one of those, of an image for several platforms, this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", requires = "only")]
    platform: Option<String>,
}

/// An image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Image {
    name: Reference,
    digest: String,
    media_type: String,
    /// Bytes of all it reaches.
    size: u64,
    parts: Vec<Part>,
    /// What refers to it or to something in it: signatures, bills of materials.
    referrers: Vec<Referrer>,
}

/// A document about an image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    artifact_type: Option<String>,
    digest: String,
    subject: Option<Digest>,
}

/// An image for one platform.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    platform: String,
    digest: String,
    created: Option<String>,
    layers: Vec<Layer>,
    env: Vec<String>,
    cluster: Option<ClusterConfig>,
    workloads: Vec<Workload>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    digest: String,
    media_type: String,
    size: u64,
    diff_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Workload {
    name: Reference,
    digest: String,
    app: Option<String>,
    size: u64,
}

/// Shows the image.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    if args.files {
        return files(args, store, cmd).await;
    }
    if args.layers || args.workloads {
        let only_layers = args.layers;
        let part = spawn_blocking(move || {
            let _in_use = store.lock_shared()?;
            let mut surveyed = store.part(&args.name, args.platform.as_deref())?;
            if !only_layers {
                surveyed.workloads = workloads_of(&store, &surveyed)?;
            }
            anyhow::Ok(part(surveyed))
        })
        .await??;
        return match only_layers {
            true => cmd.console.answer(&part.layers, || table(&LAYERS, &part.layers.iter().map(layer_row).collect::<Vec<_>>())),
            false => {
                cmd.console.answer(&part.workloads, || table(&WORKLOADS, &part.workloads.iter().map(workload_row).collect::<Vec<_>>()))
            }
        };
    }
    let image = spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let descriptor = store.find(&args.name)?;
        gather(&store, args.name, &descriptor)
    })
    .await??;
    cmd.console.answer(&image, || describe(&image))
}

/// A path of an image.
#[derive(Debug, Serialize)]
struct File {
    path: PathBuf,
    #[serde(flatten)]
    what: What,
    mode: String,
    uid: u64,
    gid: u64,
}

/// What is at a path.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
enum What {
    Directory,
    File { size: u64, digest: Option<Digest> },
    Link { target: PathBuf },
}

async fn files(args: Args, store: Store, cmd: &CommandContext) -> Result<()> {
    let ctx = cmd.ctx.clone();
    let files: Vec<File> = spawn_blocking(move || -> Result<_> {
        let _in_use = store.lock_shared()?;
        let part = store.part(&args.name, args.platform.as_deref())?;
        Ok(layer::listing(&store, &layer::layers_of(&store, &part.manifest)?, &ctx)?.into_iter().map(file).collect())
    })
    .await??;
    cmd.console.answer(&files, || {
        let row = |file: &File| {
            let (size, what) = match &file.what {
                What::Directory => (String::from("-"), "directory".to_owned()),
                What::File { size, digest } => (size.to_string(), digest.map(|digest| digest.short()).unwrap_or_default()),
                What::Link { target } => (String::from("-"), format!("-> {}", target.display())),
            };
            vec![file.mode.clone(), format!("{}:{}", file.uid, file.gid), size, file.path.display().to_string(), what]
        };
        table(&["MODE", "OWNER", "SIZE", "PATH", "CONTENT"], &files.iter().map(row).collect::<Vec<_>>())
    })
}

fn file((path, Listing { entry, digest }): (PathBuf, Listing)) -> File {
    let size = entry.size();
    let what = match entry.source {
        Source::Directory | Source::OpaqueDirectory => What::Directory,
        Source::Symlink(target) => What::Link { target },
        _ => What::File { size, digest },
    };
    File { path, what, mode: format!("{:04o}", entry.mode), uid: entry.uid, gid: entry.gid }
}

const LAYERS: [&str; 3] = ["DIGEST", "SIZE", "TYPE"];
const WORKLOADS: [&str; 4] = ["NAME", "DIGEST", "SIZE", "APP"];

fn layer_row(layer: &Layer) -> Vec<String> {
    vec![layer.digest.clone(), bytes(layer.size), layer.media_type.rsplit('.').next().unwrap_or_default().to_owned()]
}

fn workload_row(workload: &Workload) -> Vec<String> {
    vec![workload.name.familiar(), short(&workload.digest), bytes(workload.size), workload.app.clone().unwrap_or_default()]
}

fn gather(store: &Store, name: Reference, descriptor: &Descriptor) -> Result<Image> {
    Ok(Image {
        name,
        digest: descriptor.digest().to_string(),
        media_type: descriptor.media_type().to_string(),
        size: store.size_below(descriptor)?,
        parts: store.inspect(descriptor)?.into_iter().map(part).collect(),
        referrers: store.referrers_below(descriptor)?.iter().map(|one| referrer(store, one)).collect::<Result<_>>()?,
    })
}

fn referrer(store: &Store, document: &Descriptor) -> Result<Referrer> {
    Ok(Referrer {
        artifact_type: document.artifact_type().as_ref().map(ToString::to_string),
        digest: document.digest().to_string(),
        subject: subject_of(&store.document(document)?)?,
    })
}

fn part(surveyed: InspectedImage) -> Part {
    let config = surveyed.config.as_ref();
    let diff_ids = config.map(|config| config.rootfs().diff_ids().clone()).unwrap_or_default();
    let layer = |(number, layer): (usize, &Descriptor)| Layer {
        digest: layer.digest().to_string(),
        media_type: layer.media_type().to_string(),
        size: layer.size(),
        diff_id: diff_ids.get(number).map(ToString::to_string),
    };
    let workload = |workload: &crate::store::Workload| Workload {
        name: workload.name.clone(),
        digest: workload.descriptor.digest().to_string(),
        app: workload.app.clone(),
        size: workload.size,
    };
    Part {
        platform: platform_string(&surveyed.platform),
        digest: surveyed.rootfs.digest().to_string(),
        created: config.and_then(|config| config.created().clone()),
        layers: surveyed.manifest.layers().iter().enumerate().map(layer).collect(),
        env: config.and_then(|config| config.config().as_ref()?.env().clone()).unwrap_or_default(),
        workloads: surveyed.workloads.iter().map(workload).collect(),
        cluster: surveyed.cluster,
    }
}

fn describe(image: &Image) -> String {
    let mut text = format!("Name:    {}\nDigest:  {}\nSize:    {}\n", image.name.familiar(), image.digest, bytes(image.size));
    for part in &image.parts {
        text += &format!("\nPlatform {}\n", part.platform);
        text += &format!("  Rootfs:   {}\n", part.digest);
        text += &part.created.as_ref().map(|created| format!("  Created:  {created}\n")).unwrap_or_default();
        text += &part.cluster.as_ref().map_or_else(|| "  Kind:     container image\n".to_owned(), describe_cluster);
        text += &section("Layers", &LAYERS, part.layers.iter().map(layer_row));
        text += &section("Container images", &WORKLOADS, part.workloads.iter().map(workload_row));
    }
    let about = |subject: &Digest| if subject.to_string() == image.digest { "the image".to_owned() } else { subject.short() };
    let row = |one: &Referrer| {
        let kind = one.artifact_type.as_deref().unwrap_or("-").to_owned();
        vec![kind, short(&one.digest), one.subject.as_ref().map(about).unwrap_or_default()]
    };
    let referrers = section("Refer to it", &["TYPE", "DIGEST", "ABOUT"], image.referrers.iter().map(row));
    if referrers.is_empty() { text } else { text + "\n" + &referrers }
}

fn describe_cluster(cluster: &ClusterConfig) -> String {
    let kind = match cluster.kind {
        ClusterKind::KubeInstaller => "cluster image",
        ClusterKind::AppInstaller => "application image",
    };
    let mut text = format!("  Kind:     {kind}\n");
    let runtime = serde_json::to_value(cluster.runtime).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    text += &format!("  Runtime:  {runtime} {}\n", cluster.runtime_version.as_deref().unwrap_or_default()).replace(" \n", "\n");
    for (key, value) in &cluster.labels {
        text += &format!("  Label:    {key}={value}\n");
    }
    for (key, value) in &cluster.env {
        text += &format!("  Env:      {key}={value}\n");
    }
    for command in &cluster.launch.cmds {
        text += &format!("  Command:  {command}\n");
    }
    if !cluster.launch.apps.is_empty() {
        text += &format!("  Launch:   {}\n", cluster.launch.apps.join(", "));
    }
    let word = |value: Option<serde_json::Value>| value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    text + &section(
        "Apps",
        &["NAME", "TYPE", "ROLE", "FILES"],
        cluster.apps.iter().map(|app| {
            let role = app.role.and_then(|role| serde_json::to_value(role).ok());
            vec![app.name.clone(), word(serde_json::to_value(app.kind).ok()), word(role), app.files.join(" ")]
        }),
    )
}

/// A headed table, indented; nothing without rows.
fn section(title: &str, header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let rows: Vec<Vec<String>> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    let lines: String = table(header, &rows).lines().map(|line| format!("    {line}\n")).collect();
    format!("  {title}\n{lines}")
}

fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}
