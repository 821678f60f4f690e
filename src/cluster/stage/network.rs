//! What the nodes are for, and the pod network: without it no node is ready.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::kubernetes;
use crate::image::Role;
use crate::resource::Resource;

pub static STAGE: Stage = Stage { name: "network", one_by_one: false, verifies: false, wants };

fn wants(desired: &DesiredState) -> Vec<DesiredResource> {
    if !desired.is_kubernetes() {
        return Vec::new();
    }
    let mut resources: Vec<Resource> = desired.hosts.iter().filter_map(kubernetes::node).collect();
    resources.extend(desired.applications().of_role(Role::Cni));
    on(desired.first_master(), resources)
}
