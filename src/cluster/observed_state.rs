//! What is: facts about hosts, and the state of everything that stages want.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::stage::{Action, STAGES};
use super::{DesiredState, Hosts};
use crate::error::Failure;
use crate::events::Context;
use crate::host::facts::{Facts, FactsRequest};
use crate::host::{Exec, Host};
use crate::image::{Blob, Digest};
use crate::resource::{Resource, State};

/// What is, as far as stages want it otherwise or not.
#[derive(Debug, Default)]
pub struct ObservedState {
    hosts: BTreeMap<IpAddr, HostObserved>,
}

#[derive(Debug, Default)]
struct HostObserved {
    /// By title, which is unique on its host.
    states: HashMap<String, Result<State, String>>,
    /// The blobs it lacks, and how many bytes of each.
    missing: HashMap<Digest, u64>,
}

impl ObservedState {
    /// How a resource is on a host, if it was checked.
    pub fn state(&self, host: IpAddr, resource: &Resource) -> Option<&Result<State, String>> {
        self.hosts.get(&host)?.states.get(&resource.title())
    }

    /// How many bytes of a blob a host lacks; `None` if it has the blob.
    pub fn missing(&self, host: IpAddr, blob: &Digest) -> Option<u64> {
        self.hosts.get(&host)?.missing.get(blob).copied()
    }
}

/// The facts about every host, and how far its clock is from ours in nanoseconds.
pub async fn facts_of(fleet: &Hosts, request: &FactsRequest) -> Result<BTreeMap<IpAddr, (Facts, i64)>> {
    fleet
        .all(|host| async move {
            let asked = now();
            let facts = host.facts(request).await?;
            let middle = asked / 2 + now() / 2;
            let offset = i64::try_from(i128::from(facts.clock_ns) - i128::from(middle)).unwrap_or(i64::MAX);
            Ok((facts, offset))
        })
        .await
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Asks every host for the state of everything that stages want on it: one question each for resources and for blobs.
pub async fn observe(desired: &DesiredState, fleet: &Hosts, ctx: &Context) -> Result<ObservedState> {
    let mut resources: BTreeMap<IpAddr, Vec<Resource>> = BTreeMap::new();
    let mut blobs: BTreeMap<IpAddr, Vec<Blob>> = BTreeMap::new();
    for want in STAGES.iter().flat_map(|stage| (stage.wants)(desired)) {
        match want.action {
            Action::Ship(list) => blobs.entry(want.host).or_default().extend(list),
            Action::Resource(resource) => resources.entry(want.host).or_default().push(resource),
        }
    }
    let (resources, blobs) = (&resources, &blobs);
    let hosts = fleet
        .all(|host| async move {
            wait_for_kubeadm(host, ctx).await?;
            let resources = resources.get(&host.address()).map_or(&[][..], Vec::as_slice);
            let states = host.check(resources).await?;
            let states = resources.iter().map(Resource::title).zip(states).collect::<HashMap<_, _>>();
            let blobs = blobs.get(&host.address()).map_or(&[][..], Vec::as_slice);
            let mut missing: HashMap<Digest, u64> = lacks(host, blobs).await?;
            if is_unpacked(resources, &states) {
                let workloads = workloads_of(desired, host.address());
                missing.retain(|digest, _| workloads.contains(digest));
            }
            Ok(HostObserved { states, missing })
        })
        .await?;
    Ok(ObservedState { hosts })
}

/// The blobs that a host lacks, and how many bytes of each.
async fn lacks(host: &Host, blobs: &[Blob]) -> Result<HashMap<Digest, u64>> {
    if blobs.is_empty() {
        return Ok(HashMap::new());
    }
    let missing = host.missing(blobs).await?;
    Ok(missing.into_iter().map(|(blob, offset)| (blob.digest, blob.size.saturating_sub(offset))).collect())
}

/// A root file system that is unpacked needs its blobs no more.
fn is_unpacked(resources: &[Resource], states: &HashMap<String, Result<State, String>>) -> bool {
    let rootfs = resources.iter().find(|resource| matches!(resource, Resource::Rootfs(_)));
    rootfs.is_some_and(|rootfs| matches!(states.get(&rootfs.title()), Some(Ok(State::Present))))
}

/// What the registry on this host serves; nothing where there is none.
pub fn workloads_of(desired: &DesiredState, address: IpAddr) -> Vec<Digest> {
    let host = desired.registry_hosts().into_iter().find(|host| host.address() == address);
    host.map(|host| desired.part(host).workload_blobs.iter().map(|blob| blob.digest).collect()).unwrap_or_default()
}

/// Waits for a kubeadm that an earlier, interrupted run started: it ends in a unit of its own.
async fn wait_for_kubeadm(host: &Host, ctx: &Context) -> Result<()> {
    let line = "for i in $(seq 1800); do systemctl is-active --quiet sealift-kubeadm.service || exit 0; \
        [ $i != 1 ] || echo 'waits for kubeadm, which an earlier run started'; sleep 0.5; done; exit 1";
    let output = ctx.or_cancelled(host.exec(&Exec::shell(line), ctx)).await?;
    if output.status != 0 {
        return Err(Failure::failed("kubeadm of an earlier run does not end")
            .hint("look at `systemctl status sealift-kubeadm` there")
            .into());
    }
    Ok(())
}
