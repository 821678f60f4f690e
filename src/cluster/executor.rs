//! Carries out a plan, stage by stage.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Mutex;

use super::hosts::gather;
use super::stage::{Action, DesiredResource, STAGES, Stage};
use super::{DesiredState, Hosts, JoinCredentials, Plan, etcd_member};
use crate::distribute::{Distribution, distribute};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Event, Unit};
use crate::host::Host;
use crate::image::Blob;
use crate::resource::{KubeadmJoin, Resource, State};
use crate::store::Store;

/// How many hosts of a stage are changed in parallel.
const PARALLEL_HOSTS: usize = 64;

/// Carries out a plan: stages one after the other, the hosts of a stage in parallel. Returns how many things it changed.
///
/// # Errors
/// Fails after the stage in which a host fails; the error names every host that failed. Of kind `Verification` in the last stage.
pub async fn execute(desired: &DesiredState, plan: &Plan, hosts: &Hosts, store: &Store, ctx: &Context) -> Result<usize> {
    let run = Executor { desired, hosts, store, ctx, credentials: Mutex::new(JoinCredentials::generate()) };
    let planned = |stage: &Stage| plan.stages.iter().any(|planned| planned.stage == stage.name);
    // a change in one stage may cause drift in later ones: they are checked again
    let stages: Vec<&Stage> =
        STAGES.into_iter().skip_while(|stage| !planned(stage)).filter(|stage| !(stage.desired_resources)(desired).is_empty()).collect();
    let mut changed = 0;
    for (number, stage) in (1..).zip(&stages) {
        if planned(stage) || changed > 0 {
            ctx.check()?;
            ctx.emit(Event::Stage { name: stage.name.to_owned(), number, total: stages.len() });
            changed += run.stage(stage, changed > 0 && stage.verifies).await?;
        }
    }
    Ok(changed)
}

struct Executor<'a> {
    desired: &'a DesiredState,
    hosts: &'a Hosts,
    store: &'a Store,
    ctx: &'a Context,
    credentials: Mutex<JoinCredentials>,
}

impl Executor<'_> {
    /// Carries out one stage. `rerun_scripts` runs scripts even if their check finds no drift.
    async fn stage(&self, stage: &Stage, rerun_scripts: bool) -> Result<usize> {
        let resources = (stage.desired_resources)(self.desired);
        let parallel = if stage.one_by_one { 1 } else { PARALLEL_HOSTS };
        let runs = by_host(resources).into_iter().map(|(address, actions)| async move {
            let changed = async { self.host(self.hosts.host(address)?, &actions, rerun_scripts).await };
            (address, changed.await)
        });
        let mut results = Vec::new();
        let mut runs = stream::iter(runs).buffer_unordered(parallel);
        while let Some((address, result)) = runs.next().await {
            let failed = result.is_err();
            results.push((address, result));
            if failed && stage.one_by_one {
                break; // the next hosts depend on it
            }
        }
        let changed: usize = gather_stage(stage, results)?.values().sum();
        Ok(changed)
    }

    /// Brings one host to its desired state, in order. Returns how many things it changed.
    async fn host(&self, host: &Host, actions: &[Action], rerun_scripts: bool) -> Result<usize> {
        let resources: Vec<Resource> = actions.iter().filter_map(as_resource).cloned().collect();
        let states = self.ctx.or_cancelled(host.check(&resources)).await?;
        let mut states = states.into_iter();
        let mut changed = 0;
        for action in actions {
            self.ctx.check()?;
            match action {
                Action::Distribute(blobs) => changed += self.distribute(host, blobs, &resources).await?,
                Action::Resource(resource) => {
                    // an earlier change may have caused drift: the first check counts only until something was changed
                    let rerun_scripts = rerun_scripts && matches!(resource, Resource::Script(_));
                    let present = matches!(states.next(), Some(Ok(State::Present))) && !rerun_scripts;
                    if !present || changed > 0 {
                        changed += self.apply(host, resource, present).await?;
                    }
                }
            }
        }
        Ok(changed)
    }

    async fn apply(&self, host: &Host, resource: &Resource, was_present: bool) -> Result<usize> {
        if was_present && matches!(host.check(std::slice::from_ref(resource)).await?.as_slice(), [Ok(State::Present)]) {
            return Ok(0);
        }
        let task = self.ctx.task(format!("{}: {}", host.name(), resource.title()), None, Unit::Items);
        let first = self.hosts.host(self.desired.first_master().address())?;
        if matches!(resource, Resource::KubeadmJoin(join) if join.master) {
            self.remove_failed_join(host, resource, first).await?;
        }
        let complete = self.credentials.lock().await.fill_in(resource, first, self.ctx).await?;
        host.apply(&complete, self.ctx).await.map_err(|error| with_title(error, resource))?;
        task.done("");
        Ok(1)
    }

    async fn remove_failed_join(&self, host: &Host, join: &Resource, first: &Host) -> Result<()> {
        match host.check(std::slice::from_ref(join)).await?.as_slice() {
            [Ok(state)] if KubeadmJoin::has_not_joined(state) => etcd_member::remove(first, host.address(), self.ctx).await,
            _ => Ok(()),
        }
    }

    /// Sends the blobs that are missing on a host. The blobs of a root file system that is unpacked already are not needed.
    async fn distribute(&self, host: &Host, blobs: &[Blob], resources: &[Resource]) -> Result<usize> {
        let required = self.required(host, blobs, resources).await?;
        let sent = distribute(&[Distribution { host, blobs: required }], self.store, self.ctx).await?;
        Ok(usize::from(sent.blobs > 0))
    }

    async fn required(&self, host: &Host, blobs: &[Blob], resources: &[Resource]) -> Result<Vec<Blob>> {
        let rootfs: Vec<Resource> = resources.iter().filter(|resource| matches!(resource, Resource::Rootfs(_))).cloned().collect();
        let unpacked = !rootfs.is_empty() && matches!(host.check(&rootfs).await?.as_slice(), [Ok(State::Present)]);
        let workloads = super::observed_state::workload_blobs_of(self.desired, host.address());
        let needed = |blob: &&Blob| !unpacked || workloads.contains(&blob.digest);
        Ok(blobs.iter().filter(needed).copied().collect())
    }
}

fn as_resource(action: &Action) -> Option<&Resource> {
    match action {
        Action::Resource(resource) => Some(resource),
        Action::Distribute(_) => None,
    }
}

/// The actions of each host; hosts in the order of their first action.
fn by_host(resources: Vec<DesiredResource>) -> Vec<(IpAddr, Vec<Action>)> {
    let mut hosts: Vec<(IpAddr, Vec<Action>)> = Vec::new();
    let mut index: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for DesiredResource { host, action } in resources {
        let position = *index.entry(host).or_insert_with(|| {
            hosts.push((host, Vec::new()));
            hosts.len() - 1
        });
        hosts[position].1.push(action);
    }
    hosts
}

/// Prefixes an error with the title of its resource; its kind and hints stay.
fn with_title(error: anyhow::Error, resource: &Resource) -> anyhow::Error {
    let failure = Failure::over(&error, resource.title());
    error.context(failure)
}

/// As [`gather`], with the name of the stage in each error; errors of a stage that verifies are of kind `Verification`.
fn gather_stage(stage: &Stage, results: Vec<(IpAddr, Result<usize>)>) -> Result<BTreeMap<IpAddr, usize>> {
    let results = results.into_iter().map(|(address, result)| {
        let named = result.map_err(|error| {
            let kind = if stage.verifies && kind_of(&error) == Kind::Failed { Kind::Verification } else { kind_of(&error) };
            Failure { kind, ..Failure::over(&error, format!("{}: {error:#}", stage.name)) }.into()
        });
        (address, named)
    });
    gather(results.collect())
}
