//! The scripts that make contexts for our cluster images give what the Kubefiles ask for, checked.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use common::kubefiles::{container_images, etcd_context, kubernetes_context, repository};
use common::sealift::assert_says;
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
    assert!(is_filled_in(&kubeadm), "{kubeadm}");
}

/// Whether no line, apart from comments, has a placeholder.
fn is_filled_in(text: &str) -> bool {
    !text.lines().any(|line| !line.starts_with('#') && line.contains('@'))
}

#[test]
fn kubeadm_asks_for_the_images_that_the_context_lists() {
    let context = kubernetes_context();
    let config = context.join("etc/kubeadm.yml").display().to_string();
    let kubeadm = context.join("host/usr/bin/kubeadm").display().to_string();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let asked = common::run(&kubeadm, &["config", "images", "list", "--config", &config]);
    let asked = asked.lines().filter(|line| !line.contains("WARNING")).collect::<Vec<_>>().join("\n");
    assert_eq!(lines(&asked), lines(&fs::read_to_string(context.join("manifests/imageList")).expect("imageList")));
    assert_says(&fs::read_to_string(&config).expect("kubeadm.yml"), &["imageTag: \"3.4."]); // Debian's etcd, not kubeadm's
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

/// The images of a release, as its kubeadm lists them (`kubeadm config images list`).
struct Release {
    version: &'static str,
    /// The registry that it takes images from by default.
    registry: &'static str,
    pause: &'static str,
    etcd: &'static str,
    /// CoreDNS by its default, and with `--image-repository registry.k8s.io`.
    coredns: [&'static str; 2],
}

const fn release(
    version: &'static str,
    registry: &'static str,
    pause: &'static str,
    etcd: &'static str,
    coredns: [&'static str; 2],
) -> Release {
    Release { version, registry, pause, etcd, coredns }
}

const OLD: &str = "k8s.gcr.io";
const NEW: &str = "registry.k8s.io";

const RELEASES: [Release; 19] = [
    release("v1.20.2", OLD, "3.2", "3.4.13-0", ["coredns:1.7.0"; 2]),
    release("v1.21.0", OLD, "3.4.1", "3.4.13-0", ["coredns/coredns:v1.8.0"; 2]),
    release("v1.21.14", OLD, "3.4.1", "3.4.13-0", ["coredns/coredns:v1.8.0", "coredns:v1.8.0"]),
    release("v1.22.0", OLD, "3.5", "3.5.0-0", ["coredns/coredns:v1.8.4", "coredns:v1.8.4"]),
    release("v1.23.0", OLD, "3.6", "3.5.1-0", ["coredns/coredns:v1.8.6", "coredns:v1.8.6"]),
    release("v1.24.0", OLD, "3.7", "3.5.3-0", ["coredns/coredns:v1.8.6", "coredns:v1.8.6"]),
    release("v1.25.0", NEW, "3.8", "3.5.4-0", ["coredns/coredns:v1.9.3"; 2]),
    release("v1.26.0", NEW, "3.9", "3.5.6-0", ["coredns/coredns:v1.9.3"; 2]),
    release("v1.27.0", NEW, "3.9", "3.5.7-0", ["coredns/coredns:v1.10.1"; 2]),
    release("v1.28.0", NEW, "3.9", "3.5.9-0", ["coredns/coredns:v1.10.1"; 2]),
    release("v1.29.0", NEW, "3.9", "3.5.10-0", ["coredns/coredns:v1.11.1"; 2]),
    release("v1.30.0", NEW, "3.9", "3.5.12-0", ["coredns/coredns:v1.11.1"; 2]),
    release("v1.31.0", NEW, "3.10", "3.5.15-0", ["coredns/coredns:v1.11.1"; 2]),
    release("v1.32.0", NEW, "3.10", "3.5.16-0", ["coredns/coredns:v1.11.3"; 2]),
    release("v1.33.0", NEW, "3.10", "3.5.21-0", ["coredns/coredns:v1.12.0"; 2]),
    release("v1.34.0", NEW, "3.10.1", "3.6.4-0", ["coredns/coredns:v1.12.1"; 2]),
    release("v1.35.0", NEW, "3.10.1", "3.6.6-0", ["coredns/coredns:v1.13.1"; 2]),
    release("v1.36.0", NEW, "3.10.2", "3.6.8-0", ["coredns/coredns:v1.14.2"; 2]),
    release("v1.37.0", NEW, "3.10.2", "3.7.0-0", ["coredns/coredns:v1.14.6"; 2]),
];

impl Release {
    /// The list, from a registry and with CoreDNS by this name.
    fn images(&self, registry: &str, coredns: &str) -> String {
        let version = self.version;
        let names = ["kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy"].map(|name| format!("{name}:{version}"));
        let others = [format!("pause:{}", self.pause), format!("etcd:{}", self.etcd), coredns.to_owned()];
        names.iter().chain(&others).map(|name| format!("{registry}/{name}\n")).collect()
    }

    /// A script in the place of its kubeadm.
    fn kubeadm(&self) -> String {
        let (default, told) = (self.images(self.registry, self.coredns[0]), self.images(NEW, self.coredns[1]));
        format!(
            "#!/bin/sh\necho '[config] WARNING: a word'\ncase \"$*\" in\n  \"config images list --kubernetes-version {0}\") printf '%s' '{default}' ;;\n  \
                \"config images list --kubernetes-version {0} --image-repository {NEW}\") printf '%s' '{told}' ;;\n  *) exit 1 ;;\nesac\n",
            self.version
        )
    }
}

/// A mirror of upstream's releases with small scripts for programs; `falsify` gives kubelet another checksum.
fn mirror(root: &Path, release: &Release, falsify: bool) {
    let minor = release.version.rsplit_once('.').expect("a version").0;
    let bin = root.join(release.version).join("bin/linux/amd64");
    let tools = root.join(format!("{minor}.0"));
    fs::create_dir_all(&bin).expect("a directory");
    fs::create_dir_all(&tools).expect("a directory");
    for name in ["kubeadm", "kubelet", "kubectl"] {
        fs::write(bin.join(name), release.kubeadm()).expect("a program");
    }
    let crictl = tools.join(format!("crictl-{minor}.0-linux-amd64.tar.gz"));
    fs::write(root.join("crictl"), "#!/bin/sh\n").expect("a program");
    common::run("tar", &["-czf", &crictl.display().to_string(), "-C", &root.display().to_string(), "crictl"]);
    for file in [bin.join("kubeadm"), bin.join("kubelet"), bin.join("kubectl"), crictl] {
        let digest = Digest::of(&fs::read(&file).expect("the file"));
        let text = if falsify && file.ends_with("kubelet") { "0".repeat(64) } else { digest.hex() };
        fs::write(format!("{}.sha256", file.display()), text).expect("a checksum");
    }
}

fn fetch(root: &Path, release: &Release) -> Output {
    let url = format!("file://{}", root.display());
    Command::new(repository("kubefiles/kubernetes/fetch.sh"))
        .args([release.version, "amd64"])
        .arg(root.join("out"))
        .env("KUBERNETES_MIRROR", &url)
        .env("CRICTL_MIRROR", &url)
        .output()
        .expect("fetch.sh starts")
}

/// What fill-in.sh makes of a context with these lists of images: kubeadm.yml and containerd's configuration.
fn fill_in(context: &Path, version: &str, images: &str, own_images: &str) -> [String; 2] {
    let files = ["etc/kubeadm.yml", "host/etc/containerd/config.toml.tmpl"];
    fs::create_dir_all(context.join("manifests")).expect("a directory");
    fs::write(context.join("manifests/imageList"), images).expect("the list");
    let own = context.join("own");
    fs::write(&own, own_images).expect("a list");
    for file in files {
        let to = context.join(file);
        fs::create_dir_all(to.parent().expect("a parent")).expect("a directory");
        fs::copy(repository(&format!("kubefiles/kubernetes/{file}")), to).expect("a copy");
    }
    let script = repository("kubefiles/kubernetes/fill-in.sh").display().to_string();
    common::run(&script, &[&context.display().to_string(), version, &own.display().to_string()]);
    files.map(|file| fs::read_to_string(context.join(file)).expect("the file"))
}

#[test]
fn every_release_starts_with_its_own_images_and_pins_none_of_them() {
    for release in RELEASES {
        let version = release.version;
        let root = tempfile::tempdir().expect("a temporary directory");
        mirror(root.path(), &release, false);
        let fetched = fetch(root.path(), &release);
        assert!(fetched.status.success(), "{version}: {}", String::from_utf8_lossy(&fetched.stderr));
        let fetched = |name: &str| fs::read_to_string(root.path().join("out").join(name)).expect("a list");
        assert_eq!(fetched("images"), release.images(NEW, release.coredns[0]), "what registry.k8s.io has of {version}");
        let [kubeadm, containerd] = fill_in(&root.path().join("context"), version, &fetched("images"), &fetched("kubeadm-images"));
        assert_says(&containerd, &[&format!("sandbox_image = \"registry.k8s.io/pause:{}\"\n", release.pause)]);
        assert_says(&kubeadm, &[&format!("kubernetesVersion: \"{version}\"\n")]);
        assert!(!kubeadm.contains("imageTag") && is_filled_in(&kubeadm), "{version}:\n{kubeadm}");
        let repository = "dns: {imageRepository: \"registry.k8s.io/coredns\"}\n";
        assert_eq!(kubeadm.contains(repository), release.coredns[0] != release.coredns[1], "{version}:\n{kubeadm}");
        assert_eq!(kubeadm.contains("dns:"), kubeadm.contains(repository), "{version}:\n{kubeadm}");
    }
}

#[test]
fn fetching_upstreams_release_fills_the_directory() {
    let root = tempfile::tempdir().expect("a temporary directory");
    mirror(root.path(), &RELEASES[0], false);
    let fetched = fetch(root.path(), &RELEASES[0]);
    assert!(fetched.status.success(), "{}", String::from_utf8_lossy(&fetched.stderr));
    for name in ["kubeadm", "kubelet", "kubectl", "crictl"] {
        assert!(root.path().join("out").join(name).is_file(), "{name}");
    }
    assert_eq!(fs::read_to_string(root.path().join("out/version")).expect("version"), "v1.20.2\n");
}

#[test]
fn fetching_refuses_a_program_with_another_checksum() {
    let root = tempfile::tempdir().expect("a temporary directory");
    mirror(root.path(), &RELEASES[0], true);
    let fetched = fetch(root.path(), &RELEASES[0]);
    let said = String::from_utf8_lossy(&fetched.stderr);
    assert!(!fetched.status.success());
    assert!(said.contains("kubelet has the checksum") && said.contains("not used"), "{said}");
    assert!(!root.path().join("out/kubelet").exists());
    assert!(!root.path().join("out/version").exists());
}
