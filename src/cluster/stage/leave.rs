//! Takes hosts out of the cluster before others join: those whose role changes, which join again afterwards, and what the cluster still
//! has of hosts that were installed anew or whose join failed.

use super::{Action, DesiredResource, Stage};
use crate::cluster::{DesiredHost, DesiredState, Membership};
use crate::resource::{AbsentEtcdMember, AbsentNode, DrainedNode, Resource};

pub static STAGE: Stage = Stage { name: "leave", after: &[], one_by_one: true, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    let Some(membership) = &desired.membership else { return Vec::new() };
    let leaving = desired.hosts.iter().filter(|host| host.reachable);
    if !desired.is_kubernetes() {
        return Vec::new();
    }
    leaving.flat_map(|host| resources(desired, membership, host)).collect()
}

fn resources(desired: &DesiredState, membership: &Membership, host: &DesiredHost) -> Vec<DesiredResource> {
    if membership.is_member(host.address()) && !host.rejoins {
        return Vec::new();
    }
    let address = host.address();
    let step = |on, action| DesiredResource { host: on, subject: address, action };
    let on_contact = |resource| step(desired.contact(), Action::Resource(resource));
    let node = membership.node(address).or_else(|| membership.nodes.iter().find(|node| node.name == host.name));
    let mut steps = Vec::new();
    if host.rejoins {
        let drain = |node: &str| DrainedNode { node: node.to_owned(), timeout_seconds: desired.drain_timeout };
        steps.extend(node.map(|node| on_contact(Resource::DrainedNode(drain(&node.name)))));
    }
    if membership.etcd_member(address).is_some() {
        steps.push(on_contact(Resource::AbsentEtcdMember(AbsentEtcdMember::of(address))));
    }
    if host.rejoins {
        steps.push(step(address, Action::Undo));
    }
    steps.extend(node.map(|node| on_contact(Resource::AbsentNode(AbsentNode { node: node.name.clone() }))));
    steps
}
