//! `sealift clusters`

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;

use super::cluster_args::records;
use super::{CommandContext, Table, count};
use crate::cluster::{KnownClusters, Run};

/// List the clusters that this machine knows
///
/// A cluster is known once a run has begun to change its hosts, until it is reset or forgotten.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift clusters\n  sealift clusters -o json")]
pub struct Args {}

/// A known cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    name: String,
    /// Its images, the first one first.
    images: Vec<String>,
    /// The addresses of its hosts.
    hosts: Vec<String>,
    /// What was done to it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<LastRun>,
    /// Why its record cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The run on a cluster that goes on, else the last one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastRun {
    /// The command.
    pub command: String,
    /// When it began.
    pub time: Timestamp,
    /// `done`, `failed`, `some hosts`, `refused`, `interrupted`, `running` or `killed`.
    pub result: String,
    /// How many things it changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<usize>,
}

/// Runs the command.
pub fn run(_: Args, cmd: &CommandContext) -> Result<()> {
    let records = records()?;
    let known: Vec<Known> = records.names().into_iter().map(|name| known(&records, name)).collect();
    if known.is_empty() && !cmd.console.is_json() {
        cmd.ctx.note("no cluster is known on this machine: `sealift run` brings one up, `sealift adopt` takes over one that runs");
    }
    cmd.console.answer(&known, || {
        let table = Table::new(&["NAME", "IMAGE", "HOSTS", "LAST RUN", "RESULT"], known.iter().map(row));
        cmd.console.table(&table.optional(&["IMAGE"]))
    })
}

fn known(records: &KnownClusters, name: String) -> Known {
    let logs = records.logs(&name);
    // a later one that was refused does not hide it
    let last_run = logs.running().or_else(|| logs.last()).map(|run| LastRun::of(&run));
    match records.load(Some(&name)) {
        Ok(file) => {
            let hosts = file.cluster.hosts.iter().map(|host| host.address.to_string()).collect();
            Known { name, images: file.cluster.images, hosts, last_run, error: None }
        }
        Err(error) => Known { name, images: Vec::new(), hosts: Vec::new(), last_run, error: Some(format!("{error:#}")) },
    }
}

impl LastRun {
    /// The run as a log tells it.
    pub fn of(run: &Run) -> Self {
        let changes = run.ended.as_ref().and_then(|ended| ended.changes);
        LastRun { command: run.begun.command.clone(), time: run.time, result: run.result().to_owned(), changes }
    }
}

fn row(known: &Known) -> Vec<String> {
    let (last, result) = match &known.last_run {
        Some(last) => {
            let changes = last.changes.map(|changes| format!(", {}", count(changes, "change"))).unwrap_or_default();
            (format!("{} {}", last.time.strftime("%Y-%m-%d %H:%M:%SZ"), last.command), format!("{}{changes}", last.result))
        }
        None => ("-".to_owned(), "-".to_owned()),
    };
    let result = known.error.as_ref().map_or(result, |error| error.lines().next().unwrap_or_default().to_owned());
    vec![known.name.clone(), known.images.join(","), known.hosts.len().to_string(), last, result]
}
