//! `sealift forget`

use anyhow::Result;
use serde_json::json;

use super::cluster_args::records;
use super::{CommandContext, confirm, count};
use crate::error::Failure;

/// Forget a cluster whose hosts are gone
///
/// Deletes what this machine keeps of a cluster: its Clusterfile, its revisions, the logs of its runs. Its hosts are not touched:
/// `sealift reset` takes down a cluster whose hosts are still there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift forget shop\n  sealift forget shop --yes")]
pub struct Args {
    /// The cluster, by name
    #[arg(value_name = "CLUSTER", add = super::complete::clusters_with_logs())]
    cluster: String,
    /// Do not ask for confirmation
    #[arg(short, long)]
    yes: bool,
}

/// Runs the command.
pub fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let (records, name) = (records()?, args.cluster);
    records
        .choose(Some(&name), &records.names_with_logs())
        .map_err(|error| Failure::over(&error, error.to_string()).hint("`sealift clusters` lists the known clusters"))?;
    let hosts: Vec<String> = match records.load(Some(&name)) {
        Ok(file) => file.cluster.hosts.iter().map(|host| host.address.to_string()).collect(),
        Err(_) => Vec::new(),
    };
    let reset = format!("`sealift reset {name}` takes it down first, where its hosts are still there");
    if !args.yes {
        let of = if hosts.is_empty() { String::new() } else { format!(" of {}", count(hosts.len(), "host")) };
        confirm(
            &format!("forget deletes what this machine knows of cluster {name}{of}"),
            &format!("confirm with `--yes`; {reset}"),
            &cmd.ctx,
        )?;
    }
    records.forget(&name)?;
    if !hosts.is_empty() {
        cmd.ctx.note(format!(
            "its hosts are as they were: {}\nto clean those that come back, give their Clusterfile: `sealift reset -f Clusterfile`",
            hosts.join(", ")
        ));
    }
    cmd.console.answer(&json!({ "cluster": name, "hosts": hosts }), || format!("cluster {name} is forgotten\n"))
}
