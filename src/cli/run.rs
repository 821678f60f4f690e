//! `sealift run`

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use super::session::{SiteArgs, bring_up};

/// Bring up a cluster from an image
///
/// Connects to all hosts at once, checks them before anything is changed, sends what is missing, and brings the cluster up. Interrupted or killed,
/// the same command goes on where it was; on a finished cluster it changes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, from the store or a registry
    image: Option<String>,
    #[command(flatten)]
    site: SiteArgs,
    /// Print the Clusterfile that this amounts to, and do nothing
    #[arg(long)]
    dry_run: bool,
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
    let clusterfile = args.site.clusterfile(args.image.as_deref(), cmd)?;
    if args.dry_run {
        let text = clusterfile.to_yaml()?;
        return cmd.console.answer(&json!({ "clusterfile": text }), || text.clone());
    }
    bring(&args.site, clusterfile, args.break_lease, cmd).await
}

/// Brings up what a Clusterfile says, and tells what came of it.
pub async fn bring(site: &SiteArgs, clusterfile: crate::clusterfile::Clusterfile, break_lease: bool, cmd: &CommandContext) -> Result<()> {
    let began = Instant::now();
    clusterfile.require_runnable()?;
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let image = site.image(&clusterfile, &store, cmd).await?;
    let site = site.open(clusterfile, image, cmd).await?;
    let result = bring_up(&site, &store, break_lease, cmd).await;
    let (name, hosts) = (site.desired.name().to_owned(), site.desired.hosts.len());
    site.fleet.close().await;
    let (_, changed) = result?;
    let seconds = began.elapsed().as_secs_f64();
    let answer = json!({ "cluster": name, "hosts": hosts, "changes": changed, "seconds": seconds });
    cmd.console.answer(&answer, || {
        let changes = if changed == 1 { "1 change".to_owned() } else { format!("{changed} changes") };
        format!("cluster {name} is up on {hosts} hosts: {changes} in {seconds:.1} s\n")
    })?;
    Ok(())
}
