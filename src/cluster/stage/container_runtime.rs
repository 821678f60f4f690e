//! Sets up containerd and its registry mirrors.

use std::net::SocketAddr;

use super::{DesiredResource, Stage, on};
use crate::cluster::runtime::sealer;
use crate::cluster::{DesiredHost, DesiredState};
use crate::paths;
use crate::resource::{Endpoint, File, OwnedDirectory, RegistryMirror, Resource, SystemdUnit};

pub static STAGE: Stage = Stage { name: "container runtime", after: &[], one_by_one: false, verifies: false, desired_resources };

/// Directories of containerd, the kubelet and kubeadm; a reset removes them.
const DIRECTORIES: [&str; 9] = [
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
/// The files that containerd reads: it is restarted when one changes.
const CONTAINERD_FILES: [&str; 3] = ["/etc/systemd/system/containerd.service", "/etc/containerd/config.toml", "/usr/bin/containerd"];

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    if !desired.is_kubernetes() {
        return Vec::new();
    }
    let certificates: String = desired.registry_certificates.values().map(|certificate| certificate.pem.as_str()).collect();
    let mirror = RegistryMirror::all_registries(endpoints(desired));
    let host_resources = |host: &DesiredHost| {
        let mut resources: Vec<Resource> = DIRECTORIES.map(|path| Resource::OwnedDirectory(OwnedDirectory { path: path.into() })).into();
        resources.extend(sealer::container_runtime(desired, host));
        if !certificates.is_empty() {
            resources.push(Resource::File(File::new(paths::REGISTRY_CA, certificates.as_str(), 0o644)));
        }
        if !mirror.endpoints.is_empty() {
            let config_path = sealer::registry_config_path(desired.part(host)).unwrap_or_else(|| mirror.config_path.clone());
            resources.push(Resource::RegistryMirror(RegistryMirror { config_path, ..mirror.clone() }));
        }
        resources.push(Resource::SystemdUnit(SystemdUnit::running("containerd.service", CONTAINERD_FILES)));
        on(host, resources)
    };
    desired.hosts.iter().flat_map(host_resources).collect()
}

/// The local registries, by address, so that no name needs to resolve; then the external one.
fn endpoints(desired: &DesiredState) -> Vec<Endpoint> {
    let registry = &desired.clusterfile.cluster.registry;
    let local = desired.registry_hosts().into_iter().filter_map(|host| {
        let local = registry.local.as_ref()?;
        let place = SocketAddr::new(host.address(), local.port);
        let tls = desired.registry_certificates.contains_key(&host.address());
        let endpoint = Endpoint::new(format!("{}://{place}", if tls { "https" } else { "http" }));
        Some(endpoint.ca(tls.then_some(paths::REGISTRY_CA)).login(local.username.as_deref().zip(local.password.as_ref())))
    });
    let external = registry.external.iter().map(|external| {
        let port = external.port.map(|port| format!(":{port}")).unwrap_or_default();
        Endpoint::new(format!("https://{}{port}", external.domain)).login(external.username.as_deref().zip(external.password.as_ref()))
    });
    local.chain(external).collect()
}
