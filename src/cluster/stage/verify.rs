//! The cluster as a whole, and its state for whoever comes next.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::none;
use crate::paths;
use crate::resource::{File, KubeHealth, Resource};

pub static STAGE: Stage = Stage { name: "verify", one_by_one: false, verifies: true, wants };

/// How long pods may take to pull and start on a slow disk, in seconds.
const PATIENCE: u64 = 300;

fn wants(desired: &DesiredState) -> Vec<DesiredResource> {
    let mut wants = Vec::new();
    if desired.is_kubernetes() {
        let nodes = desired.hosts.iter().map(|host| host.name.clone()).collect();
        wants.extend(on(desired.first_master(), [Resource::KubeHealth(KubeHealth { nodes, patience: PATIENCE })]));
    } else {
        wants.extend(desired.hosts.iter().flat_map(|host| on(host, none::verify(desired, host))));
    }
    let file = File::new(format!("{}/{}/Clusterfile", paths::CLUSTERS, desired.name()), desired.state.as_str(), 0o600);
    wants.extend(desired.masters().flat_map(|master| on(master, [Resource::File(file.clone())])));
    wants
}
