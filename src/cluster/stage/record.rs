//! Stores the Clusterfile on the masters for the next operator, once the hosts are those that it names.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::paths;
use crate::resource::{File, Resource};

pub static STAGE: Stage =
    Stage { name: "record", after: &["workers", "network", "remove"], one_by_one: false, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    let file = File::new(format!("{}/{}/Clusterfile", paths::CLUSTERS, desired.name()), desired.stored_clusterfile.as_str(), 0o600);
    desired.masters().flat_map(|master| on(master, [Resource::File(file.clone())])).collect()
}
