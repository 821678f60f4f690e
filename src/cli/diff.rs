//! `sealift diff`

use anyhow::Result;
use tokio::task::spawn_blocking;

use super::cluster_args::AccessArgs;
use super::{CommandContext, ImageArg, bytes};
use crate::cluster::{Revision, RevisionDifference};
use crate::diff::{Change, Difference, Kind, Side, compare};
use crate::error::Failure;

/// Show what changed between two images, or revisions of a cluster
///
/// Of images: files, apps and container images, and how many bytes someone who has the first image needs for the second. Of revisions,
/// `CLUSTER@NUMBER` or `CLUSTER@last`: images, hosts, lines of the Clusterfile, rendered settings. `sealift history CLUSTER` lists them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift diff shop:1.0 shop:1.1\n  sealift diff shop:1.0 shop:1.1 -o json\n  sealift diff shop@3 shop@last"
)]
pub struct Args {
    /// The old image in the store, by name or digest, or the old revision
    #[arg(value_name = "BEFORE", add = super::complete::images())]
    before: Subject,
    /// The new image, or the new revision
    #[arg(value_name = "AFTER", add = super::complete::images())]
    after: Subject,
    /// The platform, of images for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// How the hosts are reached.
    #[command(flatten)]
    access: AccessArgs,
}

/// What is compared.
#[derive(Debug, Clone)]
enum Subject {
    Image(ImageArg),
    /// A revision of a cluster; without a number the newest.
    Revision(String, Option<u64>),
}

impl std::str::FromStr for Subject {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.rsplit_once('@') {
            Some((cluster, "last")) => Ok(Subject::Revision(cluster.to_owned(), None)),
            Some((cluster, number)) if number.parse::<u64>().is_ok() => Ok(Subject::Revision(cluster.to_owned(), number.parse().ok())),
            _ => Ok(Subject::Image(text.parse()?)),
        }
    }
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    match (args.before, args.after) {
        (Subject::Image(before), Subject::Image(after)) => of_images(before, after, args.platform, cmd).await,
        (Subject::Revision(cluster, before), Subject::Revision(other, after)) if cluster == other => {
            let revisions = super::history::revisions_of(&cluster, &args.access, cmd).await?;
            let difference = RevisionDifference::new(find(&revisions, &cluster, before)?, find(&revisions, &cluster, after)?);
            cmd.console.answer(&difference, || describe_revisions(&difference))
        }
        _ => Err(Failure::usage("two images, or two revisions of one cluster, are compared")
            .hint("for example `sealift diff shop:1.0 shop:1.1`, or `sealift diff shop@3 shop@5`")
            .into()),
    }
}

/// The revision with this number; without one, the newest.
fn find<'a>(revisions: &'a [Revision], cluster: &str, number: Option<u64>) -> Result<&'a Revision> {
    let found = match number {
        Some(number) => revisions.iter().find(|revision| revision.number == number),
        None => revisions.last(),
    };
    found.ok_or_else(|| {
        let number = number.map_or_else(|| "last".to_owned(), |number| number.to_string());
        let known = revisions.iter().map(|revision| revision.number.to_string()).collect::<Vec<_>>().join(", ");
        let hint = if known.is_empty() {
            "there is none yet: runs that change something make them".to_owned()
        } else {
            format!("there are {known}")
        };
        Failure::usage(format!("no such revision: {cluster}@{number}")).hint(hint).into()
    })
}

fn describe_revisions(difference: &RevisionDifference) -> String {
    if difference.is_empty() {
        return format!("no difference between revisions {} and {}\n", difference.before, difference.after);
    }
    let short = |text: &Option<String>| {
        text.as_ref().map(|text| text.strip_prefix("sha256:").map_or(text.as_str(), |hex| &hex[..hex.len().min(12)]).to_owned())
    };
    let mut text = String::new();
    for (title, list) in [("Images", &difference.images), ("Hosts", &difference.hosts), ("Settings", &difference.settings)] {
        if !list.is_empty() {
            text += &format!("{title}\n");
        }
        for item in list {
            text += &match (short(&item.before), short(&item.after)) {
                (Some(before), Some(after)) => format!("  ~ {}  {before}  =>  {after}\n", item.what),
                (None, Some(after)) => format!("  + {}  {after}\n", item.what).replace("  \n", "\n"),
                (before, None) => format!("  - {}  {}\n", item.what, before.unwrap_or_default()).replace("  \n", "\n"),
            };
        }
    }
    if !difference.clusterfile.is_empty() {
        text += "Clusterfile\n";
    }
    for line in &difference.clusterfile {
        let (sign, line) = line.before.as_ref().map_or_else(|| ('+', line.after.as_deref()), |before| ('-', Some(before.as_str())));
        text += &format!("  {sign} {}\n", line.unwrap_or_default());
    }
    text
}

async fn of_images(before: ImageArg, after: ImageArg, platform: Option<String>, cmd: &CommandContext) -> Result<()> {
    let (store, ctx) = (cmd.store()?, cmd.ctx.clone());
    let difference = spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        let (before, after) = (before.in_store(&store)?, after.in_store(&store)?);
        let part = |name| store.inspect_platform(name, platform.as_deref());
        let (old, new) = (part(&before)?, part(&after)?);
        let (before, after) = (store.find(&before)?, store.find(&after)?);
        compare(&store, &Side { root: &before, part: &old }, &Side { root: &after, part: &new }, &ctx)
    })
    .await??;
    cmd.console.answer(&difference, || describe(&difference))
}

fn describe(difference: &Difference) -> String {
    let mut text = String::new();
    for (title, changes) in [("Files", &difference.files), ("Apps", &difference.apps), ("Container images", &difference.workloads)] {
        if !changes.is_empty() {
            text += &format!("{title}\n{}", changes.iter().map(line).collect::<String>());
        }
    }
    let (missing, total) = (difference.to_transfer, difference.total);
    text + &format!("To move: {} of {} blobs, {} of {}\n", missing.blobs, total.blobs, bytes(missing.bytes), bytes(total.bytes))
}

fn line(change: &Change) -> String {
    let name = &change.name;
    match &change.kind {
        Kind::Added { after } => format!("  + {name}  {after}\n"),
        Kind::Removed { before } => format!("  - {name}  {before}\n"),
        Kind::Changed { before, after } => format!("  ~ {name}  {before}  =>  {after}\n"),
    }
}
