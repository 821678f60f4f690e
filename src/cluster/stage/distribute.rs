//! Distributes the image: missing blobs to the hosts, the root file system unpacked and its files installed.

use std::path::PathBuf;

use super::{Action, DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::sealer;
use crate::resource::{File, HostFiles, Resource, Rootfs};

pub static STAGE: Stage = Stage { name: "distribute", after: &[], one_by_one: false, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    let registries: Vec<_> = desired.registry_hosts().iter().map(|host| host.address()).collect();
    let mut resources = Vec::new();
    for host in &desired.hosts {
        let part = desired.part(host);
        let mut blobs = part.rootfs_blobs.clone();
        let app_parts: Vec<_> = desired.app_images.iter().filter_map(|image| image.part(&host.machine).ok()).collect();
        let launches = host.address() == desired.leader().address();
        if launches {
            blobs.extend(app_parts.iter().flat_map(|part| &part.rootfs_blobs));
        }
        if registries.contains(&host.address()) {
            blobs.extend(app_parts.iter().chain([&part]).flat_map(|part| &part.workload_blobs));
        }
        resources.push(DesiredResource { host: host.address(), subject: host.address(), action: Action::Distribute(blobs) });
        let rootfs = Rootfs { manifest: part.rootfs, current: true };
        let files: Vec<Resource> =
            part.overridden.iter().map(|(path, content)| overridden_file(rootfs.path().join(path), content)).collect();
        let host_files = HostFiles { manifest: part.rootfs.digest, env: host.env.clone(), mappings: sealer::path_mappings(part) };
        resources.extend(on(host, [vec![Resource::Rootfs(rootfs)], files, vec![Resource::HostFiles(host_files)]].concat()));
        // applications are launched by the leader alone
        let app_parts = app_parts.iter().filter(|_| launches);
        resources.extend(app_parts.flat_map(|part| {
            let rootfs = Rootfs { manifest: part.rootfs, current: false };
            let files: Vec<Resource> =
                part.overridden.iter().map(|(path, content)| overridden_file(rootfs.path().join(path), content)).collect();
            on(host, [vec![Resource::Rootfs(rootfs)], files].concat())
        }));
    }
    resources
}

/// A file of the root file system that the Clusterfile overrides. Readable by root alone, as it may contain secrets, unless it lies
/// below `host/`, for programs of the host.
fn overridden_file(path: PathBuf, content: &[u8]) -> Resource {
    let public = path.components().any(|part| part.as_os_str() == "host");
    let executable = content.starts_with(b"#!") || path.extension().is_some_and(|extension| extension == "sh");
    let mode = if public { 0o644 } else { 0o600 } | if executable { 0o100 } else { 0 };
    Resource::File(File::new(path, content.to_vec(), mode))
}
