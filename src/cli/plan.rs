//! `sealift plan`

use std::path::PathBuf;

use anyhow::Result;

use super::CommandContext;
use super::session::SiteArgs;
use crate::atomic_file;
use crate::error::{Failure, Kind};

/// Say what `run` or `apply` would change, and change nothing
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, from the store or a registry
    image: Option<String>,
    #[command(flatten)]
    site: SiteArgs,
    /// Write the plan to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// End with code 5 if there is something to change
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.site.clusterfile(args.image.as_deref(), cmd)?;
    clusterfile.require_runnable()?;
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let image = args.site.image(&clusterfile, &store, cmd).await?;
    let site = args.site.open(clusterfile, image, cmd).await?;
    let plan = site.plan(&cmd.ctx).await;
    site.fleet.close().await;
    let plan = plan?;
    if let Some(file) = &args.out {
        atomic_file::write(file, &serde_json::to_vec_pretty(&plan)?, 0o644)?;
    }
    cmd.console.answer(&plan, || plan.text())?;
    match plan.changes() {
        changes if changes > 0 && args.exit_code => {
            Err(Failure::new(Kind::PlanHasChanges, format!("{changes} changes")).hint("`sealift apply` makes them").into())
        }
        _ => Ok(()),
    }
}
