//! The registry on site, straight out of the host's store.

use super::{Stage, Want, on};
use crate::cluster::{Desired, DesiredHost, names};
use crate::resource::{File, Resource, STORE, StoredImage, Unit};

pub static STAGE: Stage = Stage { name: "registry", one_by_one: false, verifies: false, wants };

const UNIT: &str = "sealift-registry.service";

fn wants(desired: &Desired) -> Vec<Want> {
    let path = format!("/etc/systemd/system/{UNIT}");
    let port = desired.clusterfile.cluster.registry.local.as_ref().map_or(5000, |local| local.port);
    let of = |host: &DesiredHost| {
        let image = StoredImage { name: desired.image.name.clone(), descriptor: desired.image.descriptor.clone() };
        let resources = [
            Resource::StoredImage(Box::new(image)),
            Resource::File(File::new(path.as_str(), unit(port), 0o644)),
            Resource::Unit(Unit::running(UNIT, [path.as_str()])),
        ];
        on(host, resources)
    };
    desired.registry_hosts().into_iter().flat_map(of).collect()
}

fn unit(port: u16) -> String {
    format!(
        "# written by sealift\n\
        [Unit]\nDescription=container images of the cluster\nAfter=network-online.target\nWants=network-online.target\n\n\
        [Service]\nExecStart={sealift} --store {STORE} registry serve --listen 0.0.0.0:{port}\nRestart=always\nRestartSec=2\n\n\
        [Install]\nWantedBy=multi-user.target\n",
        sealift = names::SEALIFT
    )
}
