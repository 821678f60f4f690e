//! `sealift run`

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::recorded::{ReportArgs, recorded};
use super::session::{RunArgs, SessionArgs, bring_up, require_reachable};
use super::{CommandContext, ImageArg, count};
use crate::cluster::Session;
use crate::clusterfile::Clusterfile;

/// Bring up a cluster from an image
///
/// Connects to all hosts, checks them before anything is changed, sends what is missing, and brings the cluster up. Interrupted or
/// killed, the same command resumes; on a cluster that is up to date it changes nothing. An application image named for a cluster that
/// this machine knows is added to it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift run -f Clusterfile\n  sealift run shop:1.0 --masters 10.0.0.2 --nodes 10.0.0.3,10.0.0.4\n  sealift run shop:1.0 -m 10.0.0.2 --user ops --pk ~/.ssh/id_ed25519\n  sealift run shop:1.0 -m 10.0.0.2 --dry-run > Clusterfile\n  sealift run metrics:2.1 --name shop"
)]
pub struct Args {
    /// The image: a name or digest in the store, or a name in a registry
    #[arg(add = super::complete::images())]
    image: Option<ImageArg>,
    #[command(flatten)]
    session: SessionArgs,
    /// Print the resulting Clusterfile, and do nothing else
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    report: ReportArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.session.clusterfile_with(args.image.as_ref(), &cmd.store()?, cmd).await?;
    if args.dry_run {
        let text = clusterfile.to_yaml()?;
        return cmd.console.answer(&json!({ "clusterfile": text }), || text.clone());
    }
    recorded("run", &clusterfile, &args.report, cmd, async |cmd| {
        bring_up_and_report(&args.session, clusterfile.clone(), &args.run, |_| Ok(()), cmd).await
    })
    .await?;
    if args.image.is_some() && !args.session.cluster.names_hosts() {
        args.session.note_of_own_clusterfile(&clusterfile, cmd);
    }
    Ok(())
}

/// Brings up the cluster of a Clusterfile, and prints how many changes that took. `check` may refuse it before anything is changed.
pub async fn bring_up_and_report(
    args: &SessionArgs,
    clusterfile: Clusterfile,
    run: &RunArgs,
    check: impl FnOnce(&Session) -> Result<()>,
    cmd: &CommandContext,
) -> Result<()> {
    let began = Instant::now();
    clusterfile.require_runnable()?;
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let images = args.images(&clusterfile, &store, cmd).await?;
    let session = args.open(clusterfile, images, cmd).await?;
    let result = match check(&session) {
        Ok(()) => bring_up(&session, &store, run, cmd).await,
        Err(error) => Err(error),
    };
    let (name, hosts) = (session.desired.name().to_owned(), session.desired.hosts.iter().filter(|host| host.reachable).count());
    session.hosts.close().await;
    let (plan, done) = result?;
    if let Some(log) = &cmd.log {
        log.changed(done.len());
    }
    let seconds = began.elapsed().as_secs_f64();
    let changed = done.len();
    let answer = json!({
        "cluster": name, "hosts": hosts, "changes": changed, "seconds": seconds, "steps": done, "unreachable": plan.unreachable,
    });
    cmd.console.answer(&answer, || {
        format!("cluster {name} is up on {}: {} in {seconds:.1} s\n", count(hosts, "host"), count(changed, "change"))
    })?;
    require_reachable(&plan.unreachable)
}
