//! `sealift fsck`

use anyhow::{Result, bail};
use serde_json::json;

use super::Context;
use crate::error::Failure;

/// Check every blob of the store
///
/// Exit code 6 if something is wrong. What is wrong is listed with the images that suffer from it.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Checks the store.
pub async fn run(_: Args, context: &Context) -> Result<()> {
    let (store, job) = (context.store()?, context.job.clone());
    let _in_use = store.in_use()?;
    let problems = tokio::task::spawn_blocking(move || store.fsck(&job)).await??;
    context.console.answer(&json!({"problems": problems}), || {
        let line = |problem: &crate::store::Problem| {
            let images: Vec<_> = problem.images.iter().map(crate::image::Name::familiar).collect();
            if images.is_empty() { format!("{}\n", problem.what) } else { format!("{} ({})\n", problem.what, images.join(", ")) }
        };
        if problems.is_empty() { "the store is sound\n".to_owned() } else { problems.iter().map(line).collect() }
    })?;
    if problems.is_empty() {
        return Ok(());
    }
    bail!(
        Failure::verification(format!("the store has {} problem{}", problems.len(), if problems.len() == 1 { "" } else { "s" }))
            .hint("`sealift rmi` and `sealift pull` (or `load`, or `build`) the images named above")
    )
}
