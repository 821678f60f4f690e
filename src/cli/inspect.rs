//! `sealift inspect`

use std::path::PathBuf;

use anyhow::Result;
use oci_spec::image::Descriptor;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{CommandContext, Console, ImageArg, Table, bytes};
use crate::image::{ClusterConfig, ClusterKind, Digest, Reference, platform_string, subject_of};
use crate::layer::{self, ListedEntry, Source};
use crate::store::{InspectedImage, Store};
use crate::workloads::workloads_of;

/// Show an image: platforms, layers, apps, container images
///
/// Also shows its referrers: signatures and SBOMs. Reads cluster images, images made by Sealer, and any other OCI image.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift inspect shop:1.0\n  sealift inspect 3f2a9c1b8d7e --layers\n  sealift inspect shop:1.0 --files --platform linux/arm64\n  sealift inspect shop:1.0 --workloads -o json"
)]
pub struct Args {
    /// The image in the store: its name or digest
    #[arg(add = super::complete::images())]
    name: ImageArg,
    /// Only the layers of its root file system
    #[arg(long, group = "only")]
    layers: bool,
    /// Only the files of its root file system, with all layers applied, and their digests
    #[arg(long, group = "only")]
    files: bool,
    /// Only its container images; those of an image made by Sealer are found in its layers
    #[arg(long, group = "only")]
    workloads: bool,
    /// The platform, of an image for several; with one of the above [default: this machine's]
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
    /// Bytes of all its blobs.
    size: u64,
    parts: Vec<Part>,
    /// What refers to it or to one of its manifests: signatures, SBOMs.
    referrers: Vec<Referrer>,
}

/// A manifest that refers to an image, such as a signature.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Referrer {
    artifact_type: Option<String>,
    digest: String,
    subject: Option<Digest>,
}

/// The image of one platform.
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
            let mut inspected = store.inspect_platform(&args.name.in_store(&store)?, args.platform.as_deref())?;
            if !only_layers {
                inspected.workloads = workloads_of(&store, &inspected)?;
            }
            anyhow::Ok(part(inspected))
        })
        .await??;
        return match only_layers {
            true => cmd.console.answer(&part.layers, || cmd.console.table(&layer_table(&part.layers))),
            false => cmd.console.answer(&part.workloads, || cmd.console.table(&workload_table(&part.workloads))),
        };
    }
    let image = spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let name = args.name.in_store(&store)?;
        let descriptor = store.find(&name)?;
        gather(&store, name, &descriptor)
    })
    .await??;
    cmd.console.answer(&image, || describe(&image, &cmd.console))
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
        let part = store.inspect_platform(&args.name.in_store(&store)?, args.platform.as_deref())?;
        Ok(layer::list_files(&store, &layer::layers_of(&store, &part.manifest)?, &ctx)?.into_iter().map(file).collect())
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
        let table = Table::new(&["MODE", "OWNER", "SIZE", "PATH", "CONTENT"], files.iter().map(row));
        cmd.console.table(&table.wrapped(&["PATH", "CONTENT"]))
    })
}

fn file((path, ListedEntry { entry, digest }): (PathBuf, ListedEntry)) -> File {
    let size = entry.size();
    let what = match entry.source {
        Source::Directory | Source::OpaqueDirectory => What::Directory,
        Source::Symlink(target) => What::Link { target },
        _ => What::File { size, digest },
    };
    File { path, what, mode: format!("{:04o}", entry.mode), uid: entry.uid, gid: entry.gid }
}

fn layer_table(layers: &[Layer]) -> Table {
    Table::new(&["DIGEST", "SIZE", "TYPE"], layers.iter().map(layer_row)).wrapped(&["DIGEST"])
}

fn workload_table(workloads: &[Workload]) -> Table {
    Table::new(&["NAME", "DIGEST", "SIZE", "APP"], workloads.iter().map(workload_row)).wrapped(&["NAME", "APP"])
}

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
        size: store.total_size(descriptor)?,
        parts: store.inspect(descriptor)?.into_iter().map(part).collect(),
        referrers: store.referrers_recursive(descriptor)?.iter().map(|one| referrer(store, one)).collect::<Result<_>>()?,
    })
}

fn referrer(store: &Store, document: &Descriptor) -> Result<Referrer> {
    Ok(Referrer {
        artifact_type: document.artifact_type().as_ref().map(ToString::to_string),
        digest: document.digest().to_string(),
        subject: subject_of(&store.read_manifest(document)?)?,
    })
}

fn part(image: InspectedImage) -> Part {
    let config = image.config.as_ref();
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
        platform: platform_string(&image.platform),
        digest: image.rootfs.digest().to_string(),
        created: config.and_then(|config| config.created().clone()),
        layers: image.manifest.layers().iter().enumerate().map(layer).collect(),
        env: config.and_then(|config| config.config().as_ref()?.env().clone()).unwrap_or_default(),
        workloads: image.workloads.iter().map(workload).collect(),
        cluster: image.cluster,
    }
}

fn describe(image: &Image, console: &Console) -> String {
    let mut text = format!("Name:    {}\nDigest:  {}\nSize:    {}\n", image.name.familiar(), image.digest, bytes(image.size));
    for part in &image.parts {
        text += &format!("\nPlatform {}\n", part.platform);
        text += &format!("  Rootfs:   {}\n", part.digest);
        text += &part.created.as_ref().map(|created| format!("  Created:  {created}\n")).unwrap_or_default();
        text +=
            &part.cluster.as_ref().map_or_else(|| "  Kind:     container image\n".to_owned(), |cluster| describe_cluster(cluster, console));
        text += &section("Layers", part.layers.is_empty(), &layer_table(&part.layers), console);
        text += &section("Container images", part.workloads.is_empty(), &workload_table(&part.workloads), console);
    }
    let subject = |subject: &Digest| if subject.to_string() == image.digest { "the image".to_owned() } else { subject.short() };
    let row = |referrer: &Referrer| {
        let kind = referrer.artifact_type.as_deref().unwrap_or("-").to_owned();
        vec![kind, short(&referrer.digest), referrer.subject.as_ref().map(subject).unwrap_or_default()]
    };
    let table = Table::new(&["TYPE", "DIGEST", "SUBJECT"], image.referrers.iter().map(row)).wrapped(&["TYPE"]);
    let referrers = section("Referrers", image.referrers.is_empty(), &table, console);
    if referrers.is_empty() { text } else { text + "\n" + &referrers }
}

fn describe_cluster(cluster: &ClusterConfig, console: &Console) -> String {
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
    let row = |app: &crate::image::App| {
        let role = app.role.and_then(|role| serde_json::to_value(role).ok());
        vec![app.name.clone(), word(serde_json::to_value(app.kind).ok()), word(role), app.files.join(" ")]
    };
    let table = Table::new(&["NAME", "TYPE", "ROLE", "FILES"], cluster.apps.iter().map(row)).wrapped(&["FILES"]);
    text + &section("Apps", cluster.apps.is_empty(), &table, console)
}

/// A table under a title, indented; nothing if it is empty.
fn section(title: &str, is_empty: bool, table: &Table, console: &Console) -> String {
    if is_empty {
        return String::new();
    }
    let lines: String =
        table.render(console.width().map(|width| width.saturating_sub(4))).lines().map(|line| format!("    {line}\n")).collect();
    format!("  {title}\n{lines}")
}

fn short(digest: &str) -> String {
    digest.strip_prefix("sha256:").unwrap_or(digest).chars().take(12).collect()
}
