//! Labels and taints the nodes, and applies the CNI plugin: without a pod network no node is ready.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::kubernetes;
use crate::image::Role;
use crate::resource::Resource;

pub static STAGE: Stage =
    Stage { name: "network", after: &["control plane", "workers"], one_by_one: false, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    if !desired.is_kubernetes() {
        return Vec::new();
    }
    let mut resources: Vec<Resource> =
        desired.hosts.iter().filter(|host| host.reachable).filter_map(|host| kubernetes::node_settings(desired, host)).collect();
    resources.extend(desired.applications().of_role(Role::Cni));
    on(desired.leader(), resources)
}
