//! The observed state: facts about hosts, the state of their resources, the blobs that they lack.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;

use super::plan::Unreachable;
use super::stage::{Action, DesiredResource, STAGES};
use super::{DesiredState, Hosts};
use crate::error::Failure;
use crate::events::Context;
use crate::host::facts::{Facts, FactsRequest};
use crate::host::{Exec, Host};
use crate::image::{Blob, Digest};
use crate::resource::{AppliedResource, KUBEADM_TIMEOUT, Resource, State};

/// The observed state of everything that is desired, host by host.
#[derive(Debug, Default)]
pub struct ObservedState {
    hosts: BTreeMap<IpAddr, ObservedHost>,
    unreachable: Vec<Unreachable>,
}

#[derive(Debug, Default)]
struct ObservedHost {
    /// The state of resources by title, which is unique on a host; the error if the check failed.
    states: HashMap<String, Result<State, String>>,
    /// The missing blobs, and how many bytes of each are missing.
    missing: HashMap<Digest, u64>,
    /// The resources that were applied and not undone.
    applied: Vec<AppliedResource>,
}

impl ObservedState {
    /// The resources that were applied on each host and not undone.
    pub fn applied(&self) -> impl Iterator<Item = (IpAddr, &AppliedResource)> {
        self.hosts.iter().flat_map(|(address, host)| host.applied.iter().map(|applied| (*address, applied)))
    }

    /// The hosts that are not reachable.
    pub fn unreachable(&self) -> &[Unreachable] {
        &self.unreachable
    }

    /// The state of a resource on a host; `None` if it was not checked.
    pub fn state(&self, host: IpAddr, resource: &Resource) -> Option<&Result<State, String>> {
        self.hosts.get(&host)?.states.get(&resource.title())
    }

    /// How many bytes of a blob are missing on a host; `None` if it has the blob.
    pub fn missing(&self, host: IpAddr, blob: &Digest) -> Option<u64> {
        self.hosts.get(&host)?.missing.get(blob).copied()
    }
}

/// Gathers the facts about every host, and the offset of its clock from ours in nanoseconds.
pub async fn gather_facts(hosts: &Hosts, request: &FactsRequest) -> Result<BTreeMap<IpAddr, (Facts, i64)>> {
    hosts
        .on_all(|host| async move {
            let sent = now();
            let facts = host.facts(request).await?;
            let midpoint = sent / 2 + now() / 2;
            let offset = i64::try_from(i128::from(facts.clock_ns) - i128::from(midpoint)).unwrap_or(i64::MAX);
            Ok((facts, offset))
        })
        .await
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Observes the state of everything that is desired: one request to each host for resources, one for blobs.
///
/// A host that does not answer any more is an error; those in `unreachable` are not asked.
pub async fn observe(desired: &DesiredState, hosts: &Hosts, unreachable: &[Unreachable]) -> Result<ObservedState> {
    let mut resources: BTreeMap<IpAddr, Vec<Resource>> = BTreeMap::new();
    let mut blobs: BTreeMap<IpAddr, Vec<Blob>> = BTreeMap::new();
    for DesiredResource { host, action, .. } in STAGES.iter().flat_map(|stage| stage.reachable_resources(desired)) {
        match action {
            Action::Revert(_) | Action::Undo | Action::Purge => {}
            Action::Distribute(list) => blobs.entry(host).or_default().extend(list),
            Action::Resource(resource) => resources.entry(host).or_default().push(resource),
        }
    }
    let (resources, blobs) = (&resources, &blobs);
    let hosts = hosts
        .on_all(|host| async move {
            let resources = resources.get(&host.address()).map_or(&[][..], Vec::as_slice);
            let states = host.check(resources).await?;
            let states = resources.iter().map(Resource::title).zip(states).collect::<HashMap<_, _>>();
            let blobs = blobs.get(&host.address()).map_or(&[][..], Vec::as_slice);
            let mut missing: HashMap<Digest, u64> = missing_blobs(host, blobs).await?;
            // what is undone first needs its blobs again
            let rejoins = desired.hosts.iter().any(|desired| desired.address() == host.address() && desired.rejoins);
            if !rejoins {
                let unneeded = unneeded_blobs(desired, host.address(), resources, &states);
                missing.retain(|digest, _| !unneeded.contains(digest));
            }
            Ok(ObservedHost { states, missing, applied: host.applied().await? })
        })
        .await?;
    Ok(ObservedState { hosts, unreachable: unreachable.to_vec() })
}

/// The blobs that are missing on a host, and how many bytes of each.
async fn missing_blobs(host: &Host, blobs: &[Blob]) -> Result<HashMap<Digest, u64>> {
    if blobs.is_empty() {
        return Ok(HashMap::new());
    }
    let missing = host.missing(blobs).await?;
    Ok(missing.into_iter().map(|(blob, offset)| (blob.digest, blob.size.saturating_sub(offset))).collect())
}

/// The blobs of the root file systems that are unpacked, but for those that other things on the host need.
fn unneeded_blobs(
    desired: &DesiredState,
    address: IpAddr,
    resources: &[Resource],
    states: &HashMap<String, Result<State, String>>,
) -> HashSet<Digest> {
    let parts = desired.image.parts.iter().chain(desired.app_images.iter().flat_map(|image| &image.parts));
    let blobs_of = |rootfs: &Blob| {
        let part = parts.clone().find(|part| part.rootfs == *rootfs);
        part.into_iter().flat_map(|part| &part.rootfs_blobs).map(|blob| blob.digest).collect::<Vec<_>>()
    };
    let mut unneeded: HashSet<Digest> = HashSet::new();
    let mut needed: HashSet<Digest> = workload_blobs_of(desired, address).into_iter().collect();
    for resource in resources {
        let Resource::Rootfs(rootfs) = resource else { continue };
        let unpacked = matches!(states.get(&resource.title()), Some(Ok(State::Present)));
        if unpacked { unneeded.extend(blobs_of(&rootfs.manifest)) } else { needed.extend(blobs_of(&rootfs.manifest)) }
    }
    unneeded.retain(|digest| !needed.contains(digest));
    unneeded
}

/// The blobs that the local registry on this host serves; empty if the host runs none.
fn workload_blobs_of(desired: &DesiredState, address: IpAddr) -> Vec<Digest> {
    let Some(host) = desired.registry_hosts().into_iter().find(|host| host.address() == address) else { return Vec::new() };
    let apps = desired.app_images.iter().filter_map(|image| image.part(&host.machine).ok());
    apps.chain([desired.part(host)]).flat_map(|part| &part.workload_blobs).map(|blob| blob.digest).collect()
}

/// Waits up to [`KUBEADM_TIMEOUT`] for a kubeadm that an interrupted run started: it continues in a systemd unit of its own.
///
/// # Errors
/// Fails if it is still running then.
pub async fn wait_for_kubeadm(host: &Host, ctx: &Context) -> Result<()> {
    let seconds = KUBEADM_TIMEOUT.as_secs();
    let line = format!(
        "for i in $(seq {}); do systemctl is-active --quiet sealift-kubeadm.service || exit 0; \
        [ $i != 1 ] || echo 'waiting for kubeadm, which an earlier run started'; sleep 0.5; done; exit 1",
        2 * seconds
    );
    let output = ctx.or_cancelled(host.exec(&Exec::shell(&line), ctx)).await?;
    if output.status != 0 {
        return Err(Failure::failed(format!("{}: kubeadm of an earlier run is still running after {} minutes", host.name(), seconds / 60))
            .hint("run `systemctl status sealift-kubeadm` on that host; if it hangs, `systemctl stop sealift-kubeadm` ends it, and the next run starts kubeadm again")
            .into());
    }
    Ok(())
}
