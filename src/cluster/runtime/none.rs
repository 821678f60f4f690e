//! Clusters that are not Kubernetes: the image's own scripts bring them up on every host.
//!
//! `scripts/install.sh` installs a host. `check.sh` changes nothing and exits with 0 if the host has no drift. `verify.sh` exits with 0
//! if the whole cluster works. `uninstall.sh` undoes `install.sh`. Plans run only `check.sh`; `verify.sh` may write and wait, and runs
//! after a change. Scripts of a role, in `scripts/<role>/`, take precedence over those for all hosts.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{DesiredHost, DesiredState};
use crate::clusterfile::Env;
use crate::paths;
use crate::resource::{Resource, Script};

/// The variables that sealift computes. None is a secret.
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
/// A variable is a secret if its name, in upper case, contains one of these.
const SECRET_WORDS: [&str; 6] = ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "AUTH"];

/// The script that installs a host; `None` if the image has none.
pub fn install(desired: &DesiredState, host: &DesiredHost) -> Option<Resource> {
    script(desired, host, "install.sh", Some("check.sh"), Some("uninstall.sh"))
}

/// The script that verifies the cluster, run on every host; `None` if the image has none.
pub fn verify(desired: &DesiredState, host: &DesiredHost) -> Option<Resource> {
    script(desired, host, "verify.sh", Some("check.sh"), None)
}

/// A script of the image with its check and undo scripts, each by its name in `scripts/`; `None` if the image has no such script.
pub(super) fn script(desired: &DesiredState, host: &DesiredHost, apply: &str, check: Option<&str>, undo: Option<&str>) -> Option<Resource> {
    let apply = find_script(desired, host, apply)?;
    let mut env = host.env.clone();
    env.insert("Rootfs".to_owned(), paths::ROOTFS_CURRENT.to_owned());
    Some(Resource::Script(Script {
        name: apply.clone(),
        directory: paths::ROOTFS_CURRENT.into(),
        apply: apply.into(),
        check: check.and_then(|name| find_script(desired, host, name)).map(Into::into),
        undo: undo.and_then(|name| find_script(desired, host, name)).map(Into::into),
        public: public(&env, &desired.config().env),
        env,
    }))
}

/// The variables that may be stored on the host for the undo script: those that sealift computes, those with the value in the image,
/// and those that override a default of the image (`DataDir`), unless the name is that of a secret.
fn public(env: &Env, image: &BTreeMap<String, String>) -> BTreeSet<String> {
    let is_secret = |name: &str| SECRET_WORDS.iter().any(|word| name.to_uppercase().contains(word));
    let is_public = |name: &str, value: &String| {
        COMPUTED.contains(&name) || image.get(name).is_some_and(|default| default == value || !is_secret(name))
    };
    env.iter().filter(|(name, value)| is_public(name, value)).map(|(name, _)| name.clone()).collect()
}

/// The path of a script: that of the host's first role that has one, else that for all hosts.
fn find_script(desired: &DesiredState, host: &DesiredHost, name: &str) -> Option<String> {
    let part = desired.part(host);
    let role_scripts = host.spec.roles.iter().map(|role| format!("scripts/{role}/{name}"));
    role_scripts.chain([format!("scripts/{name}")]).find(|path| part.has(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_stored_for_undo_are_no_secrets() {
        let of = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let image = of(&[("DataDir", "/data"), ("RootPassword", "change-me"), ("KeySize", "4096")]);
        let env = of(&[("DataDir", "/other"), ("RootPassword", "s3cret"), ("KeySize", "4096"), ("Said", "s3cret"), ("HostIP", "10.0.0.2")]);
        assert_eq!(public(&env, &image), ["DataDir", "HostIP", "KeySize"].map(str::to_owned).into());
    }
}
