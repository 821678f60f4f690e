//! Removes what older images left on the hosts, when all else succeeded.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;
use crate::resource::{OldRootfs, Resource};

pub static STAGE: Stage = Stage { name: "clean up", after: &["verify"], one_by_one: false, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    let resources = |host: &crate::cluster::DesiredHost| {
        let launches = host.address() == desired.leader().address();
        let apps = desired.app_images.iter().filter(|_| launches).filter_map(|image| image.part(&host.machine).ok());
        let in_use = [desired.part(host)].into_iter().chain(apps).map(|part| part.rootfs).collect();
        on(host, [Resource::OldRootfs(OldRootfs { in_use })])
    };
    desired.hosts.iter().flat_map(resources).collect()
}
