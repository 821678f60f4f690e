//! Carries out what stages want, stage by stage.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream;
use tokio::sync::Mutex;

use super::hosts::gather;
use super::stage::{Action, DesiredResource, STAGES, Stage};
use super::{DesiredState, Hosts, JoinCredentials, Plan, etcd_member};
use crate::distribute::{Distribution, ship};
use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Event, Unit};
use crate::host::Host;
use crate::image::Blob;
use crate::resource::{KubeadmJoin, Resource, State};
use crate::store::Store;

/// So many hosts of a stage at once.
const AT_ONCE: usize = 64;

/// Carries out a plan: stage after stage, the hosts of a stage at once. What is not as it shall be is changed and looked at
/// again; a host that fails ends the run after its stage.
pub async fn execute(desired: &DesiredState, plan: &Plan, fleet: &Hosts, store: &Store, ctx: &Context) -> Result<usize> {
    let run = Executor { desired, fleet, store, ctx, tickets: Mutex::new(JoinCredentials::draw()) };
    let mut changed = 0;
    for stage in STAGES {
        let planned = plan.stages.iter().any(|planned| planned.stage == stage.name);
        if planned || changed > 0 {
            ctx.check()?;
            changed += run.stage(stage, changed > 0 && stage.verifies).await?;
        }
    }
    Ok(changed)
}

struct Executor<'a> {
    desired: &'a DesiredState,
    fleet: &'a Hosts,
    store: &'a Store,
    ctx: &'a Context,
    tickets: Mutex<JoinCredentials>,
}

impl Executor<'_> {
    /// Carries out one stage; `anew` runs scripts also where their check finds nothing to do.
    async fn stage(&self, stage: &Stage, anew: bool) -> Result<usize> {
        let wants = (stage.wants)(self.desired);
        if wants.is_empty() {
            return Ok(0);
        }
        self.ctx.emit(Event::Stage { name: stage.name.to_owned() });
        let at_once = if stage.one_by_one { 1 } else { AT_ONCE };
        let runs = by_host(wants).into_iter().map(|(address, actions)| async move {
            let done = async { self.host(self.fleet.host(address)?, &actions, anew).await };
            (address, done.await)
        });
        let mut results = Vec::new();
        let mut runs = stream::iter(runs).buffer_unordered(at_once);
        while let Some((address, result)) = runs.next().await {
            let failed = result.is_err();
            results.push((address, result));
            if failed && stage.one_by_one {
                break; // the next ones lean on it
            }
        }
        let changed: usize = gather_named(stage, results)?.values().sum();
        Ok(changed)
    }

    /// Does what one host lacks, in order. How many things it changed.
    async fn host(&self, host: &Host, actions: &[Action], anew: bool) -> Result<usize> {
        let resources: Vec<Resource> = actions.iter().filter_map(resource_of).cloned().collect();
        let states = self.ctx.or_cancelled(host.check(&resources)).await?;
        let mut states = states.into_iter();
        let mut changed = 0;
        for action in actions {
            self.ctx.check()?;
            match action {
                Action::Ship(blobs) => changed += self.ship(host, blobs, &resources).await?,
                Action::Resource(resource) => {
                    // what came before may have changed it: only what was not touched yet is believed
                    let anew = anew && matches!(resource, Resource::Script(_));
                    let present = matches!(states.next(), Some(Ok(State::Present))) && !anew;
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
        let first = self.fleet.host(self.desired.first_master().address())?;
        if matches!(resource, Resource::KubeadmJoin(join) if join.master) {
            self.remove_failed_join(host, resource, first).await?;
        }
        let filled = self.tickets.lock().await.fill(resource, first, self.ctx).await?;
        host.apply(&filled, self.ctx).await.map_err(|error| labelled(error, resource))?;
        task.done("");
        Ok(1)
    }

    async fn remove_failed_join(&self, host: &Host, join: &Resource, first: &Host) -> Result<()> {
        match host.check(std::slice::from_ref(join)).await?.as_slice() {
            [Ok(state)] if KubeadmJoin::is_no_member(state) => etcd_member::remove(first, host.address(), self.ctx).await,
            _ => Ok(()),
        }
    }

    /// Sends the blobs that a host lacks. Those of a root file system that is unpacked already are not needed.
    async fn ship(&self, host: &Host, blobs: &[Blob], resources: &[Resource]) -> Result<usize> {
        let wanted = self.wanted(host, blobs, resources).await?;
        let shipped = ship(&[Distribution { host, blobs: wanted }], self.store, self.ctx).await?;
        Ok(usize::from(shipped.blobs > 0))
    }

    async fn wanted(&self, host: &Host, blobs: &[Blob], resources: &[Resource]) -> Result<Vec<Blob>> {
        let rootfs: Vec<Resource> = resources.iter().filter(|resource| matches!(resource, Resource::Rootfs(_))).cloned().collect();
        let unpacked = !rootfs.is_empty() && matches!(host.check(&rootfs).await?.as_slice(), [Ok(State::Present)]);
        let workloads = super::observed_state::workloads_of(self.desired, host.address());
        let needed = |blob: &&Blob| !unpacked || workloads.contains(&blob.digest);
        Ok(blobs.iter().filter(needed).copied().collect())
    }
}

fn resource_of(action: &Action) -> Option<&Resource> {
    match action {
        Action::Resource(resource) => Some(resource),
        Action::Ship(_) => None,
    }
}

/// What each host shall have, hosts in the order in which they come.
fn by_host(wants: Vec<DesiredResource>) -> Vec<(IpAddr, Vec<Action>)> {
    let mut hosts: Vec<(IpAddr, Vec<Action>)> = Vec::new();
    let mut places: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for want in wants {
        let place = *places.entry(want.host).or_insert_with(|| {
            hosts.push((want.host, Vec::new()));
            hosts.len() - 1
        });
        hosts[place].1.push(want.action);
    }
    hosts
}

/// The resource's name goes over its error; kind and hints stay.
fn labelled(error: anyhow::Error, resource: &Resource) -> anyhow::Error {
    let failure = Failure::over(&error, resource.title());
    error.context(failure)
}

/// As [`gather`]; what fails in the last stage is of kind `Verification`.
fn gather_named(stage: &Stage, results: Vec<(IpAddr, Result<usize>)>) -> Result<BTreeMap<IpAddr, usize>> {
    let results = results.into_iter().map(|(address, result)| {
        let named = result.map_err(|error| {
            let kind = if stage.verifies && kind_of(&error) == Kind::Failed { Kind::Verification } else { kind_of(&error) };
            Failure { kind, ..Failure::over(&error, format!("{}: {error:#}", stage.name)) }.into()
        });
        (address, named)
    });
    gather(results.collect())
}
