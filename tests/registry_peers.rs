//! Other programs copy a cluster image of two platforms and ten container images whole: its digest stays, and its signatures with it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::building::write;
use common::images::{container_image, put};
use common::kubefiles::newer_peers;
use common::registry::DockerRegistry;
use common::sealift::Sealift;
use common::trust::{keys, sign};
use common::{run, wait_until};
use oci_spec::image::MediaType;
use serde_json::{Value, json};

/// Builds the image under this name and gives its digest.
fn build(sealift: &Sealift, name: &str, more: &[&str]) -> String {
    let (context, layout) = (sealift.home().join("context"), sealift.home().join("layout"));
    let store = sealift::store::Store::open(&layout).unwrap();
    let names: Vec<String> = (0..10).map(|number| format!("quay.io/team/part-{number}:1")).collect();
    for (seed, name) in (500..).zip(&names) {
        let manifest = container_image(&store, seed, &[2_000, 3_000]);
        let entry = |architecture: &str| {
            let mut entry = serde_json::to_value(&manifest).unwrap();
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        };
        let index = json!({"schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": [entry("amd64"), entry("arm64")]});
        store.tag(&name.parse().unwrap(), &put(&store, MediaType::ImageIndex, index.to_string().as_bytes())).unwrap();
    }
    write(&context.join("file"), &"text\n".repeat(1000));
    write(&context.join("Kubefile"), &format!("FROM scratch\nCOPY file /etc/file\nIMAGES {}\n", names.join(" ")));
    let [context, layout] = [context, layout].map(|path| path.display().to_string());
    let args = ["build", "-t", name, "--platform", "linux/amd64,linux/arm64", "--from-archive", &layout, &context];
    sealift.json(&[&args, more].concat())["digest"].as_str().unwrap().to_owned()
}

/// The program in the version of Debian 12 and in a newer one; only the newer if `is_new`.
fn versions(program: &str, is_new: bool) -> Vec<PathBuf> {
    let newer = newer_peers().join(program);
    if is_new { vec![newer] } else { vec![program.into(), newer] }
}

fn ok(program: &Path, args: &[&str]) -> String {
    run(program.to_str().unwrap(), args)
}

#[test]
fn an_index_says_which_manifests_have_zstd_and_workloads_have_a_type_that_nobody_follows() {
    let sealift = Sealift::new();
    for (compression, expected) in [("zstd", json!("true")), ("gzip", Value::Null)] {
        let digest = build(&sealift, "shop:1", &["--compression", compression]);
        let document = |digest: &Value| common::building::document(&sealift, digest);
        let index = document(&json!(digest));
        let [amd64, workloads, arm64, _] = index["manifests"].as_array().unwrap().as_slice() else { panic!("{index}") };
        for rootfs in [amd64, arm64] {
            assert_eq!(rootfs["annotations"]["io.github.containers.compression.zstd"], expected, "{compression}");
        }
        let layers = document(&workloads["digest"])["layers"].clone();
        let types = |key: &str| -> Vec<String> {
            layers.as_array().unwrap().iter().map(|layer| layer.pointer(key).unwrap().as_str().unwrap().to_owned()).collect()
        };
        assert!(types("/mediaType").iter().all(|one| one == "application/vnd.sealift.workload.blob.v1"), "{layers}");
        assert_eq!(types("/annotations/io.sealift.media-type")[0], "application/vnd.oci.image.index.v1+json");
        // a list of images made apart says it too
        sealift.ok(&["manifest", "create", &format!("list-{compression}:1"), "shop:1"]);
        let list = sealift.json(&["manifest", "inspect", &format!("list-{compression}:1")]);
        assert_eq!(list["manifests"][0]["annotations"]["io.github.containers.compression.zstd"], expected);
    }
}

#[test]
fn others_copy_a_cluster_image_with_its_digest_and_its_signatures() {
    let registry = DockerRegistry::start();
    let here = Sealift::new();
    let name = registry.name("team/shop:1");
    let digest = build(&here, &name, &[]);
    let (key, public) = keys(&here, "own");
    for format in ["simple", "bundle"] {
        sign(&here, &name, &key, &["--format", format]);
    }
    here.ok(&["push", &name]);
    let digest_of = |copy: &str| {
        let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{copy}")]);
        sealift::image::Digest::of(raw.as_bytes()).to_string()
    };
    let of_tag = |copy: &str| copy.rsplit_once(':').unwrap().0.to_owned();
    // the newer skopeo changes an index that does not say where zstd is; the older one drops what it does not know, such as artifact types
    for (skopeo, is_new) in versions("skopeo", false).iter().zip([false, true]) {
        let [copy, direct] = ["through-layout", "direct"].map(|way| registry.name(&format!("skopeo/{way}-{is_new}:1")));
        let layout = format!("oci:{}:shop", here.home().join(format!("skopeo-{is_new}")).display());
        let [from, to, direct_to] = [&name, &copy, &direct].map(|name| format!("docker://{name}"));
        for (from, to) in [(&from, &layout), (&layout, &to), (&from, &direct_to)] {
            ok(skopeo, &["copy", "-q", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", from, to]);
        }
        for copy in [copy, direct] {
            let there = Sealift::new();
            there.ok(&["pull", &copy]);
            assert_eq!(there.json(&["inspect", &copy])["parts"][1]["workloads"].as_array().unwrap().len(), 10, "{copy}");
            assert_eq!(digest_of(&copy) == digest, is_new, "{}", skopeo.display());
        }
    }
    // with everything that refers to it
    for oras in versions("oras", true) {
        let (copy, archive, restored) =
            (registry.name("oras/copy:1"), here.home().join("oras.tar").display().to_string(), registry.name("oras/restored:1"));
        ok(&oras, &["cp", "-r", "--from-plain-http", "--to-plain-http", &name, &copy]);
        ok(&oras, &["backup", "--include-referrers", "--plain-http", "--output", &archive, &name]);
        ok(&oras, &["restore", "--plain-http", "--input", &archive, &of_tag(&restored)]);
        for copy in [copy, restored] {
            assert_eq!(digest_of(&copy), digest, "{copy}");
            let verified = Sealift::new().json(&["verify", &copy, "--key", &public]);
            assert_eq!(verified["signatures"].as_array().unwrap().len(), 2, "{copy}: {verified}");
        }
        let there = Sealift::new();
        there.ok(&["load", "-i", &archive, "-t", "shop:1"]);
        assert_eq!(there.json(&["inspect", "shop:1"])["digest"], digest.as_str());
        assert_eq!(there.json(&["verify", "shop:1", "--key", &public])["signatures"].as_array().unwrap().len(), 2);
    }
    for crane in versions("crane", true) {
        let copy = registry.name("crane/copy:1");
        ok(&crane, &["cp", "--insecure", &name, &copy]);
        assert_eq!(digest_of(&copy), digest);
    }
    // whoever pulls it from a copy has all of it
    let there = Sealift::new();
    let copy = registry.name("oras/copy:1");
    there.ok(&["pull", &copy]);
    there.ok(&["fsck", "--layers"]);
    assert_eq!(there.json(&["inspect", &copy])["parts"][0]["workloads"].as_array().unwrap().len(), 10);
}

/// A containerd of the test's own; it ends when dropped.
struct Containerd(Child);

impl Drop for Containerd {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn containerds_pull_and_import_all_of_a_cluster_image() {
    let registry = DockerRegistry::start();
    let here = Sealift::new();
    let name = registry.name("team/shop:1");
    let digest = build(&here, &name, &[]);
    here.ok(&["push", &name]);
    let archive = here.home().join("shop.tar").display().to_string();
    here.ok(&["save", "-o", &archive, &name]);
    for (containerd, ctr) in versions("containerd", false).into_iter().zip(versions("ctr", false)) {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let config = format!(
            "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{at}/sock\"\n[ttrpc]\naddress = \"{at}/sock.ttrpc\"\n"
        );
        std::fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut command = Command::new(&containerd);
        command.arg("--config").arg(dir.path().join("config.toml")).stdout(Stdio::null()).stderr(Stdio::null());
        let _running = Containerd(command.spawn().unwrap());
        wait_until("containerd answers", || dir.path().join("sock").exists());
        let socket = dir.path().join("sock").display().to_string();
        let ctr = |namespace: &str, args: &[&str]| ok(&ctr, &[&["-a", &socket, "-n", namespace], args].concat());
        ctr("pulled", &["content", "fetch", "--plain-http", "--all-platforms", &name]);
        ctr("imported", &["images", "import", "--no-unpack", "--all-platforms", &archive]);
        for namespace in ["pulled", "imported"] {
            let images = ctr(namespace, &["images", "ls"]);
            assert!(images.contains(&digest), "{} {namespace}: {images}", containerd.display());
        }
    }
}

#[test]
fn buildah_and_podman_pull_the_root_file_system() {
    let registry = DockerRegistry::start();
    let here = Sealift::new();
    let name = registry.name("team/shop:1");
    build(&here, &name, &[]);
    here.ok(&["push", &name]);
    let policy = here.home().join("policy.json");
    std::fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    for (program, is_new) in [("buildah", false), ("podman", true)] {
        for program in versions(program, is_new) {
            let dir = tempfile::tempdir().unwrap();
            let [root, run_root] = ["root", "run"].map(|part| dir.path().join(part).display().to_string());
            let storage = ["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"];
            let policy = policy.display().to_string();
            let pull = ["pull", "-q", "--signature-policy", &policy, "--tls-verify=false", &name];
            let id = ok(&program, &[&storage[..], &pull].concat());
            assert_eq!(id.trim().len(), 64, "{}: {id}", program.display());
        }
    }
}
