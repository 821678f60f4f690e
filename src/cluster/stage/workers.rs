//! The workers, all at once; or, without Kubernetes, whatever the image's scripts bring up on every host.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::{kubernetes, load_balancer, none};

pub static STAGE: Stage = Stage { name: "workers", one_by_one: false, verifies: false, wants };

fn wants(desired: &DesiredState) -> Vec<DesiredResource> {
    if !desired.is_kubernetes() {
        return desired.hosts.iter().flat_map(|host| on(host, none::install(desired, host))).collect();
    }
    let resources = |host| load_balancer::resources(desired).into_iter().chain(kubernetes::resources(desired, host));
    desired.workers().flat_map(|host| on(host, resources(host))).collect()
}
