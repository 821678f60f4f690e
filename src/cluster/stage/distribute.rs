//! The image's content: blobs to the hosts that lack them, the root file system unpacked and installed.

use std::path::PathBuf;

use super::{Action, DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::cluster::runtime::sealer;
use crate::resource::{File, HostFiles, Resource, Rootfs};

pub static STAGE: Stage = Stage { name: "ship", one_by_one: false, verifies: false, wants };

fn wants(desired: &DesiredState) -> Vec<DesiredResource> {
    let registries: Vec<_> = desired.registry_hosts().iter().map(|host| host.address()).collect();
    let mut wants = Vec::new();
    for host in &desired.hosts {
        let part = desired.part(host);
        let mut blobs = part.rootfs_blobs.clone();
        if registries.contains(&host.address()) {
            blobs.extend(&part.workload_blobs);
        }
        wants.push(DesiredResource { host: host.address(), action: Action::Ship(blobs) });
        let rootfs = Rootfs { manifest: part.rootfs };
        let files: Vec<Resource> = part.changed.iter().map(|(path, content)| changed(rootfs.path().join(path), content)).collect();
        let tree = HostFiles { manifest: part.rootfs.digest, env: host.env.clone(), places: sealer::places(part) };
        wants.extend(on(host, [vec![Resource::Rootfs(rootfs)], files, vec![Resource::HostTree(tree)]].concat()));
    }
    wants
}

/// A file of the root file system as the Clusterfile wants it. It may hold secrets unless it is for the host's own programs.
fn changed(path: PathBuf, content: &[u8]) -> Resource {
    let public = path.components().any(|part| part.as_os_str() == "host");
    let runs = content.starts_with(b"#!") || path.extension().is_some_and(|extension| extension == "sh");
    let mode = if public { 0o644 } else { 0o600 } | if runs { 0o100 } else { 0 };
    Resource::File(File::new(path, content.to_vec(), mode))
}
