//! Prepares the hosts: marks them as hosts of the cluster, tunes the operating system, fills `/etc/hosts`.

use std::net::{IpAddr, Ipv4Addr};

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

/// Names in `/etc/hosts`: the hosts themselves, the API server, the registry, aliases of the Clusterfile.
fn entries(desired: &DesiredState, host: &DesiredHost) -> Vec<HostsEntry> {
    let mut names: Vec<(&str, IpAddr)> = Vec::new();
    if desired.is_kubernetes() {
        names.extend(desired.named_hosts().map(|other| (other.name.as_str(), other.address())));
        names.push((api_server::NAME, if host.spec.is_master() { host.address() } else { Ipv4Addr::LOCALHOST.into() }));
    }
    let registries = desired.registry_hosts();
    if let (Some(first), Some(local)) = (registries.first(), &desired.clusterfile.cluster.registry.local) {
        let local_registry = registries.iter().find(|registry| registry.address() == host.address());
        names.push((&local.domain, local_registry.unwrap_or(first).address()));
    }
    for alias in &desired.clusterfile.cluster.host_aliases {
        names.extend(alias.hostnames.iter().map(|name| (name.as_str(), alias.ip)));
    }
    by_name(names)
}

/// One entry for each name, with all of its addresses. The first one is what most programs use.
fn by_name(names: Vec<(&str, IpAddr)>) -> Vec<HostsEntry> {
    let mut entries: Vec<HostsEntry> = Vec::new();
    for (name, address) in names {
        match entries.iter_mut().find(|entry| entry.name == name) {
            None => entries.push(HostsEntry::new(name, address)),
            Some(entry) if entry.address == address || entry.more.contains(&address) => {}
            Some(entry) => entry.more.push(address),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_entry_with_all_its_addresses() {
        let [one, two]: [IpAddr; 2] = ["10.0.0.1", "fd00::1"].map(|address| address.parse().unwrap());
        let entries = by_name(vec![("h1", one), ("db", one), ("db", two), ("h1", one), ("db", two)]);
        assert_eq!(entries, [HostsEntry::new("h1", one), HostsEntry { more: vec![two], ..HostsEntry::new("db", one) }]);
    }
}
