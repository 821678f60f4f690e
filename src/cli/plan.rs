//! `sealift plan`

use std::path::PathBuf;

use anyhow::Result;

use super::session::{SessionArgs, plan, require_reachable};
use super::{CommandContext, ImageArg, count};
use crate::atomic_file;
use crate::error::{Failure, Kind};

/// Show what `run` or `apply` would change
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift plan -f Clusterfile\n  sealift plan shop:1.1 --name shop\n  sealift plan -f Clusterfile --exit-code --out plan.json"
)]
pub struct Args {
    /// The image: a name or digest in the store, or a name in a registry
    #[arg(add = super::complete::images())]
    image: Option<ImageArg>,
    #[command(flatten)]
    session: SessionArgs,
    /// Also write the plan to this file, as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Exit with code 5 if there is something to change
    #[arg(long)]
    exit_code: bool,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let store = cmd.store()?;
    let clusterfile = args.session.clusterfile_with(args.image.as_ref(), &store, cmd).await?;
    let plan = plan(&args.session, clusterfile, cmd).await?;
    if let Some(file) = &args.out {
        atomic_file::write(file, &serde_json::to_vec_pretty(&plan)?, 0o644)?;
    }
    cmd.console.answer(&plan, || plan.text())?;
    require_reachable(&plan.unreachable)?;
    match plan.changes() {
        changes if changes > 0 && args.exit_code => {
            Err(Failure::new(Kind::PlanHasChanges, format!("the plan has {}", count(changes, "change")))
                .hint("`sealift apply` makes them")
                .into())
        }
        _ => Ok(()),
    }
}
