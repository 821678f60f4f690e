//! `sealift apply`

use anyhow::Result;

use super::CommandContext;
use super::recorded::{ReportArgs, recorded};
use super::session::{RunArgs, SessionArgs};

/// Make a cluster what its Clusterfile describes
///
/// Hosts that are new in the Clusterfile join, those that left it are drained, removed from the cluster and cleaned, what drifted is
/// repaired. On a cluster that is up to date it says "0 changes". Without a
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
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let session = args.session.with_cluster(args.cluster);
    let clusterfile = session.clusterfile(None, cmd)?;
    recorded("apply", &clusterfile, &args.report, cmd, async |cmd| {
        super::run::bring_up_and_report(&session, clusterfile.clone(), &args.run, |_| Ok(()), cmd).await
    })
    .await
}
