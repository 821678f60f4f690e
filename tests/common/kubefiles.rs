//! Build contexts of the cluster images in `kubefiles/`, made by their scripts once for all tests.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The programs of Kubernetes, built from Debian's source (minutes when nothing is cached).
pub fn kubernetes() -> PathBuf {
    once("kubernetes", |out| script("scripts/kubernetes-from-debian.sh", &[out]))
}

/// The OCI layout with the container images of the control plane, the pod network and the demo.
pub fn container_images() -> PathBuf {
    let kubernetes = kubernetes();
    once("container-images", |out| script("scripts/container-images.py", &[&kubernetes, out]))
}

/// The context of `kubefiles/kubernetes/Kubefile`.
pub fn kubernetes_context() -> PathBuf {
    let kubernetes = kubernetes();
    once("kubernetes-context", |out| script("kubefiles/kubernetes/prepare.sh", &[&kubernetes, out]))
}

/// The context of `kubefiles/etcd/Kubefile`.
pub fn etcd_context() -> PathBuf {
    once("etcd-context", |out| script("kubefiles/etcd/prepare.sh", &[out]))
}

/// The real helm.
pub fn helm() -> PathBuf {
    once("helm", |out| script("scripts/helm.sh", &[out])).join("helm")
}

/// The real helm 4.
pub fn helm_4() -> PathBuf {
    once("helm-4", |out| script("scripts/helm.sh", &[out, Path::new("4.3.1")])).join("helm")
}

/// The directory with the JSON schema of CycloneDX 1.6 and those that it refers to.
pub fn cyclonedx() -> PathBuf {
    once("cyclonedx", |out| script("scripts/cyclonedx.sh", &[out]))
}

/// The directory with newer versions of cosign, oras, skopeo and others than Debian 12 has.
pub fn newer_peers() -> PathBuf {
    once("newer-peers", |out| script("scripts/newer-peers.sh", &[out]))
}

/// A file of this repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Tests run side by side: whoever comes first makes it, the scripts see that it is there for the others.
fn once(name: &str, make: impl Fn(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(root.join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("the lock");
    let out = root.join(name);
    make(&out);
    out
}

fn script(name: &str, args: &[&Path]) {
    let output = Command::new(repository(name)).args(args).output().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(output.status.success(), "{name}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
}
