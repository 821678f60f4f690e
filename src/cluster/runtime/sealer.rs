//! Images in Sealer's layout (0.9 to 0.11): programs in `bin/`, systemd units in `etc/`, and scripts that install them.
//!
//! sealift itself does what `init-kube.sh` and `init-registry.sh` do, so that `reset` undoes it. The container runtime is installed by the
//! image's `scripts/containerd.sh` and removed by its `scripts/uninstall-containerd.sh`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::none;
use crate::cluster::{DesiredHost, DesiredState, ImagePart};
use crate::error::Failure;
use crate::host::facts::ConflictingRuntime;
use crate::resource::{File, PathMapping, Resource};

/// The file that marks Sealer's layout.
const MARKER: &str = "scripts/init-kube.sh";
/// What `init-kube.sh` installs on hosts: from, to, and whether it is programs.
const PATH_MAPPINGS: [(&str, &str, bool); 4] = [
    ("bin", "/usr/bin", true),
    ("scripts/kubelet-pre-start.sh", "/usr/bin/kubelet-pre-start.sh", true),
    ("etc/kubelet.service", "/etc/systemd/system/kubelet.service", false),
    ("etc/10-kubeadm.conf", "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf", false),
];
/// The audit policy: its path in the image, and the path on masters that the image's kubeadm configuration names.
const AUDIT_POLICY: (&str, &str) = ("statics/audit-policy.yml", "/etc/kubernetes/audit-policy.yml");
/// The programs that every Kubernetes cluster needs.
const REQUIRED_PROGRAMS: [&str; 3] = ["bin/kubeadm", "bin/kubelet", "bin/kubectl"];
const INSTALL: &str = "containerd.sh";
const UNINSTALL: &str = "uninstall-containerd.sh";
const RUNTIME_TYPE: &str = "cluster.alpha.sealer.io/cluster-runtime-type";

/// Whether an image is in Sealer's layout.
pub fn is_sealer_layout(part: &ImagePart) -> bool {
    part.has(MARKER) && !part.files.keys().any(|path| path.starts_with("host"))
}

/// The files of the root file system that are installed on hosts, and where.
pub fn path_mappings(part: &ImagePart) -> Vec<PathMapping> {
    let mapping = |(from, to, programs): (&str, &str, bool)| PathMapping { from: from.into(), to: to.into(), programs };
    if is_sealer_layout(part) { PATH_MAPPINGS.map(mapping).into() } else { PathMapping::of_sealift_images() }
}

/// The desired resources that install the container runtime on a host; empty if the image is not in Sealer's layout.
pub fn container_runtime(desired: &DesiredState, host: &DesiredHost) -> Vec<Resource> {
    let part = desired.part(host);
    if !is_sealer_layout(part) {
        return Vec::new();
    }
    let policy = part.files.get(Path::new(AUDIT_POLICY.0));
    let policy = policy.map(|policy| Resource::File(File::new(AUDIT_POLICY.1, policy.clone(), 0o644)));
    none::script(desired, host, INSTALL, None, Some(UNINSTALL)).into_iter().chain(policy).collect()
}

/// The directory of containerd's `hosts.toml` files: `config_path` in a TOML file of the image; `None` if none sets it.
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

/// Whether a container runtime on a host was installed by the image's script: on a member of the cluster, that script has run.
pub fn is_from_image(part: &ImagePart, is_member: bool, runtime: &ConflictingRuntime) -> bool {
    is_member && runtime.name == "containerd" && is_sealer_layout(part)
}

/// Checks that an image in Sealer's layout contains what a cluster needs.
///
/// # Errors
/// `Usage` that names the files that are missing, or a kind of cluster that sealift does not support.
pub fn check_layout(part: &ImagePart) -> Result<()> {
    let kind = part.config.labels.get(RUNTIME_TYPE).map_or("kubernetes", String::as_str);
    if !["kubernetes", "none"].contains(&kind) {
        return Err(Failure::usage(format!("the image contains a {kind} cluster, which sealift does not support"))
            .hint(format!("use an image with `LABEL {RUNTIME_TYPE}=kubernetes`: sealift sets it up by kubeadm"))
            .into());
    }
    if !is_sealer_layout(part) || kind != "kubernetes" {
        return Ok(());
    }
    if !part.has(&format!("scripts/{INSTALL}")) {
        let docker = if part.has("scripts/docker.sh") { ": it contains docker (scripts/docker.sh)" } else { "" };
        return Err(Failure::usage(format!("the image has no scripts/{INSTALL}{docker}"))
            .hint("sealift runs Kubernetes on containerd: build FROM the image and COPY a scripts/containerd.sh that installs it, as in Sealer's images with containerd")
            .into());
    }
    let is_missing = |path: &&str| !part.programs.contains(*path);
    let missing: Vec<&str> = REQUIRED_PROGRAMS.into_iter().filter(is_missing).chain(missing_units(part)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(format!("the image is in Sealer's layout, but has no {}", missing.join(", ")))
        .hint("build FROM the image and COPY the missing files to these paths")
        .into())
}

/// The systemd units of the kubelet that the image has neither as files nor as templates.
fn missing_units(part: &ImagePart) -> impl Iterator<Item = &'static str> {
    let exists = |path: &&str| part.has(path) || part.has(&format!("{path}.tmpl"));
    ["etc/kubelet.service", "etc/10-kubeadm.conf"].into_iter().filter(move |path| !exists(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::image_content::tests::part;

    fn sealer_image() -> ImagePart {
        let mut part = part([
            (MARKER, ""),
            ("scripts/containerd.sh", ""),
            ("etc/kubelet.service.tmpl", ""),
            ("etc/10-kubeadm.conf", ""),
            ("etc/dump-config.toml", "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/docker/certs.d/\"\n"),
        ]);
        part.programs = REQUIRED_PROGRAMS.map(str::to_owned).into();
        part
    }

    #[test]
    fn images_are_refused_with_the_names_of_missing_files() {
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
                &["no scripts/containerd.sh: it contains docker"],
            ),
            ("no kubelet", |part| _ = part.programs.remove("bin/kubelet"), &["has no bin/kubelet"]),
            ("no unit", |part| drop(part.files.remove(Path::new("etc/10-kubeadm.conf"))), &["etc/10-kubeadm.conf"]),
            ("k0s", |part| drop(part.config.labels.insert(RUNTIME_TYPE.into(), "k0s".into())), &["k0s"]),
            ("ours", |part| drop(part.files.insert("host/usr/bin/x".into(), vec![])), &[]),
        ];
        for (name, change, expected) in cases {
            let mut part = sealer_image();
            change(&mut part);
            let error = check_layout(&part).err().map(|error| format!("{error:#}"));
            assert_eq!(error.is_some(), !expected.is_empty(), "{name}: {error:?}");
            assert!(expected.iter().all(|words| error.as_ref().is_some_and(|error| error.contains(words))), "{name}: {error:?}");
        }
    }

    #[test]
    fn files_are_installed_where_the_layout_says() {
        assert_eq!(path_mappings(&sealer_image()).len(), PATH_MAPPINGS.len());
        assert_eq!(path_mappings(&part([("host/etc/x", "")])), PathMapping::of_sealift_images());
        assert_eq!(registry_config_path(&sealer_image()).unwrap(), Path::new("/etc/docker/certs.d/"));
        assert_eq!(registry_config_path(&part([])), None);
    }

    #[test]
    fn a_containerd_on_a_member_was_installed_by_the_image() {
        let runtime = |name: &str| ConflictingRuntime { name: name.into(), path: format!("/usr/bin/{name}"), running: true };
        for (member, name, expected) in [(true, "containerd", true), (false, "containerd", false), (true, "dockerd", false)] {
            assert_eq!(is_from_image(&sealer_image(), member, &runtime(name)), expected, "{member} {name}");
        }
        assert!(!is_from_image(&part([]), true, &runtime("containerd")));
    }
}
