//! Carries out a plan: exactly its steps, as a graph. A step waits only for those that it names.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Mutex;

use super::plan::{Change, StagePlan, Step};
use super::stage::{Action, PURGE, STAGES, Stage};
use super::{DesiredState, Hosts, JoinCredentials, Plan};
use crate::distribute::{Distribution, distribute};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Event, Unit};
use crate::host::{Host, combine};
use crate::resource::Resource;
use crate::store::Store;

/// How many hosts are changed in parallel.
const PARALLEL_HOSTS: usize = 64;

/// What a run did.
#[derive(Debug)]
pub struct Executed {
    /// The identifiers of its steps, in the order in which they were done.
    pub done: Vec<String>,
    /// The error that names every host that failed.
    pub result: Result<()>,
}

/// Carries out a plan, but for the stage `purge`, which waits for the lease to be released. What depends on a step that failed is not
/// started; everything else is finished. An error of the last stage is of kind `Verification`.
pub async fn execute(desired: &DesiredState, plan: &Plan, hosts: &Hosts, store: &Store, ctx: &Context) -> Executed {
    Executor::new(desired, hosts, store, ctx).run(plan, &STAGES).await
}

/// Carries out the stage `purge` of a plan, on the hosts that left the cluster. `done` are the steps that were done before: a host whose
/// changes could not be undone keeps what it needs for that.
pub async fn purge(desired: &DesiredState, plan: &Plan, done: &[String], hosts: &Hosts, store: &Store, ctx: &Context) -> Executed {
    let mut plan = plan.clone();
    for stage in plan.stages.iter_mut().filter(|stage| stage.stage == PURGE.name) {
        stage.steps.retain(|step| step.after.iter().all(|id| done.contains(id)));
    }
    Executor::new(desired, hosts, store, ctx).run(&plan, &[PURGE]).await
}

struct Executor<'a> {
    desired: &'a DesiredState,
    hosts: &'a Hosts,
    store: &'a Store,
    ctx: &'a Context,
    credentials: Mutex<JoinCredentials>,
    /// One change at a time on each host.
    turns: BTreeMap<IpAddr, Mutex<()>>,
    done: Mutex<Vec<String>>,
}

/// The steps of a stage for one host, which are carried out in order.
struct Group<'a> {
    stage: &'static Stage,
    subject: IpAddr,
    steps: Vec<&'a Step>,
    /// The groups that must have succeeded before.
    after: Vec<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Running,
    Done,
    /// It failed, or depends on a group that did.
    Stopped,
}

impl<'a> Executor<'a> {
    fn new(desired: &'a DesiredState, hosts: &'a Hosts, store: &'a Store, ctx: &'a Context) -> Self {
        let turns = hosts.hosts().map(|host| (host.address(), Mutex::new(()))).collect();
        let credentials = Mutex::new(JoinCredentials::generate());
        Executor { desired, hosts, store, ctx, credentials, turns, done: Mutex::default() }
    }

    async fn run(self, plan: &Plan, stages: &[&'static Stage]) -> Executed {
        let groups = groups(plan, stages);
        let stages: Vec<&str> = stages.iter().map(|stage| stage.name).filter(|name| !plan.steps_of(name).is_empty()).collect();
        let mut progress = vec![Progress::Waiting; groups.len()];
        let (mut running, mut begun) = (FuturesUnordered::new(), Vec::new());
        let mut failed: Vec<(&Group<'_>, anyhow::Error)> = Vec::new();
        loop {
            for number in 0..groups.len() {
                let group = &groups[number];
                let (ready, stopped) = readiness(group, &progress);
                if progress[number] != Progress::Waiting || running.len() >= PARALLEL_HOSTS {
                    continue;
                }
                if stopped || self.ctx.check().is_err() {
                    progress[number] = Progress::Stopped;
                } else if ready {
                    progress[number] = Progress::Running;
                    if !begun.contains(&group.stage.name) {
                        begun.push(group.stage.name);
                        let position = stages.iter().position(|name| *name == group.stage.name).unwrap_or_default();
                        self.ctx.emit(Event::Stage { name: group.stage.name.to_owned(), number: position + 1, total: stages.len() });
                    }
                    let run = &self;
                    running.push(async move { (number, run.group(group).await) });
                }
            }
            let Some((number, result)) = running.next().await else { break };
            progress[number] = match result {
                Ok(()) => Progress::Done,
                Err(error) => {
                    failed.push((&groups[number], error));
                    Progress::Stopped
                }
            };
        }
        drop(running);
        let result = combined(failed, &groups).map_or_else(|| self.ctx.check(), Err);
        Executed { done: self.done.into_inner(), result }
    }

    async fn group(&self, group: &Group<'_>) -> Result<()> {
        for step in &group.steps {
            self.ctx.check()?;
            let turn = self.turns.get(&step.host).ok_or_else(|| Failure::failed(format!("host {}: not connected", step.host)))?;
            let _turn = turn.lock().await;
            self.step(self.hosts.host(step.host)?, step, group.stage).await?;
            self.done.lock().await.push(step.id.clone());
        }
        Ok(())
    }

    async fn step(&self, host: &Host, step: &Step, stage: &'static Stage) -> Result<()> {
        let ctx = &self.ctx.in_stage(stage.name);
        match &step.action {
            Action::Distribute(blobs) => distribute(&[Distribution { host, blobs: blobs.clone() }], self.store, ctx).await.map(drop),
            Action::Resource(resource) => self.apply(host, resource, stage.verifies && step.change == Change::Verify, ctx).await,
            Action::Revert(applied) => {
                let task = ctx.task(format!("{}: remove {}", host.name(), applied.title), None, Unit::Items);
                host.revert(&applied.id, ctx).await?;
                task.done("");
                Ok(())
            }
            Action::Undo => {
                let task = ctx.task(format!("{}: undo all changes", host.name()), None, Unit::Items);
                host.undo(ctx).await?;
                task.done("");
                Ok(())
            }
            Action::Purge => host.purge(false).await,
        }
    }

    /// Applies a resource. `anyway` runs a script even if its check finds no drift.
    async fn apply(&self, host: &Host, resource: &Resource, anyway: bool, ctx: &Context) -> Result<()> {
        let task = ctx.task(format!("{}: {}", host.name(), resource.title()), None, Unit::Items);
        let contact = self.hosts.host(self.desired.contact())?;
        let complete = self.credentials.lock().await.fill_in(resource, contact, ctx).await?;
        let applied = if anyway { host.apply_anyway(&complete, ctx).await } else { host.apply(&complete, ctx).await };
        applied?;
        task.done("");
        Ok(())
    }
}

/// The groups of a plan, in the order of the stages.
fn groups<'a>(plan: &'a Plan, stages: &[&'static Stage]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    let planned = |stage: &&&'static Stage| plan.stages.iter().find(|planned| planned.stage == stage.name);
    for (stage, planned) in stages.iter().filter_map(|stage| Some((*stage, planned(&stage)?))) {
        for steps in by_subject(planned, stage.one_by_one) {
            let after = steps.iter().flat_map(|step| &step.after).flat_map(|name| groups_named(name, &groups)).collect();
            groups.push(Group { stage, subject: steps[0].subject, steps, after });
        }
    }
    groups
}

/// The steps of a stage for each host, hosts in the order of their first step; if hosts are changed one by one, each run of steps for one.
fn by_subject(stage: &StagePlan, one_by_one: bool) -> Vec<Vec<&Step>> {
    let mut groups: Vec<Vec<&Step>> = Vec::new();
    for step in &stage.steps {
        let considered = if one_by_one { groups.len().saturating_sub(1) } else { 0 };
        match groups[considered..].iter_mut().find(|steps| steps[0].subject == step.subject) {
            Some(steps) => steps.push(step),
            None => groups.push(vec![step]),
        }
    }
    groups
}

/// The groups that a step names in `after`: the one with that step, or all of a stage.
fn groups_named<'g>(name: &'g str, groups: &'g [Group<'_>]) -> impl Iterator<Item = usize> + 'g {
    let is_named = move |group: &Group<'_>| match name.strip_prefix("stage ") {
        Some(stage) => group.stage.name == stage,
        None => group.steps.iter().any(|step| step.id == name),
    };
    (0..groups.len()).filter(move |number| is_named(&groups[*number]))
}

/// Whether a group can start, and whether it never can.
fn readiness(group: &Group<'_>, progress: &[Progress]) -> (bool, bool) {
    let ready = group.after.iter().all(|number| progress[*number] == Progress::Done);
    (ready, group.after.iter().any(|number| progress[*number] == Progress::Stopped))
}

/// One error for all that failed, each with the name of its stage; errors of a stage that verifies are of kind `Verification`.
fn combined(failed: Vec<(&Group<'_>, anyhow::Error)>, groups: &[Group<'_>]) -> Option<anyhow::Error> {
    let stages: Vec<&str> = failed.iter().map(|(group, _)| group.stage.name).collect();
    let hosts = groups.iter().filter(|group| {
        stages.contains(&group.stage.name) && (!group.stage.one_by_one || failed.iter().any(|(failed, _)| failed.subject == group.subject))
    });
    let hosts = hosts.count();
    let errors: Vec<anyhow::Error> = failed
        .into_iter()
        .map(|(group, error)| {
            let kind = if group.stage.verifies && kind_of(&error) == Kind::Failed { Kind::Verification } else { kind_of(&error) };
            Failure { kind, ..Failure::over(&error, format!("{}: {error:#}", group.stage.name)) }.into()
        })
        .collect();
    combine(&errors, hosts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::plan::after;

    fn plan(stages: &[(&'static str, &[u8])]) -> Plan {
        let mut planned: Vec<StagePlan> = Vec::new();
        for (name, hosts) in stages {
            let stage = STAGES.iter().find(|stage| stage.name == *name).unwrap();
            let mut steps = Vec::new();
            for host in *hosts {
                let host = IpAddr::from([10, 0, 0, *host]);
                let (id, what, after) = (format!("{name}/{host}"), String::new(), after(stage, host, &steps, &planned));
                steps.push(Step { id, host, what, change: Change::Create, after, disrupts: None, subject: host, action: Action::Undo });
            }
            planned.push(StagePlan { stage: name, steps });
        }
        Plan { cluster: String::new(), image: String::new(), stages: planned, unreachable: Vec::new() }
    }

    #[test]
    fn a_host_waits_only_for_what_it_needs() {
        let plan = plan(&[("prepare", &[1, 2, 3]), ("registry", &[1]), ("control plane", &[1, 2]), ("workers", &[3]), ("verify", &[1])]);
        let groups = groups(&plan, &STAGES);
        let names: Vec<String> = groups.iter().map(|group| group.steps[0].id.clone()).collect();
        let after = |id: &str| {
            let number = names.iter().position(|name| name == id).unwrap();
            let mut after: Vec<&str> = groups[number].after.iter().map(|number| names[*number].as_str()).collect();
            after.sort_unstable();
            after.dedup();
            after
        };
        assert!(after("prepare/10.0.0.3").is_empty());
        assert_eq!(after("control plane/10.0.0.1"), ["registry/10.0.0.1"]);
        assert_eq!(after("control plane/10.0.0.2"), ["control plane/10.0.0.1", "prepare/10.0.0.2", "registry/10.0.0.1"]);
        assert_eq!(
            after("workers/10.0.0.3"),
            ["control plane/10.0.0.1", "control plane/10.0.0.2", "prepare/10.0.0.3", "registry/10.0.0.1"]
        );
        assert_eq!(after("verify/10.0.0.1").len(), 7);
    }

    #[test]
    fn what_depends_on_a_failure_is_not_started() {
        let plan = plan(&[("registry", &[1, 2]), ("control plane", &[1, 2])]);
        let groups = groups(&plan, &STAGES);
        let progress = [Progress::Done, Progress::Stopped, Progress::Waiting, Progress::Waiting];
        assert_eq!(readiness(&groups[2], &progress), (false, true));
    }
}
