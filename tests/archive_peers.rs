//! Archives that other programs wrote, also compressed ones, load with what belongs to their images.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use common::images::{cluster_image, container_image};
use common::kubefiles::newer_peers;
use common::registry::DockerRegistry;
use common::run;
use common::sealift::{Sealift, assert_says};
use common::trust::{keys, sign};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn peer(program: &str) -> String {
    newer_peers().join(program).display().to_string()
}

#[test]
fn compressed_archives_load_from_files_and_pipes() {
    let one = Sealift::new();
    let image = cluster_image(&one.store(), "shop:1", 3, &[100_000, 5_000], &["web:1"]);
    let archive = one.home().join("shop.tar");
    one.ok(&["save", "-o", text(&archive), "shop:1"]);
    run("gzip", &["-k", text(&archive)]);
    run("zstd", &["-q", "-k", text(&archive)]);
    for ending in ["gz", "zst"] {
        let packed = archive.with_extension(format!("tar.{ending}"));
        for pipe in [false, true] {
            let other = Sealift::new();
            if pipe {
                let mut cat = Command::new("cat").arg(&packed).stdout(Stdio::piped()).spawn().unwrap();
                let mut load = other.command(&["load"]);
                assert!(load.stdin(cat.stdout.take().unwrap()).status().unwrap().success());
                cat.wait().unwrap();
            } else {
                other.ok(&["load", "-i", text(&packed)]);
            }
            assert_eq!(other.json(&["inspect", "shop:1"])["digest"], image.digest().to_string(), "{ending} {pipe}");
            other.ok(&["fsck", "--layers"]);
        }
        let mut bytes = std::fs::read(&packed).unwrap();
        bytes.truncate(bytes.len() / 2);
        std::fs::write(&packed, bytes).unwrap();
        let other = Sealift::new();
        assert_says(&other.fails(6, &["load", "-i", text(&packed)]), &[text(&packed)]);
        assert!(other.store().refs().unwrap().is_empty());
    }
}

#[test]
fn archives_of_docker_and_podman_load_with_all_their_names() {
    let one = Sealift::new();
    let (store, home) = (one.store(), one.home());
    // two images that share a layer, and one of them under two names
    let image = container_image(&store, 5, &[50_000, 60_000]);
    store.tag(&"docker.io/library/tool:5".parse().unwrap(), &image).unwrap();
    store.tag(&"docker.io/library/other:1".parse().unwrap(), &container_image(&store, 6, &[40_000])).unwrap();
    let from = |name: &str| format!("oci:{}:docker.io/library/{name}", text(one.store_root()));
    let [root, run_root] = ["root", "run"].map(|part| home.join(part).display().to_string());
    let policy = home.join("policy.json");
    std::fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    let podman = |args: &[&str]| {
        run(&peer("podman"), &[&["--root", &root, "--runroot", &run_root, "--storage-driver", "vfs"], args].concat());
    };
    let storage = |name: &str| format!("containers-storage:[vfs@{root}+{run_root}]docker.io/library/{name}");
    for name in ["tool:5", "other:1"] {
        run(&peer("skopeo"), &["--policy", text(&policy), "copy", "-q", &from(name), &storage(name)]);
    }
    podman(&["tag", "docker.io/library/tool:5", "docker.io/library/again:5"]);
    let (several, only, docker) = (home.join("several.tar"), home.join("only.tar"), home.join("docker.tar"));
    podman(&["save", "-q", "-m", "-o", text(&several), "tool:5", "again:5", "other:1"]);
    podman(&["save", "-q", "-m", "-o", text(&only), "tool:5", "again:5"]);
    run("skopeo", &["copy", "-q", &from("tool:5"), &format!("docker-archive:{}:docker.io/library/tool:5", text(&docker))]);
    for (archive, tag, expected) in [
        (&several, None, vec!["docker.io/library/again:5", "docker.io/library/other:1", "docker.io/library/tool:5"]),
        (&only, None, vec!["docker.io/library/again:5", "docker.io/library/tool:5"]),
        (&only, Some("mine:1"), vec!["docker.io/library/mine:1"]),
        (&docker, None, vec!["docker.io/library/tool:5"]),
    ] {
        for gzip in [false, true] {
            let other = Sealift::new();
            let mut load = vec!["load"];
            load.extend(tag.map_or_else(Vec::new, |tag| vec!["-t", tag]));
            let shell = format!(
                "{} {} | {} {}",
                if gzip { "gzip -c" } else { "cat" },
                text(archive),
                env!("CARGO_BIN_EXE_sealift"),
                load.join(" ")
            );
            let mut command = Command::new("sh");
            command.args(["-c", &shell]).env("SEALIFT_STORE", other.store_root()).env("HOME", other.home());
            let output = command.output().unwrap();
            assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr));
            let names: Vec<String> = other.store().refs().unwrap().iter().map(|(name, _)| name.to_string()).collect();
            assert_eq!(names, expected, "{shell}");
            other.ok(&["fsck", "--layers"]);
        }
    }
    assert_says(&Sealift::new().fails(2, &["load", "-i", text(&several), "-t", "mine:1"]), &["the archive has 2 images"]);
}

#[test]
fn what_refers_to_an_image_is_no_image_in_archives_of_oras_and_cosign() {
    let registry = DockerRegistry::start();
    let one = Sealift::new();
    let name = registry.name("team/shop:1");
    let image = cluster_image(&one.store(), &name, 7, &[1000], &[]);
    let (key, public) = keys(&one, "own");
    for format in ["simple", "bundle"] {
        sign(&one, &name, &key, &["--format", format]);
    }
    one.ok(&["push", &name]);
    let archive = one.home().join("backup.tar");
    run(&peer("oras"), &["backup", "--include-referrers", "--plain-http", "--output", text(&archive), &name]);
    let mut archives = vec![(archive, 2)];
    for version in ["2.5", "3.1"] {
        let (dir, tar) = (one.home().join(version), one.home().join(format!("{version}.tar")));
        run(&peer(&format!("cosign-{version}")), &["save", "--dir", text(&dir), &name]);
        run("tar", &["-C", text(&dir), "-cf", text(&tar), "."]);
        archives.push((tar, 1));
    }
    for (archive, signatures) in archives {
        let other = Sealift::new();
        other.ok(&["load", "-i", text(&archive), "-t", "shop:1"]);
        assert_eq!(other.json(&["inspect", "shop:1"])["digest"], image.digest().to_string(), "{}", archive.display());
        let verified = other.json(&["verify", "shop:1", "--key", &public]);
        assert_eq!(verified["signatures"].as_array().unwrap().len(), signatures, "{}: {verified}", archive.display());
        other.ok(&["rmi", "shop:1"]);
        other.ok(&["prune"]);
        assert!(other.store().roots().unwrap().is_empty());
    }
}
