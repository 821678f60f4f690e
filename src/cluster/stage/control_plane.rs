//! The masters, one after the other: two at once would disturb the quorum of etcd.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::kubernetes;

pub static STAGE: Stage = Stage { name: "control plane", one_by_one: true, verifies: false, wants };

fn wants(desired: &DesiredState) -> Vec<DesiredResource> {
    desired.masters().flat_map(|host| on(host, kubernetes::resources(desired, host))).collect()
}
