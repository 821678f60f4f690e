//! Joins the workers, in parallel. Without Kubernetes, runs the image's install scripts on every host.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::{kubernetes, load_balancer, none};

pub static STAGE: Stage =
    Stage { name: "workers", after: &["registry", "control plane"], one_by_one: false, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    if !desired.is_kubernetes() {
        return desired.hosts.iter().flat_map(|host| on(host, none::install(desired, host))).collect();
    }
    let resources = |host| load_balancer::resources(desired).into_iter().chain(kubernetes::resources(desired, host));
    desired.workers().flat_map(|host| on(host, resources(host))).collect()
}
