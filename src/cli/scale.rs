//! `sealift scale`

use anyhow::Result;

use super::CommandContext;
use super::recorded::{ReportArgs, recorded};
use super::session::{RunArgs, SessionArgs, plan, require_reachable};
use crate::error::Failure;

/// Add hosts to a cluster, remove them, or change their roles
///
/// `--masters` and `--nodes` say which hosts the cluster is to have; a role that is not named stays as it is. New hosts join; those that
/// are not listed any more are drained, leave etcd, and are cleaned; a host that is listed in the other role leaves and joins again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift scale shop --nodes 10.0.0.5-10.0.0.9\n  sealift scale shop --masters 10.0.0.2,10.0.0.3,10.0.0.4 --nodes 10.0.0.5 --yes\n  sealift scale shop --nodes 10.0.0.5 --dry-run\n  sealift scale shop --nodes 10.0.0.5 --forget"
)]
pub struct Args {
    /// The cluster, by name; needed where this machine knows several
    #[arg(value_name = "CLUSTER", conflicts_with_all = ["file", "name"], add = super::complete::clusters())]
    cluster: Option<String>,
    #[command(flatten)]
    session: SessionArgs,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let mut session = args.session.with_cluster(args.cluster);
    let (masters, nodes) = session.cluster.take_hosts();
    if masters.is_none() && nodes.is_none() {
        return Err(Failure::usage("which hosts is the cluster to have?")
            .hint("name them: `--masters ADDRESSES`, `--nodes ADDRESSES`")
            .into());
    }
    let clusterfile = session.clusterfile(None, cmd)?.scaled(masters.as_deref(), nodes.as_deref())?;
    if args.dry_run {
        let plan = plan(&session, clusterfile, cmd).await?;
        cmd.console.answer(&plan, || plan.text())?;
        return require_reachable(&plan.unreachable);
    }
    recorded("scale", &clusterfile, &args.report, cmd, async |cmd| {
        super::run::bring_up_and_report(&session, clusterfile.clone(), &args.run, |_| Ok(()), cmd).await
    })
    .await?;
    session.note_of_own_clusterfile(&clusterfile, cmd);
    Ok(())
}
