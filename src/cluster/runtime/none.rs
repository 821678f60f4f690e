//! Clusters that are not Kubernetes: the image's own scripts bring them up on every host.
//!
//! `scripts/install.sh` brings a host up, `check.sh` ends with status 0 when it is as it shall be, `verify.sh` when the whole
//! cluster is, `uninstall.sh` takes it back. A role's own scripts in `scripts/<role>/` go before those for all.

use crate::cluster::{Desired, DesiredHost, names};
use crate::resource::{Resource, Script};

/// What brings a host up.
pub fn install(desired: &Desired, host: &DesiredHost) -> Option<Resource> {
    script(desired, host, "install.sh", Some("check.sh"), Some("uninstall.sh"))
}

/// What makes sure that the cluster is as it shall be.
pub fn verify(desired: &Desired, host: &DesiredHost) -> Option<Resource> {
    script(desired, host, "verify.sh", Some("verify.sh"), None)
}

fn script(desired: &Desired, host: &DesiredHost, apply: &str, check: Option<&str>, undo: Option<&str>) -> Option<Resource> {
    let apply = find(desired, host, apply)?;
    let mut env = host.env.clone();
    env.insert("Rootfs".to_owned(), names::ROOTFS.to_owned());
    Some(Resource::Script(Script {
        name: apply.clone(),
        directory: names::ROOTFS.into(),
        apply: apply.into(),
        check: check.and_then(|name| find(desired, host, name)).map(Into::into),
        undo: undo.and_then(|name| find(desired, host, name)).map(Into::into),
        env,
    }))
}

/// The script for the host's first role that has one, else that for all hosts.
fn find(desired: &Desired, host: &DesiredHost, name: &str) -> Option<String> {
    let part = desired.part(host);
    let of_roles = host.spec.roles.iter().map(|role| format!("scripts/{role}/{name}"));
    of_roles.chain([format!("scripts/{name}")]).find(|path| part.has(path))
}
