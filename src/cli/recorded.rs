//! Runs that change a cluster are recorded: each has a log, may have a report, and makes a revision.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::CommandContext;
use super::cluster_args::records;
use super::session::owner;
use crate::atomic_file;
use crate::cluster::{Applied, Begun, DesiredState, Ended, Plan, Redactor, Revision, RunLog, Session, report, result_of, revision};
use crate::clusterfile::Clusterfile;
use crate::error::{Failure, Kind, kind_of};
use crate::host::Host;

/// How long to wait for the hosts to take a revision.
const REVISION_TIMEOUT: Duration = Duration::from_secs(20);

/// The report of a run.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ReportArgs {
    /// Write a report of this run: one HTML file, in English and Chinese
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Runs `work` with a log of it, and says where that is if `work` fails. `command` is what the user typed: `run`, `apply`, `reset`.
pub async fn recorded(
    command: &str,
    clusterfile: &Clusterfile,
    args: &ReportArgs,
    cmd: &CommandContext,
    work: impl AsyncFnOnce(&CommandContext) -> Result<()>,
) -> Result<()> {
    let cluster = &clusterfile.cluster;
    let begun = Begun {
        command: command.to_owned(),
        cluster: cluster.name.clone(),
        images: cluster.images.clone(),
        hosts: cluster.hosts.iter().map(|host| host.address.to_string()).collect(),
        by: owner(),
        sealift: env!("CARGO_PKG_VERSION").to_owned(),
    };
    if let Some(file) = &args.report {
        require_writable(file)?;
    }
    let log = records()?.logs(&cluster.name).begin(begun, Redactor::new(clusterfile))?;
    let result = work(&cmd.logged_to(log.clone())).await;
    let ended = log.end(&result);
    if let Some(file) = &args.report {
        match write_report(file, &cluster.name, &log) {
            Ok(()) => cmd.ctx.note(format!("report: {}", file.display())),
            Err(error) => cmd.ctx.warn(format!("no report: {error:#}")),
        }
    }
    if result.as_ref().is_err_and(|error| kind_of(error) == Kind::Usage) {
        records()?.discard_log(&log).ok();
    }
    result.map_err(|error| {
        failed_at(&ended, &error, cmd);
        with_log(error, &log)
    })
}

fn write_report(file: &Path, cluster: &str, log: &RunLog) -> Result<()> {
    let run = records()?.logs(cluster).find(&log.id())?;
    atomic_file::write(file, report::html(&run, &run.records()?).as_bytes(), 0o644)
}

/// Refuses a place for a report that cannot be written, before anything is changed.
fn require_writable(file: &Path) -> Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let refused = |why: String| {
        Failure::usage(format!("--report {}: {why}", file.display())).hint("name a file in a directory that you may write to")
    };
    fs_err::create_dir_all(directory).map_err(|error| refused(error.to_string()))?;
    tempfile::tempfile_in(directory).map_err(|error| refused(error.to_string()))?;
    if file.is_dir() { Err(refused("a directory".to_owned()).into()) } else { Ok(()) }
}

/// Says which step failed first, and the last lines of its output that the error does not have.
fn failed_at(ended: &Ended, error: &anyhow::Error, cmd: &CommandContext) {
    let Some(step) = &ended.failed else { return };
    let place = step.host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
    let stage = step.stage.as_ref().map(|stage| format!(", stage {stage}")).unwrap_or_default();
    cmd.ctx.note(format!("failed{place}: {}{stage}", step.step));
    let text = format!("{error:#}");
    for line in ended.output.iter().filter(|line| !text.contains(line.trim())) {
        cmd.ctx.note(format!("  | {line}"));
    }
}

/// The same error, with where its log is.
fn with_log(error: anyhow::Error, log: &RunLog) -> anyhow::Error {
    if kind_of(&error) == Kind::Usage {
        return error;
    }
    let hint = format!("`sealift logs {} last` shows this run; its log is {}", log.cluster(), log.path().display());
    Failure::over(&error, format!("{error:#}")).hint(hint).into()
}

/// The versions of what a run brings.
pub fn versions(desired: &DesiredState) -> Result<BTreeMap<String, String>> {
    let config = desired.config();
    let mut versions = BTreeMap::new();
    for (number, image) in std::iter::once(&desired.image).chain(&desired.app_images).enumerate() {
        let name = if number == 0 { "image".to_owned() } else { format!("image {}", number + 1) };
        versions.insert(name, format!("{}@{}", image.name.familiar(), image.digest()?));
    }
    versions.extend(config.kube_version.clone().map(|version| ("kubernetes".to_owned(), version)));
    versions.extend(config.runtime_version.clone().map(|version| ("runtime".to_owned(), version)));
    Ok(versions)
}

/// Keeps what a run applied: on every control plane node that is reachable, in the cluster, and on this machine. What cannot be written
/// is warned of: the run itself is not worse for it.
pub async fn keep_revision<T>(session: &Session, plan: &Plan, result: &Result<T>, cmd: &CommandContext) {
    let ctx = cmd.ctx.uninterrupted();
    let masters: Vec<&Host> = session.desired.masters().filter_map(|master| session.hosts.host(master.address()).ok()).collect();
    let kept = tokio::time::timeout(REVISION_TIMEOUT, async {
        let known = records()?;
        let mut before = known.revisions_of(session.desired.name());
        for master in &masters {
            before.extend(revision::read(master, session.desired.name(), &ctx).await.unwrap_or_default());
        }
        let command = cmd.log.as_ref().map_or("run", |log| log.command());
        let outcome = match result {
            Ok(_) if !plan.unreachable.is_empty() => result_of(Some(Kind::SomeHosts)),
            Ok(_) => result_of(None),
            Err(error) => result_of(Some(kind_of(error))),
        };
        let by = owner();
        let applied = Applied { command, by: &by, result: outcome, changes: plan.changes(), plan: serde_json::to_value(plan)? };
        let next = Revision::next(&before, &session.desired, applied)?;
        known.save_revision(&next)?;
        let mut errors = revision::write(&masters, &next, &ctx).await;
        if session.desired.is_kubernetes()
            && result.is_ok()
            && let Some(master) = masters.first()
        {
            errors.extend(revision::write_in_cluster(master, &next, &ctx).await.err());
        }
        for error in errors {
            cmd.ctx.warn(format!("revision {}: {error:#}", next.number));
        }
        anyhow::Ok(())
    });
    match kept.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => cmd.ctx.warn(format!("no revision was kept: {error:#}")),
        Err(_) => cmd.ctx.warn(format!("the revision was not kept on all hosts: no answer within {} s", REVISION_TIMEOUT.as_secs())),
    }
}
