//! `sealift logs`

use std::io::{Read as _, Seek as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;

use super::cluster_args::records;
use super::{CommandContext, Table, bytes, count};
use crate::atomic_file;
use crate::cluster::{Entry, Record, Run, RunStep, report};
use crate::events::Context;

/// How often a log that is followed is read.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Show the logs of runs on a cluster
///
/// Without RUN, lists the runs, the newest first. `last` is the newest; the beginning of a name does as well.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift logs shop\n  sealift logs shop last\n  sealift logs shop 20261201T0912 -o json\n  sealift logs shop last --follow\n  sealift logs shop last --report report.html"
)]
pub struct Args {
    /// The cluster, by name; needed where this machine knows several
    #[arg(value_name = "CLUSTER", add = super::complete::clusters_with_logs())]
    cluster: Option<String>,
    /// The run, by name
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Go on until the run has ended
    #[arg(short, long)]
    follow: bool,
    /// Write a report of the run: one HTML file, in English and Chinese
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    report: Option<PathBuf>,
}

/// A run in the list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    run: String,
    time: jiff::Timestamp,
    command: String,
    result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<f64>,
    by: String,
    file: PathBuf,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let records = records()?;
    let cluster = records.choose(args.cluster.as_deref(), &records.names_with_logs())?;
    let logs = records.logs(&cluster);
    let id = args.run.or((args.follow || args.report.is_some()).then(|| "last".to_owned()));
    let Some(id) = id else { return list(logs.runs(), cmd) };
    let run = logs.find(&id)?;
    if args.follow {
        return follow(&run, cmd).await;
    }
    let records = run.records()?;
    if let Some(file) = &args.report {
        atomic_file::write(file, report::html(&run, &records).as_bytes(), 0o644)?;
        return cmd.console.answer(&json!({ "run": run.id, "report": file }), || format!("{}\n", file.display()));
    }
    cmd.console.answer(&records, || records.iter().map(line).collect())
}

fn list(runs: Vec<Run>, cmd: &CommandContext) -> Result<()> {
    let listed: Vec<Listed> = runs
        .into_iter()
        .map(|run| Listed {
            result: run.result().to_owned(),
            changes: run.ended.as_ref().and_then(|ended| ended.changes),
            seconds: run.ended.as_ref().map(|ended| ended.seconds),
            run: run.id,
            time: run.time,
            command: run.begun.command,
            by: run.begun.by,
            file: run.path,
        })
        .collect();
    cmd.console.answer(&listed, || {
        let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let row = |run: &Listed| {
            let (changes, seconds) = (run.changes.map(|changes| changes.to_string()), run.seconds.map(|seconds| format!("{seconds:.1} s")));
            vec![run.run.clone(), run.result.clone(), dash(changes), dash(seconds), run.by.clone()]
        };
        cmd.console.table(&Table::new(&["RUN", "RESULT", "CHANGES", "TIME", "BY"], listed.iter().map(row)).optional(&["BY"]))
    })
}

/// Prints the lines of a log as they come, in JSON one object a line.
async fn follow(run: &Run, cmd: &CommandContext) -> Result<()> {
    let mut file = fs_err::File::open(&run.path)?;
    let mut rest = Vec::new();
    loop {
        // asked first: what was written before it ended is read below
        let is_over = !run.is_going_on();
        file.read_to_end(&mut rest)?;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let text: Vec<u8> = rest.drain(..=end).collect();
            if cmd.console.is_json() {
                cmd.console.raw(&text)?;
            } else if let Ok(record) = serde_json::from_slice::<Record>(&text) {
                cmd.console.raw(line(&record).as_bytes())?;
            }
        }
        if is_over {
            return Ok(());
        }
        let position = file.stream_position()?;
        file.seek(std::io::SeekFrom::Start(position))?;
        pause(&cmd.ctx).await?;
    }
}

async fn pause(ctx: &Context) -> Result<()> {
    ctx.or_cancelled(async {
        tokio::time::sleep(POLL_INTERVAL).await;
        Ok(())
    })
    .await
}

/// A line of a log for people: the time, and what happened.
fn line(record: &Record) -> String {
    let time = record.time.strftime("%H:%M:%S%.3f");
    let text = match &record.entry {
        Entry::Begun(begun) => {
            let images = begun.images.join(", ");
            format!(
                "{} of cluster {} ({images}) on {} by {}, sealift {}",
                begun.command,
                begun.cluster,
                count(begun.hosts.len(), "host"),
                begun.by,
                begun.sealift
            )
        }
        Entry::Stage { name, number, total } => format!("== [{number}/{total}] {name}"),
        Entry::Started { step } => format!("> {}", named(step)),
        Entry::Finished { step, outcome, detail, seconds, bytes: moved } => {
            let sign = if outcome == "failed" { "✗" } else { "✓" };
            let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
            let moved = moved.filter(|moved| *moved > 0).map(|moved| format!(", {}", bytes(moved))).unwrap_or_default();
            format!("{sign} {}{detail}{moved} ({seconds:.1} s)", named(step))
        }
        Entry::Warning { text } => format!("warning: {text}"),
        Entry::Note { text } => text.clone(),
        Entry::Output { host, line } => format!("  {host} | {line}"),
        Entry::Versions { versions, .. } => {
            versions.iter().map(|(what, version)| format!("{what} {version}")).collect::<Vec<_>>().join(", ")
        }
        Entry::Plan { plan } => format!("plan: {}", count(steps(plan), "step")),
        Entry::Ended(ended) => {
            let changes = ended.changes.map(|changes| format!(", {}", count(changes, "change"))).unwrap_or_default();
            let error = ended.error.as_ref().map(|error| format!("\nerror: {error}")).unwrap_or_default();
            let hints: String = ended.hints.iter().map(|hint| format!("\nhint: {hint}")).collect();
            format!("{}{changes} in {:.1} s{error}{hints}", ended.result, ended.seconds)
        }
        Entry::Other => return String::new(),
    };
    format!("{time}  {text}\n")
}

fn named(step: &RunStep) -> String {
    match &step.host {
        Some(host) => format!("{host}: {}", step.step),
        None => step.step.clone(),
    }
}

fn steps(plan: &serde_json::Value) -> usize {
    let stages = plan["stages"].as_array().into_iter().flatten();
    stages.filter_map(|stage| stage["steps"].as_array()).map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Ended;

    #[test]
    fn a_log_reads_line_by_line() {
        let step = RunStep { host: Some("h1".into()), step: "sysctl a=1".into(), stage: None };
        let begun = crate::cluster::Begun {
            command: "run".into(),
            cluster: "shop".into(),
            images: vec!["shop:1".into()],
            hosts: vec!["10.0.0.1".into()],
            by: "me@desk".into(),
            sealift: "9".into(),
        };
        let entries = [
            Entry::Begun(begun),
            Entry::Stage { name: "prepare".into(), number: 1, total: 9 },
            Entry::Started { step: step.clone() },
            Entry::Output { host: "h1".into(), line: "said".into() },
            Entry::Finished { step, outcome: "failed".into(), detail: String::new(), seconds: 0.25, bytes: Some(2048) },
            Entry::Ended(Ended {
                result: "failed".into(),
                seconds: 2.0,
                error: Some("no".into()),
                hints: vec!["do".into()],
                ..Ended::default()
            }),
            Entry::Other,
        ];
        let text: String = entries.into_iter().map(|entry| line(&Record { time: jiff::Timestamp::UNIX_EPOCH, entry })).collect();
        insta::assert_snapshot!(text, @"
        00:00:00.000  run of cluster shop (shop:1) on 1 host by me@desk, sealift 9
        00:00:00.000  == [1/9] prepare
        00:00:00.000  > h1: sysctl a=1
        00:00:00.000    h1 | said
        00:00:00.000  ✗ h1: sysctl a=1, 2.00 KiB (0.2 s)
        00:00:00.000  failed in 2.0 s
        error: no
        hint: do
        ");
    }
}
