//! `sealift run`

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::recorded::{ReportArgs, recorded};
use super::session::{SessionArgs, bring_up};
use super::{CommandContext, ImageArg, count};
use crate::clusterfile::Clusterfile;

/// Bring up a cluster from an image
///
/// Connects to all hosts, checks them before anything is changed, sends what is missing, and brings the cluster up. Interrupted or
/// killed, the same command resumes; on a cluster that is up to date it changes nothing.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift run -f Clusterfile\n  sealift run shop:1.0 --masters 10.0.0.2 --nodes 10.0.0.3,10.0.0.4\n  sealift run shop:1.0 -m 10.0.0.2 --user ops --pk ~/.ssh/id_ed25519\n  sealift run shop:1.0 -m 10.0.0.2 --dry-run > Clusterfile"
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
    /// Accepted for scripts: `run` asks no questions
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
    let clusterfile = args.session.clusterfile(args.image.as_ref(), cmd)?;
    if args.dry_run {
        let text = clusterfile.to_yaml()?;
        return cmd.console.answer(&json!({ "clusterfile": text }), || text.clone());
    }
    recorded("run", &clusterfile, &args.report, cmd, async |cmd| {
        bring_up_and_report(&args.session, clusterfile.clone(), args.break_lease, cmd).await
    })
    .await
}

/// Brings up the cluster of a Clusterfile, and prints how many changes that took.
pub async fn bring_up_and_report(args: &SessionArgs, clusterfile: Clusterfile, break_lease: bool, cmd: &CommandContext) -> Result<()> {
    let began = Instant::now();
    clusterfile.require_runnable()?;
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let image = args.image(&clusterfile, &store, cmd).await?;
    let session = args.open(clusterfile, image, cmd).await?;
    let result = bring_up(&session, &store, break_lease, cmd).await;
    let (name, hosts) = (session.desired.name().to_owned(), session.desired.hosts.len());
    session.hosts.close().await;
    let (_, changed) = result?;
    if let Some(log) = &cmd.log {
        log.changed(changed);
    }
    let seconds = began.elapsed().as_secs_f64();
    let answer = json!({ "cluster": name, "hosts": hosts, "changes": changed, "seconds": seconds });
    cmd.console.answer(&answer, || {
        format!("cluster {name} is up on {}: {} in {seconds:.1} s\n", count(hosts, "host"), count(changed, "change"))
    })?;
    Ok(())
}
