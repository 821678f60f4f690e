//! The stages of a run, one file each. A stage returns the desired resources of every host; it changes nothing.
//!
//! Before them, hosts are connected ([`super::Hosts`]) and checked ([`super::preflight`]).

mod apps;
mod container_runtime;
mod control_plane;
mod distribute;
mod network;
mod prepare;
mod registry;
mod verify;
mod workers;

use std::net::IpAddr;

use super::{DesiredHost, DesiredState};
use crate::image::Blob;
use crate::resource::Resource;

/// A stage of a run.
#[derive(Debug)]
pub struct Stage {
    /// Its name, as plans and progress show it.
    pub name: &'static str,
    /// Whether hosts are changed one after the other, in the order of the resources; else in parallel.
    pub one_by_one: bool,
    /// Whether it verifies rather than changes: after a change its scripts run even if their check finds no drift, and its errors are
    /// of kind `Verification`.
    pub verifies: bool,
    /// The desired resources of all hosts, in the order they are applied. Pure.
    pub desired_resources: fn(&DesiredState) -> Vec<DesiredResource>,
}

/// A desired resource of a host.
#[derive(Debug, Clone)]
pub struct DesiredResource {
    /// The address of the host.
    pub host: IpAddr,
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
}

impl Action {
    /// A short title for plans and progress.
    pub fn title(&self) -> String {
        match self {
            Action::Distribute(_) => "blobs of the image".to_owned(),
            Action::Resource(resource) => resource.title(),
        }
    }
}

/// All stages, in the order they run.
pub static STAGES: [&Stage; 9] = [
    &prepare::STAGE,
    &distribute::STAGE,
    &container_runtime::STAGE,
    &registry::STAGE,
    &control_plane::STAGE,
    &workers::STAGE,
    &network::STAGE,
    &apps::STAGE,
    &verify::STAGE,
];

/// Resources for one host.
fn on(host: &DesiredHost, resources: impl IntoIterator<Item = Resource>) -> Vec<DesiredResource> {
    let address = host.address();
    resources.into_iter().map(|resource| DesiredResource { host: address, action: Action::Resource(resource) }).collect()
}
