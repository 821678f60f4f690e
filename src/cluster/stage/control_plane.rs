//! Sets up the masters, one after the other: two joins at once could cost etcd its quorum.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::kubernetes;

pub static STAGE: Stage =
    Stage { name: "control plane", after: &["leave", "registry"], one_by_one: true, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    desired.masters().flat_map(|host| on(host, kubernetes::resources(desired, host))).collect()
}
