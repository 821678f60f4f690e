//! `sealift apply`

use anyhow::Result;

use super::CommandContext;
use super::session::SiteArgs;

/// Bring a cluster to what its Clusterfile says
///
/// Without a Clusterfile it is the one that this machine knows. On a finished cluster it says "0 changes".
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    site: SiteArgs,
    /// Do not ask: accepted for scripts, nothing is asked today
    #[arg(short, long)]
    yes: bool,
    /// Take the cluster from another run that holds it
    #[arg(long)]
    break_lease: bool,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let _ = args.yes;
    let clusterfile = args.site.clusterfile(None, cmd)?;
    super::run::bring(&args.site, clusterfile, args.break_lease, cmd).await
}
