//! Checks the cluster as a whole, and stores its Clusterfile on the masters for the next operator.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::none;
use crate::paths;
use crate::resource::{File, KubeHealth, Resource};

pub static STAGE: Stage = Stage {
    name: "verify",
    after: &["prepare", "distribute", "container runtime", "registry", "control plane", "workers", "network", "remove", "apps", "tidy"],
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
    let file = File::new(format!("{}/{}/Clusterfile", paths::CLUSTERS, desired.name()), desired.stored_clusterfile.as_str(), 0o600);
    resources.extend(desired.masters().flat_map(|master| on(master, [Resource::File(file.clone())])));
    resources
}
