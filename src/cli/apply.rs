//! `sealift apply`

use anyhow::Result;

use super::CommandContext;
use super::recorded::{ReportArgs, recorded};
use super::session::SessionArgs;

/// Make a cluster what its Clusterfile describes
///
/// Hosts that are new in the Clusterfile join, what drifted is repaired. On a cluster that is up to date it says "0 changes". Without a
/// Clusterfile, the one of the last run counts.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift apply -f Clusterfile\n  sealift apply shop\n  sealift apply -f Clusterfile --masters 10.0.0.2 --nodes 10.0.0.3-10.0.0.9"
)]
pub struct Args {
    /// The cluster, by name; needed where this machine knows several
    #[arg(value_name = "CLUSTER", conflicts_with_all = ["file", "name"], add = super::complete::clusters())]
    cluster: Option<String>,
    #[command(flatten)]
    session: SessionArgs,
    /// Accepted for scripts: `apply` asks no questions
    #[arg(short, long)]
    yes: bool,
    /// Take over the lease of another run on this cluster
    #[arg(long)]
    break_lease: bool,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let _ = args.yes;
    let session = args.session.with_cluster(args.cluster);
    let clusterfile = session.clusterfile(None, cmd)?;
    recorded("apply", &clusterfile, &args.report, cmd, async |cmd| {
        super::run::bring_up_and_report(&session, clusterfile.clone(), args.break_lease, cmd).await
    })
    .await
}
