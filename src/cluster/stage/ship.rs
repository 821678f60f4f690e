//! The image's content: blobs to the hosts that lack them, the root file system unpacked and installed.

use super::{Action, Stage, Want, on};
use crate::cluster::Desired;
use crate::resource::{HostTree, Resource, Rootfs};

pub static STAGE: Stage = Stage { name: "ship", one_by_one: false, wants };

fn wants(desired: &Desired) -> Vec<Want> {
    let registries: Vec<_> = desired.registry_hosts().iter().map(|host| host.address()).collect();
    let mut wants = Vec::new();
    for host in &desired.hosts {
        let part = desired.part(host);
        let mut blobs = part.rootfs_blobs.clone();
        if registries.contains(&host.address()) {
            blobs.extend(&part.workload_blobs);
        }
        wants.push(Want { host: host.address(), action: Action::Ship(blobs) });
        let tree = HostTree { manifest: part.rootfs.digest, env: host.env.clone() };
        wants.extend(on(host, [Resource::Rootfs(Rootfs { manifest: part.rootfs }), Resource::HostTree(tree)]));
    }
    wants
}
