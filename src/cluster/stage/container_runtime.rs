//! containerd, and where it gets images from.

use std::net::SocketAddr;

use super::{Stage, Want, on};
use crate::cluster::{Desired, DesiredHost};
use crate::resource::{Mirror, OwnedTree, Resource, Unit};

pub static STAGE: Stage = Stage { name: "container runtime", one_by_one: false, verifies: false, wants };

/// Filled by containerd, the kubelet and kubeadm; gone after a reset.
const TREES: [&str; 9] = [
    "/etc/cni/net.d",
    "/etc/kubernetes",
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];
/// What decides whether a running containerd is current.
const INPUTS: [&str; 3] = ["/etc/systemd/system/containerd.service", "/etc/containerd/config.toml", "/usr/bin/containerd"];

fn wants(desired: &Desired) -> Vec<Want> {
    if !desired.is_kubernetes() {
        return Vec::new();
    }
    let mirror = Mirror::of_all(endpoints(desired));
    let of = |host: &DesiredHost| {
        let mut resources: Vec<Resource> = TREES.map(|path| Resource::OwnedTree(OwnedTree { path: path.into() })).into();
        if !mirror.endpoints.is_empty() {
            resources.push(Resource::Mirror(mirror.clone()));
        }
        resources.push(Resource::Unit(Unit::running("containerd.service", INPUTS)));
        on(host, resources)
    };
    desired.hosts.iter().flat_map(of).collect()
}

/// The URLs of the registries on site, by address: no name needs to resolve.
fn endpoints(desired: &Desired) -> Vec<String> {
    let registry = &desired.clusterfile.cluster.registry;
    let local = desired.registry_hosts().into_iter().filter_map(|host| {
        let port = registry.local.as_ref()?.port;
        Some(format!("http://{}", SocketAddr::new(host.address(), port)))
    });
    let external = registry.external.iter().map(|external| match external.port {
        Some(port) => format!("https://{}:{port}", external.domain),
        None => format!("https://{}", external.domain),
    });
    local.chain(external).collect()
}
