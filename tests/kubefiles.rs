//! The scripts that make contexts for our cluster images give what the Kubefiles ask for, checked.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use common::kubefiles::{container_images, etcd_context, kubernetes_context, repository};
use sealift::image::Digest;

#[test]
fn the_context_of_kubernetes_has_what_kubeadm_and_the_kubefile_ask_for() {
    let context = kubernetes_context();
    for program in ["kubeadm", "kubelet", "kubectl", "crictl", "containerd", "containerd-shim-runc-v2", "ctr", "runc", "etcdctl"] {
        let path = context.join("host/usr/bin").join(program);
        let mode = fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{program} can be executed");
    }
    let kubeadm = fs::read_to_string(context.join("etc/kubeadm.yml")).expect("kubeadm.yml");
    assert!(!kubeadm.contains("@VERSION@") && !kubeadm.contains("@ETCD@"), "filled in:\n{kubeadm}");
}

#[test]
fn the_kubefiles_have_nothing_to_say_against() {
    for name in ["kubernetes", "demo", "etcd"] {
        let file = repository(&format!("kubefiles/{name}/Kubefile"));
        common::sealift::Sealift::new().ok(&["lint", &file.display().to_string()]);
    }
}

#[test]
fn containerd_limits_pods_as_the_environment_says() {
    let text = fs::read_to_string(repository("kubefiles/kubernetes/host/etc/containerd/config.toml.tmpl")).expect("the template");
    for (driver, expected) in [("cgroupfs", "SystemdCgroup = false"), ("systemd", "SystemdCgroup = true")] {
        let env = BTreeMap::from([("CgroupDriver".to_owned(), driver.to_owned())]);
        let config = sealift::template::render("config.toml.tmpl", &text, &env).expect("it renders");
        assert!(config.contains(expected), "{driver}:\n{config}");
    }
}

#[test]
fn every_image_that_the_context_lists_is_in_the_layout_whole() {
    let layout = container_images();
    let index: serde_json::Value = serde_json::from_slice(&fs::read(layout.join("index.json")).expect("index.json")).expect("JSON");
    let manifests = index["manifests"].as_array().expect("manifests");
    let names: Vec<_> = manifests.iter().filter_map(|one| one["annotations"]["org.opencontainers.image.ref.name"].as_str()).collect();
    let list = fs::read_to_string(kubernetes_context().join("manifests/imageList")).expect("imageList");
    for name in list.lines().chain(["docker.io/sealift/cni-routes:1.0", "docker.io/sealift/demo:1.0"]) {
        assert!(names.contains(&name), "{name} in {names:?}");
        common::run("skopeo", &["inspect", &format!("oci:{}:{name}", layout.display())]);
    }
    for blob in fs::read_dir(layout.join("blobs/sha256")).expect("blobs") {
        let path = blob.expect("a blob").path();
        let digest = Digest::of(&fs::read(&path).expect("the blob"));
        assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(digest.hex().as_str()));
    }
}

#[test]
fn preparing_a_context_again_touches_nothing() {
    let mark = |path: &Path| fs::metadata(path.join("host/usr/bin/etcd")).and_then(|data| data.modified()).expect("etcd is there");
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path.join("host/usr/bin/etcd")).expect("etcd is there"));
    let context = etcd_context();
    let before = (mark(&context), inode(&context));
    let again = etcd_context();
    assert_eq!(before, (mark(&again), inode(&again)));
}

/// A mirror of upstream's releases with small scripts for programs; `falsify` gives kubelet another checksum.
fn mirror(root: &Path, falsify: bool) {
    let bin = root.join("v1.20.2/bin/linux/amd64");
    let tools = root.join("v1.20.0");
    fs::create_dir_all(&bin).expect("a directory");
    fs::create_dir_all(&tools).expect("a directory");
    for name in ["kubeadm", "kubelet", "kubectl"] {
        fs::write(bin.join(name), "#!/bin/sh\necho registry.k8s.io/pause:3.2\n").expect("a program");
    }
    let crictl = tools.join("crictl-v1.20.0-linux-amd64.tar.gz");
    fs::write(root.join("crictl"), "#!/bin/sh\n").expect("a program");
    common::run("tar", &["-czf", &crictl.display().to_string(), "-C", &root.display().to_string(), "crictl"]);
    for file in [bin.join("kubeadm"), bin.join("kubelet"), bin.join("kubectl"), crictl] {
        let digest = Digest::of(&fs::read(&file).expect("the file"));
        let text = if falsify && file.ends_with("kubelet") { "0".repeat(64) } else { digest.hex() };
        fs::write(format!("{}.sha256", file.display()), text).expect("a checksum");
    }
}

fn fetch(root: &Path) -> Output {
    let url = format!("file://{}", root.display());
    Command::new(repository("kubefiles/kubernetes/fetch.sh"))
        .args(["v1.20.2", "amd64"])
        .arg(root.join("out"))
        .env("KUBERNETES_MIRROR", &url)
        .env("CRICTL_MIRROR", &url)
        .output()
        .expect("fetch.sh starts")
}

#[test]
fn fetching_upstreams_release_fills_the_directory() {
    let root = tempfile::tempdir().expect("a temporary directory");
    mirror(root.path(), false);
    let fetched = fetch(root.path());
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    for name in ["kubeadm", "kubelet", "kubectl", "crictl"] {
        assert!(root.path().join("out").join(name).is_file(), "{name}");
    }
    let images = fs::read_to_string(root.path().join("out/images")).expect("images");
    assert_eq!(images, "registry.k8s.io/pause:3.2\n");
    assert_eq!(fs::read_to_string(root.path().join("out/version")).expect("version"), "v1.20.2\n");
}

#[test]
fn fetching_refuses_a_program_with_another_checksum() {
    let root = tempfile::tempdir().expect("a temporary directory");
    mirror(root.path(), true);
    let fetched = fetch(root.path());
    let said = String::from_utf8_lossy(&fetched.stderr);
    assert!(!fetched.status.success());
    assert!(said.contains("kubelet has the checksum") && said.contains("not used"), "{said}");
    assert!(!root.path().join("out/kubelet").exists());
    assert!(!root.path().join("out/version").exists());
}
