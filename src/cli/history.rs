//! `sealift history`

use anyhow::Result;
use serde::Serialize;
use tokio::task::spawn_blocking;

use super::{CommandContext, bytes, table};
use crate::image::Reference;
use crate::store::InspectedImage;

/// Show what an image was made by, the newest step first
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image in the store
    name: Reference,
    /// Of an image for several platforms, this one [default: this machine's]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
}

/// A step.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    created: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    /// The layer that it made, if it made one.
    layer: Option<String>,
    /// Its compressed bytes.
    size: u64,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let part = spawn_blocking(move || {
        let _in_use = store.lock_shared()?;
        store.part(&args.name, args.platform.as_deref())
    })
    .await??;
    let steps = steps(&part);
    cmd.console.answer(&steps, || {
        let row = |step: &Step| {
            let by = step.created_by.as_deref().or(step.comment.as_deref()).unwrap_or("-").replace('\n', " ");
            let layer = step.layer.as_deref().map_or("-", |digest| digest.get(7..19).unwrap_or(digest));
            vec![layer.to_owned(), step.created.clone().unwrap_or_else(|| "-".into()), bytes(step.size), by]
        };
        table(&["LAYER", "CREATED", "SIZE", "CREATED BY"], &steps.iter().map(row).collect::<Vec<_>>())
    })
}

/// The newest first. Layers that no step tells of are steps too.
fn steps(part: &InspectedImage) -> Vec<Step> {
    let told = part.config.as_ref().and_then(|config| config.history().clone()).unwrap_or_default();
    let mut layers = part.manifest.layers().iter();
    let mut steps: Vec<Step> = told
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
