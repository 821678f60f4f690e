//! Prepares the hosts: marks them as hosts of the cluster, tunes the operating system, fills `/etc/hosts`.

use std::net::Ipv4Addr;

use super::{DesiredResource, Stage, on};
use crate::cluster::{DesiredHost, DesiredState, api_server, os_settings};
use crate::paths;
use crate::resource::{Directory, HostsEntry, Resource};

pub static STAGE: Stage = Stage { name: "prepare", after: &[], one_by_one: false, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    desired.hosts.iter().flat_map(|host| on(host, host_resources(desired, host))).collect()
}

fn host_resources(desired: &DesiredState, host: &DesiredHost) -> Vec<Resource> {
    // first of all: by this directory a host is recognized as one of this cluster
    let mut resources = vec![Resource::Directory(Directory::new(format!("{}/{}", paths::CLUSTERS, desired.name()), 0o755))];
    if desired.is_kubernetes() {
        resources.extend(os_settings::kubernetes());
    }
    resources.extend(entries(desired, host).into_iter().map(Resource::HostsEntry));
    resources
}

/// Names in `/etc/hosts`: aliases of the Clusterfile, the hosts themselves, the API server, the registry.
fn entries(desired: &DesiredState, host: &DesiredHost) -> Vec<HostsEntry> {
    let entry = |name: &str, address| HostsEntry { name: name.to_owned(), address };
    let mut entries = Vec::new();
    for alias in &desired.clusterfile.cluster.host_aliases {
        entries.extend(alias.hostnames.iter().map(|name| entry(name, alias.ip)));
    }
    if desired.is_kubernetes() {
        entries.extend(desired.named_hosts().map(|other| entry(&other.name, other.address())));
        let api = if host.spec.is_master() { host.address() } else { Ipv4Addr::LOCALHOST.into() };
        entries.push(entry(api_server::NAME, api));
    }
    let registries = desired.registry_hosts();
    if let (Some(first), Some(local)) = (registries.first(), &desired.clusterfile.cluster.registry.local) {
        let local_registry = registries.iter().find(|registry| registry.address() == host.address());
        entries.push(entry(&local.domain, local_registry.unwrap_or(first).address()));
    }
    entries
}
