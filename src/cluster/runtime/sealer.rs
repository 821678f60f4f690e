//! Images that are laid out as Sealer's (0.9 to 0.11): programs in `bin/`, units in `etc/`, and scripts that install them.
//!
//! sealift does itself what `init-kube.sh` and `init-registry.sh` do, so that a reset takes it back; the script of the container
//! runtime is the image's own, `scripts/containerd.sh`, with `scripts/uninstall-containerd.sh` to take it back.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::none;
use crate::cluster::{DesiredHost, DesiredState, ImagePart};
use crate::error::Failure;
use crate::host::facts::Foreign;
use crate::resource::{File, Place, Resource};

/// What is there in images of Sealer's and in none of ours.
const MARK: &str = "scripts/init-kube.sh";
/// What `init-kube.sh` puts on hosts, and whether it is programs.
const PLACES: [(&str, &str, bool); 4] = [
    ("bin", "/usr/bin", true),
    ("scripts/kubelet-pre-start.sh", "/usr/bin/kubelet-pre-start.sh", true),
    ("etc/kubelet.service", "/etc/systemd/system/kubelet.service", false),
    ("etc/10-kubeadm.conf", "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf", false),
];
/// Where masters look for the audit policy that the image's kubeadm documents name.
const AUDIT_POLICY: (&str, &str) = ("statics/audit-policy.yml", "/etc/kubernetes/audit-policy.yml");
/// Programs that no cluster comes up without.
const PROGRAMS: [&str; 3] = ["bin/kubeadm", "bin/kubelet", "bin/kubectl"];
const INSTALL: &str = "containerd.sh";
const UNINSTALL: &str = "uninstall-containerd.sh";
const RUNTIME_TYPE: &str = "cluster.alpha.sealer.io/cluster-runtime-type";

/// Whether an image is laid out as Sealer's.
pub fn is_sealers(part: &ImagePart) -> bool {
    part.has(MARK) && !part.files.keys().any(|path| path.starts_with("host"))
}

/// What of the image's root file system is for hosts.
pub fn places(part: &ImagePart) -> Vec<Place> {
    let place = |(from, to, programs): (&str, &str, bool)| Place { from: from.into(), to: to.into(), programs };
    if is_sealers(part) { PLACES.map(place).into() } else { Place::host() }
}

/// What brings the container runtime to a host.
pub fn container_runtime(desired: &DesiredState, host: &DesiredHost) -> Vec<Resource> {
    let part = desired.part(host);
    if !is_sealers(part) {
        return Vec::new();
    }
    let policy = part.files.get(Path::new(AUDIT_POLICY.0));
    let policy = policy.map(|policy| Resource::File(File::new(AUDIT_POLICY.1, policy.clone(), 0o644)));
    none::script(desired, host, INSTALL, None, Some(UNINSTALL)).into_iter().chain(policy).collect()
}

/// Where the image's containerd looks for registries: what its configuration says, or else the usual place.
pub fn registry_config_path(part: &ImagePart) -> Option<PathBuf> {
    let tables = part.files.iter().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "toml"));
    let texts = tables.filter_map(|(_, bytes)| std::str::from_utf8(bytes).ok());
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (key.trim() == "config_path" && value.starts_with('/')).then(|| PathBuf::from(value))
    };
    texts.flat_map(str::lines).find_map(value)
}

/// What of a host's programs the image's script brought: the host is of this cluster, so the script ran there.
pub fn is_brought(part: &ImagePart, is_member: bool, foreign: &Foreign) -> bool {
    is_member && foreign.name == "containerd" && is_sealers(part)
}

/// Refuses an image of Sealer's that lacks what a cluster needs.
///
/// # Errors
/// `Usage` that names what is missing.
pub fn refuse_unfit(part: &ImagePart) -> Result<()> {
    let kind = part.config.labels.get(RUNTIME_TYPE).map_or("kubernetes", String::as_str);
    if !["kubernetes", "none"].contains(&kind) {
        return Err(Failure::usage(format!("the image brings a cluster of the kind {kind}, which sealift does not run"))
            .hint(format!("an image with `LABEL {RUNTIME_TYPE}=kubernetes` brings one by kubeadm"))
            .into());
    }
    if !is_sealers(part) || kind != "kubernetes" {
        return Ok(());
    }
    if !part.has(&format!("scripts/{INSTALL}")) {
        let docker = if part.has("scripts/docker.sh") { ": it brings docker (scripts/docker.sh)" } else { "" };
        return Err(Failure::usage(format!("the image has no scripts/{INSTALL}{docker}"))
            .hint("sealift runs Kubernetes on containerd: build FROM the image and COPY a scripts/containerd.sh that installs it, as Sealer's images with containerd have")
            .into());
    }
    let lacks = |path: &&str| !part.programs.contains(*path);
    let missing: Vec<&str> = PROGRAMS.into_iter().filter(lacks).chain(units(part)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!("the image, laid out as Sealer's, has no {}", missing.join(", ")))
        .hint("build FROM it and COPY there what is missing")
        .into())
}

/// The units of the kubelet that are missing, be it as templates.
fn units(part: &ImagePart) -> impl Iterator<Item = &'static str> {
    let there = |path: &&str| part.has(path) || part.has(&format!("{path}.tmpl"));
    ["etc/kubelet.service", "etc/10-kubeadm.conf"].into_iter().filter(move |path| !there(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::image_content::tests::part;

    fn sealers() -> ImagePart {
        let mut part = part([
            (MARK, ""),
            ("scripts/containerd.sh", ""),
            ("etc/kubelet.service.tmpl", ""),
            ("etc/10-kubeadm.conf", ""),
            ("etc/dump-config.toml", "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/docker/certs.d/\"\n"),
        ]);
        part.programs = PROGRAMS.map(str::to_owned).into();
        part
    }

    #[test]
    fn images_without_what_a_cluster_needs_are_refused_with_what_is_missing() {
        type Change = fn(&mut ImagePart);
        let cases: [(&str, Change, &[&str]); 7] = [
            ("whole", |_| (), &[]),
            ("docker", |part| drop(part.files.insert("scripts/docker.sh".into(), vec![])), &[]),
            (
                "docker alone",
                |part| {
                    part.files.remove(Path::new("scripts/containerd.sh"));
                    part.files.insert("scripts/docker.sh".into(), vec![]);
                },
                &["no scripts/containerd.sh: it brings docker"],
            ),
            ("no kubelet", |part| _ = part.programs.remove("bin/kubelet"), &["has no bin/kubelet"]),
            ("no unit", |part| drop(part.files.remove(Path::new("etc/10-kubeadm.conf"))), &["etc/10-kubeadm.conf"]),
            ("k0s", |part| drop(part.config.labels.insert(RUNTIME_TYPE.into(), "k0s".into())), &["k0s"]),
            ("ours", |part| drop(part.files.insert("host/usr/bin/x".into(), vec![])), &[]),
        ];
        for (name, change, expected) in cases {
            let mut part = sealers();
            change(&mut part);
            let said = refuse_unfit(&part).err().map(|error| format!("{error:#}"));
            assert_eq!(said.is_some(), !expected.is_empty(), "{name}: {said:?}");
            assert!(expected.iter().all(|words| said.as_ref().is_some_and(|said| said.contains(words))), "{name}: {said:?}");
        }
    }

    #[test]
    fn files_go_where_their_maker_says() {
        assert_eq!(places(&sealers()).len(), PLACES.len());
        assert_eq!(places(&part([("host/etc/x", "")])), Place::host());
        assert_eq!(registry_config_path(&sealers()).unwrap(), Path::new("/etc/docker/certs.d/"));
        assert_eq!(registry_config_path(&part([])), None);
    }

    #[test]
    fn a_containerd_on_a_member_is_the_images_own() {
        let foreign = |name: &str| Foreign { name: name.into(), path: format!("/usr/bin/{name}"), running: true };
        for (member, name, brought) in [(true, "containerd", true), (false, "containerd", false), (true, "dockerd", false)] {
            assert_eq!(is_brought(&sealers(), member, &foreign(name)), brought, "{member} {name}");
        }
        assert!(!is_brought(&part([]), true, &foreign("containerd")));
    }
}
