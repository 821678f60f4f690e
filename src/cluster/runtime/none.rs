//! Clusters that are not Kubernetes: the image's own scripts bring them up on every host.
//!
//! `scripts/install.sh` brings a host up, `check.sh` ends with status 0 when it is as it shall be and changes nothing, `verify.sh`
//! when the whole cluster is, `uninstall.sh` takes it back. Plans run `check.sh` only; `verify.sh` may write and wait, and runs
//! after something was changed. A role's own scripts in `scripts/<role>/` go before those for all.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{DesiredHost, DesiredState};
use crate::clusterfile::Env;
use crate::paths;
use crate::resource::{Resource, Script};

/// What sealift computes: no secrets.
const COMPUTED: [&str; 11] = [
    "ClusterName",
    "HostIP",
    "HostIPFamily",
    "HostName",
    "Masters",
    "Nodes",
    "RegistryDomain",
    "RegistryPort",
    "RegistryURL",
    "Roles",
    "Rootfs",
];
/// Names with one of these, in capitals, are those of secrets.
const SECRET: [&str; 6] = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH"];

/// What brings a host up.
pub fn install(desired: &DesiredState, host: &DesiredHost) -> Option<Resource> {
    script(desired, host, "install.sh", Some("check.sh"), Some("uninstall.sh"))
}

/// What makes sure that the cluster is as it shall be.
pub fn verify(desired: &DesiredState, host: &DesiredHost) -> Option<Resource> {
    script(desired, host, "verify.sh", Some("check.sh"), None)
}

/// A script of the image with its counterparts, each by its name in `scripts/`; none if the image has no such script.
pub(super) fn script(desired: &DesiredState, host: &DesiredHost, apply: &str, check: Option<&str>, undo: Option<&str>) -> Option<Resource> {
    let apply = find(desired, host, apply)?;
    let mut env = host.env.clone();
    env.insert("Rootfs".to_owned(), paths::ROOTFS_CURRENT.to_owned());
    Some(Resource::Script(Script {
        name: apply.clone(),
        directory: paths::ROOTFS_CURRENT.into(),
        apply: apply.into(),
        check: check.and_then(|name| find(desired, host, name)).map(Into::into),
        undo: undo.and_then(|name| find(desired, host, name)).map(Into::into),
        public: public(&env, &desired.config().env),
        env,
    }))
}

/// The variables that an image's script may find again when it takes things back: what is computed, what everybody who has
/// the image can read, and what the image has a default for (`DataDir`), unless its name is that of a secret.
fn public(env: &Env, image: &BTreeMap<String, String>) -> BTreeSet<String> {
    let is_secret = |name: &str| SECRET.iter().any(|word| name.to_uppercase().contains(word));
    let is_public = |name: &str, value: &String| {
        COMPUTED.contains(&name) || image.get(name).is_some_and(|default| default == value || !is_secret(name))
    };
    env.iter().filter(|(name, value)| is_public(name, value)).map(|(name, _)| name.clone()).collect()
}

/// The script for the host's first role that has one, else that for all hosts.
fn find(desired: &DesiredState, host: &DesiredHost, name: &str) -> Option<String> {
    let part = desired.part(host);
    let of_roles = host.spec.roles.iter().map(|role| format!("scripts/{role}/{name}"));
    of_roles.chain([format!("scripts/{name}")]).find(|path| part.has(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_undo_may_know_is_no_secret() {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let image = of(&[("DataDir", "/data"), ("RootPassword", "change-me"), ("KeySize", "4096")]);
        let env = of(&[("DataDir", "/other"), ("RootPassword", "s3cret"), ("KeySize", "4096"), ("Said", "s3cret"), ("HostIP", "10.0.0.2")]);
        assert_eq!(public(&env, &image), ["DataDir", "HostIP", "KeySize"].map(str::to_owned).into());
    }
}
