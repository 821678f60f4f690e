//! `sealift history`

use anyhow::Result;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{CommandContext, ImageArg, Table, bytes};
use crate::store::InspectedImage;

/// Show the build steps of an image, the newest first
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift history shop:1.0\n  sealift history shop:1.0 --platform linux/arm64")]
pub struct Args {
    /// The image in the store: its name or digest
    #[arg(add = super::complete::images())]
    name: ImageArg,
    /// The platform, of an image for several [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// A build step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    /// The digest of its layer, if it has one.
    layer: Option<String>,
    /// Compressed bytes of the layer.
    size: u64,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let part = spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        store.inspect_platform(&args.name.in_store(&store)?, args.platform.as_deref())
    })
    .await??;
    let steps = steps(&part);
    cmd.console.answer(&steps, || {
        let row = |step: &Step| {
            let by = step.created_by.as_deref().or(step.comment.as_deref()).unwrap_or("-").replace('\n', " ");
            let layer = step.layer.as_deref().map_or("-", |digest| digest.get(7..19).unwrap_or(digest));
            vec![layer.to_owned(), step.created.clone().unwrap_or_else(|| "-".into()), bytes(step.size), by]
        };
        let table = Table::new(&["LAYER", "CREATED", "SIZE", "CREATED BY"], steps.iter().map(row));
        cmd.console.table(&table.wrapped(&["CREATED BY"]))
    })
}

/// The newest first. Layers that the history does not mention are steps too.
fn steps(part: &InspectedImage) -> Vec<Step> {
    let history = part.config.as_ref().and_then(|config| config.history().clone()).unwrap_or_default();
    let mut layers = part.manifest.layers().iter();
    let mut steps: Vec<Step> = history
        .iter()
        .map(|entry| {
            let layer = if entry.empty_layer() == Some(true) { None } else { layers.next() };
            Step {
                created: entry.created().clone(),
                created_by: entry.created_by().clone(),
                comment: entry.comment().clone(),
                layer: layer.map(|layer| layer.digest().to_string()),
                size: layer.map_or(0, oci_spec::image::Descriptor::size),
            }
        })
        .collect();
    steps.extend(layers.map(|layer| Step {
        created: None,
        created_by: None,
        comment: None,
        layer: Some(layer.digest().to_string()),
        size: layer.size(),
    }));
    steps.reverse();
    steps
}
