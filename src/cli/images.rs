//! `sealift images`

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Serialize;

use super::{CommandContext, Table, bytes};
use crate::image::{Digest, Reference, platform_string};
use crate::store::Store;

/// List the images in the store
///
/// DIGEST can stand wherever an image is named. SIZE counts all blobs of an image, OWN those that no other image shares: what `rmi` and
/// `prune` would free. A narrow terminal shows fewer columns.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift images\n  sealift images shop\n  sealift images -q\n  sealift images -o json")]
pub struct Args {
    /// Print names only
    // has the id of the global option, whose place it takes in this command
    #[arg(id = "quiet", short, long)]
    names_only: bool,
    /// Only images with this in their name
    filter: Option<String>,
}

/// A name and its image.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: Reference,
    digest: String,
    /// `cluster`, `application` or `container`; none if the image cannot be read.
    kind: Option<&'static str>,
    platforms: Vec<String>,
    created: Option<String>,
    /// Bytes of all its blobs.
    size: u64,
    /// Bytes of the blobs that no other image has.
    own_size: u64,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Lists the images.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let rows = tokio::task::spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        rows(&store)
    })
    .await??;
    let selected: Vec<&Row> =
        rows.iter().filter(|row| args.filter.as_ref().is_none_or(|part| row.name.to_string().contains(part))).collect();
    if args.names_only {
        let names: Vec<&Reference> = selected.iter().map(|row| &row.name).collect();
        return cmd.console.answer(&names, || names.iter().map(|name| format!("{}\n", name.familiar())).collect());
    }
    selected.iter().filter_map(|row| Some((row, row.problem.as_ref()?))).for_each(|(row, problem)| {
        cmd.ctx.warn(format!("image {}: {problem}", row.name.familiar()));
    });
    cmd.console.answer(&selected, || cmd.console.table(&table(&selected)))
}

fn rows(store: &Store) -> Result<Vec<Row>> {
    let names = store.refs()?;
    let reached: Vec<Result<BTreeSet<Digest>>> = names.iter().map(|(_, descriptor)| store.reachable([descriptor])).collect();
    // two names of one image share it, but do not make each other's bytes shared
    let mut holders: BTreeMap<Digest, BTreeSet<String>> = BTreeMap::new();
    for ((_, descriptor), reached) in names.iter().zip(&reached) {
        for digest in reached.iter().flatten() {
            holders.entry(*digest).or_default().insert(descriptor.digest().to_string());
        }
    }
    let row = |((name, descriptor), reached): (&(Reference, _), &Result<BTreeSet<Digest>>)| row(store, name, descriptor, reached, &holders);
    Ok(names.iter().zip(&reached).map(row).collect())
}

fn row(
    store: &Store,
    name: &Reference,
    descriptor: &oci_spec::image::Descriptor,
    reached: &Result<BTreeSet<Digest>>,
    holders: &BTreeMap<Digest, BTreeSet<String>>,
) -> Row {
    let sum = |own: bool| {
        let counted = reached.iter().flatten().filter(|digest| !own || holders.get(digest).is_none_or(|images| images.len() == 1));
        counted.filter_map(|digest| store.size_of(digest)).sum()
    };
    let inspected = store.inspect(descriptor);
    let problem = reached.as_ref().err().or(inspected.as_ref().err()).map(|error| format!("{error:#}"));
    let parts = inspected.unwrap_or_default();
    let kind = parts.first().map(|part| match part.cluster.as_ref().map(|cluster| cluster.kind) {
        Some(crate::image::ClusterKind::KubeInstaller) => "cluster",
        Some(crate::image::ClusterKind::AppInstaller) => "application",
        None => "container",
    });
    Row {
        name: name.clone(),
        digest: descriptor.digest().to_string(),
        kind,
        platforms: parts.iter().map(|part| platform_string(&part.platform)).collect(),
        created: parts.iter().filter_map(|part| part.config.as_ref()?.created().clone()).max(),
        size: sum(false),
        own_size: sum(true),
        problem,
    }
}

/// The day of a time of creation; `-` for the beginning of Unix time, which reproducible images have.
fn day(created: &str) -> &str {
    match created.get(..10).unwrap_or(created) {
        "1970-01-01" => "-",
        day => day,
    }
}

fn table(rows: &[&Row]) -> Table {
    let cells = rows.iter().map(|row| {
        let familiar = row.name.with_tag("-").familiar();
        vec![
            familiar.strip_suffix(":-").unwrap_or(&familiar).to_owned(),
            row.name.tag().unwrap_or("-").to_owned(),
            row.digest.strip_prefix("sha256:").unwrap_or(&row.digest).chars().take(12).collect(),
            if row.problem.is_some() { "damaged" } else { row.kind.unwrap_or("-") }.to_owned(),
            row.platforms.join(","),
            row.created.as_deref().map_or("-", day).to_owned(),
            bytes(row.size),
            bytes(row.own_size),
        ]
    });
    let header = ["REPOSITORY", "TAG", "DIGEST", "KIND", "PLATFORMS", "CREATED", "SIZE", "OWN"];
    Table::new(&header, cells).optional(&["CREATED", "PLATFORMS", "OWN"]).wrapped(&["REPOSITORY"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_unix_time_is_no_day_of_creation() {
        for (created, expected) in [("1970-01-01T00:00:00Z", "-"), ("2026-12-01T06:00:00Z", "2026-12-01"), ("x", "x")] {
            assert_eq!(day(created), expected);
        }
    }
}
