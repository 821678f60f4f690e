//! Sets up containerd and its registry mirrors, and enables the kubelet, which starts once kubeadm has configured it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{DesiredResource, Stage, on};
use crate::cluster::runtime::{kubernetes, sealer};
use crate::cluster::{DesiredHost, DesiredState};
use crate::image::Digest;
use crate::paths;
use crate::resource::{Endpoint, File, OwnedDirectory, RegistryMirror, Resource, SystemdUnit};
use crate::template;

pub static STAGE: Stage = Stage { name: "container runtime", after: &[], one_by_one: false, verifies: false, desired_resources };

/// Directories of containerd, the kubelet and kubeadm; a reset removes them.
const DIRECTORIES: [&str; 10] = [
    "/etc/cni/net.d",
    "/etc/kubernetes",
    "/opt/containerd",
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];
/// The files that containerd reads: it is restarted when one changes.
pub const CONTAINERD_FILES: [&str; 3] = ["/etc/systemd/system/containerd.service", "/etc/containerd/config.toml", "/usr/bin/containerd"];

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
        resources.push(Resource::SystemdUnit(containerd(desired, host)));
        resources.push(kubernetes::enabled_kubelet());
        on(host, resources)
    };
    desired.hosts.iter().flat_map(host_resources).collect()
}

/// Its unit, with the digests that its files shall have as far as the image brings them.
fn containerd(desired: &DesiredState, host: &DesiredHost) -> SystemdUnit {
    let part = desired.part(host);
    let digest = |path: &&str| {
        let file = format!("host{path}");
        if let Some(bytes) = part.files.get(Path::new(&file)) {
            return Some(Digest::of(bytes));
        }
        if let Some(text) = part.text(&format!("{file}.tmpl")) {
            return template::render(&file, text, &host.env).ok().map(|text| Digest::of(text.as_bytes()));
        }
        part.unit_files.get(Path::new(&file)).copied()
    };
    let contents = CONTAINERD_FILES.iter().filter_map(|path| Some((PathBuf::from(path), digest(path)?))).collect();
    SystemdUnit { contents, ..SystemdUnit::running("containerd.service", CONTAINERD_FILES) }
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
