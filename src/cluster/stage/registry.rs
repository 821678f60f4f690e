//! Sets up the local registry, which serves container images from the host's store.

use super::{DesiredResource, Stage, on};
use secrecy::ExposeSecret as _;

use crate::cluster::{DesiredHost, DesiredState, ImageContent};
use crate::clusterfile::LocalRegistry;
use crate::image::UNKNOWN_REGISTRY;
use crate::paths;
use crate::resource::{File, Htpasswd, Resource, StoredImage, SystemdUnit};

pub static STAGE: Stage = Stage { name: "registry", after: &[], one_by_one: false, verifies: false, desired_resources };

const UNIT: &str = "sealift-registry.service";

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    let default = LocalRegistry::default();
    let registry = desired.clusterfile.cluster.registry.local.as_ref().unwrap_or(&default);
    desired.registry_hosts().into_iter().flat_map(|host| on(host, host_resources(desired, registry, host))).collect()
}

fn host_resources(desired: &DesiredState, registry: &LocalRegistry, host: &DesiredHost) -> Vec<Resource> {
    let stored = |image: &ImageContent| {
        Resource::StoredImage(Box::new(StoredImage { name: image.name.clone(), descriptor: image.descriptor.clone() }))
    };
    let mut resources: Vec<Resource> = [&desired.image].into_iter().chain(&desired.app_images).map(stored).collect();
    let (path, mut options) = (format!("/etc/systemd/system/{UNIT}"), String::new());
    if let Some(certificate) = desired.registry_certificates.get(&host.address()) {
        options += &format!(" --tls-cert {0} --tls-key {0}", paths::REGISTRY_TLS);
        // a host keeps the certificate that it has: its key never leaves the host
        let new = certificate.file();
        resources.extend(new.map(|file| Resource::File(File::new(paths::REGISTRY_TLS, file.as_str(), 0o600))));
    }
    let own_name = format!("{}:{}", registry.domain, registry.port);
    if own_name != UNKNOWN_REGISTRY {
        options += &format!(" --name {UNKNOWN_REGISTRY} --name {own_name}");
    }
    if let Some((user, password)) = registry.username.as_ref().zip(registry.password.as_ref()) {
        options += &format!(" --htpasswd {}", paths::REGISTRY_USERS);
        let password = password.expose_secret().into();
        resources.push(Resource::Htpasswd(Htpasswd { path: paths::REGISTRY_USERS.into(), user: user.clone(), password }));
    }
    resources.push(Resource::File(File::new(path.as_str(), unit(registry.port, &options), 0o644)));
    resources.push(Resource::SystemdUnit(SystemdUnit::running(UNIT, [path.as_str(), paths::REGISTRY_TLS, paths::REGISTRY_USERS])));
    resources
}

fn unit(port: u16, options: &str) -> String {
    format!(
        "# written by sealift\n\
        [Unit]\nDescription=container images of the cluster\nAfter=network-online.target\nWants=network-online.target\n\n\
        [Service]\nExecStart={sealift} --store {store} registry serve --listen :{port}{options}\nRestart=always\nRestartSec=2\n\n\
        [Install]\nWantedBy=multi-user.target\n",
        sealift = paths::EXECUTABLE,
        store = paths::STORE
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_registry_listens_on_all_addresses_of_both_families() {
        assert!(super::unit(5000, " --name x").contains("registry serve --listen :5000 --name x\n"));
    }
}
