//! Removes the hosts that left the Clusterfile: drained, out of etcd, their changes undone, their nodes deleted.

use super::{Action, DesiredResource, Stage};
use crate::cluster::{DepartingHost, DesiredState};
use crate::resource::{AbsentEtcdMember, AbsentNode, DrainedNode, Resource};

pub static STAGE: Stage = Stage { name: "remove", after: &["network"], one_by_one: true, verifies: false, desired_resources };

/// Runs when the lease is released, which one of these hosts may hold.
pub static PURGE: Stage = Stage { name: "purge", after: &[], one_by_one: false, verifies: false, desired_resources: purge };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    desired.departing.iter().filter(|host| host.is_removed()).flat_map(|host| resources(desired, host)).collect()
}

fn resources(desired: &DesiredState, host: &DepartingHost) -> Vec<DesiredResource> {
    let address = host.address();
    let step = |on, action| DesiredResource { host: on, subject: address, action };
    let on_leader = |resource| step(desired.leader().address(), Action::Resource(resource));
    let membership = desired.membership.as_ref().filter(|_| desired.is_kubernetes());
    let node = membership.and_then(|membership| membership.node(address));
    let mut steps = Vec::new();
    if let Some(node) = node.filter(|node| node.ready) {
        let drain = DrainedNode { node: node.name.clone(), timeout_seconds: desired.drain_timeout };
        steps.push(on_leader(Resource::DrainedNode(drain)));
    }
    if membership.is_some_and(|membership| membership.etcd_member(address).is_some()) {
        steps.push(on_leader(Resource::AbsentEtcdMember(AbsentEtcdMember::of(address))));
    }
    if host.changed {
        steps.push(step(address, Action::Undo));
    }
    steps.extend(node.map(|node| on_leader(Resource::AbsentNode(AbsentNode { node: node.name.clone() }))));
    steps
}

fn purge(desired: &DesiredState) -> Vec<DesiredResource> {
    let connected = desired.departing.iter().filter(|host| host.reachable);
    connected.map(|host| DesiredResource { host: host.address(), subject: host.address(), action: Action::Purge }).collect()
}
