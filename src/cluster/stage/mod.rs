//! The stages of a run, in the order they run: one file each. A stage says what every host shall have; it does nothing.
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

/// A stage.
#[derive(Debug)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// Whether its hosts go one after the other, in the order of its wants.
    pub one_by_one: bool,
    /// Whether it looks whether all is well, rather than change anything: scripts run also where they were run before.
    pub verifies: bool,
    /// What hosts shall have once it is done, in order. Pure.
    pub wants: fn(&DesiredState) -> Vec<DesiredResource>,
}

/// Something that a host shall have.
#[derive(Debug, Clone)]
pub struct DesiredResource {
    /// The host.
    pub host: IpAddr,
    /// What it shall have.
    pub action: Action,
}

/// What a host shall have.
#[derive(Debug, Clone)]
pub enum Action {
    /// Blobs in its own store.
    Ship(Vec<Blob>),
    /// A resource.
    Resource(Resource),
}

impl Action {
    /// What it is, short.
    pub fn title(&self) -> String {
        match self {
            Action::Ship(_) => "blobs of the image".to_owned(),
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
