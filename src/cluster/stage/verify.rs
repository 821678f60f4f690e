//! Checks the cluster as a whole.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::none;
use crate::resource::{KubeHealth, Resource};

pub static STAGE: Stage = Stage {
    name: "verify",
    after: &[
        "prepare",
        "distribute",
        "container runtime",
        "registry",
        "control plane",
        "workers",
        "network",
        "remove",
        "record",
        "apps",
        "tidy",
    ],
    one_by_one: false,
    verifies: true,
    desired_resources,
};

/// How long pods may take to pull and start on a slow disk, in seconds.
const POD_TIMEOUT: u64 = 300;

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    let mut resources = Vec::new();
    if desired.is_kubernetes() {
        let nodes = desired.hosts.iter().filter(|host| host.reachable).map(|host| host.name.clone()).collect();
        resources.extend(on(desired.leader(), [Resource::KubeHealth(KubeHealth { nodes, timeout_seconds: POD_TIMEOUT })]));
    } else {
        resources.extend(desired.hosts.iter().flat_map(|host| on(host, none::verify(desired, host))));
    }
    resources
}
