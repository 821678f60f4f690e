//! The stages of a run, one file each. A stage returns the desired resources of every host; it changes nothing.
//!
//! Before them, hosts are connected ([`super::Hosts`]) and checked ([`super::preflight`]).

mod apps;
mod clean_up;
mod container_runtime;
mod control_plane;
mod distribute;
mod leave;
mod network;
mod prepare;
mod record;
mod registry;
mod remove;
mod verify;
mod workers;

use std::net::IpAddr;

pub use container_runtime::CONTAINERD_FILES;

use super::{DesiredHost, DesiredState};
use crate::image::Blob;
use crate::resource::{AppliedResource, Resource};

/// A stage of a run.
#[derive(Debug)]
pub struct Stage {
    /// Its name, as plans and progress show it.
    pub name: &'static str,
    /// The stages that must have ended on all hosts before this one starts on any. On one host the stages run in their order anyway.
    pub after: &'static [&'static str],
    /// Whether hosts are changed one after the other, in the order of the resources; else in parallel.
    pub one_by_one: bool,
    /// Whether it verifies rather than changes: after a change its checks run even if there is no drift, and its errors are of kind
    /// `Verification`.
    pub verifies: bool,
    /// The desired resources of all hosts, in the order they are applied. Pure.
    pub desired_resources: fn(&DesiredState) -> Vec<DesiredResource>,
}

impl Stage {
    /// The desired resources of the hosts that are reachable, in the order they are applied.
    pub fn reachable_resources(&self, desired: &DesiredState) -> Vec<DesiredResource> {
        let mut resources = (self.desired_resources)(desired);
        resources.retain(|resource| desired.is_reachable(resource.host));
        resources
    }
}

/// A desired resource of a host.
#[derive(Debug, Clone)]
pub struct DesiredResource {
    /// The address of the host that it is applied on.
    pub host: IpAddr,
    /// The host that it is for: another one where a control plane node removes it from the cluster.
    pub subject: IpAddr,
    /// What to apply there.
    pub action: Action,
}

/// What is applied to a host.
#[derive(Debug, Clone)]
pub enum Action {
    /// Blobs of the image are sent to its store.
    Distribute(Vec<Blob>),
    /// A resource is applied by the agent.
    Resource(Resource),
    /// The changes of one resource are undone, as nobody wants it any more.
    Revert(AppliedResource),
    /// All changes in the host's undo ledger are undone.
    Undo,
    /// sealift's own files are removed from the host.
    Purge,
}

impl Action {
    /// What it applies, apart from how: `sysctl/vm.swappiness`. Unique on a host within a stage.
    pub fn id(&self) -> String {
        match self {
            Action::Distribute(_) => "blobs".to_owned(),
            Action::Resource(resource) => resource.id(),
            Action::Revert(applied) => applied.id.clone(),
            Action::Undo => "changes".to_owned(),
            Action::Purge => "sealift".to_owned(),
        }
    }

    /// A short title for plans and progress.
    pub fn title(&self) -> String {
        match self {
            Action::Distribute(_) => "blobs of the image".to_owned(),
            Action::Resource(resource) => resource.title(),
            Action::Revert(applied) => applied.title.clone(),
            Action::Undo => "all changes on the host".to_owned(),
            Action::Purge => "sealift and its store".to_owned(),
        }
    }
}

/// All stages, in the order they run.
pub static STAGES: [&Stage; 14] = [
    &leave::STAGE,
    &prepare::STAGE,
    &distribute::STAGE,
    &container_runtime::STAGE,
    &registry::STAGE,
    &control_plane::STAGE,
    &workers::STAGE,
    &network::STAGE,
    &remove::STAGE,
    &record::STAGE,
    &apps::STAGE,
    &TIDY,
    &verify::STAGE,
    &clean_up::STAGE,
];

/// Resources for one host.
fn on(host: &DesiredHost, resources: impl IntoIterator<Item = Resource>) -> Vec<DesiredResource> {
    let address = host.address();
    let desired = |resource| DesiredResource { host: address, subject: address, action: Action::Resource(resource) };
    resources.into_iter().map(desired).collect()
}

/// The stage after the last one, when the lease is released: sealift itself goes from the hosts that left.
pub static PURGE: &Stage = &remove::PURGE;

/// Undoes what was applied once and is not wanted any more. What that is, the undo ledgers of the hosts say: see
/// [`Plan::new`](super::Plan::new).
pub static TIDY: Stage =
    Stage { name: "tidy", after: &["apps", "workers"], one_by_one: false, verifies: false, desired_resources: |_| Vec::new() };
