//! What the nodes are for, and the pod network: without it no node is ready.

use super::{Stage, Want, on};
use crate::app;
use crate::cluster::Desired;
use crate::cluster::runtime::kubernetes;
use crate::image::Role;
use crate::resource::Resource;

pub static STAGE: Stage = Stage { name: "network", one_by_one: false, wants };

fn wants(desired: &Desired) -> Vec<Want> {
    if !desired.is_kubernetes() {
        return Vec::new();
    }
    let mut resources: Vec<Resource> = desired.hosts.iter().filter_map(kubernetes::node).collect();
    for app in desired.config().apps.iter().filter(|app| app.role == Some(Role::Cni)) {
        resources.extend(app::resources(desired, app));
    }
    on(desired.first_master(), resources)
}
