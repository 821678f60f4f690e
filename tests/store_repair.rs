//! A damaged store is repaired, and a read-only store refuses writes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use common::images::cluster_image;
use common::registry::DockerRegistry;
use common::sealift::{Sealift, assert_says};
use oci_spec::image::Descriptor;
use sealift::image::{Blob, Digest};

const WORKLOADS: &[&str] = &["docker.io/library/nginx:1", "quay.io/a/b:2"];

/// Damages a leaf, loses another, and damages the root document.
fn damage(sealift: &Sealift, root: &Descriptor) -> Vec<String> {
    let store = sealift.store();
    let root = Blob::try_from(root).unwrap();
    let leaves: Vec<Digest> = store.blobs().unwrap().into_iter().filter(|blob| blob.size > 50_000).map(|blob| blob.digest).collect();
    for digest in [&leaves[0], &root.digest] {
        let path = store.blob_path(digest);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    std::fs::remove_file(store.blob_path(&leaves[1])).unwrap();
    vec![leaves[0].to_string(), root.digest.to_string()]
}

#[test]
fn damaged_blobs_are_restored_from_an_archive() {
    let sealift = Sealift::new();
    let root = cluster_image(&sealift.store(), "docker.io/library/shop:1", 1, &[300_000], WORKLOADS);
    let archive = sealift.home().join("shop.tar");
    sealift.ok(&["save", "-o", archive.to_str().unwrap(), "shop:1"]);
    let harmed = damage(&sealift, &root);
    let said = sealift.run(&["fsck"]).expect_code(6);
    harmed.iter().for_each(|digest| assert_says(&said.stdout, &[digest]));
    assert_says(&said.stderr, &["fsck --repair"]);
    let other = Sealift::new();
    cluster_image(&other.store(), "docker.io/library/other:1", 9, &[1000], &[]);
    let wrong = other.home().join("other.tar");
    other.ok(&["save", "-o", wrong.to_str().unwrap(), "other:1"]);
    let still = sealift.run(&["fsck", "--repair", "--from", wrong.to_str().unwrap()]).expect_code(6);
    assert_says(&still.stderr, &["has no blob", "sealift rmi"]);
    assert_says(&sealift.ok(&["fsck", "--repair", "--from", archive.to_str().unwrap()]), &["no problems in the store"]);
    sealift.ok(&["fsck"]);
    assert_eq!(sealift.json(&["prune"])["blobs"], 0);
}

#[test]
fn damaged_blobs_are_restored_from_the_registry_of_the_image() {
    let registry = DockerRegistry::start();
    let sealift = Sealift::new();
    let name = registry.name("team/shop:1");
    let root = cluster_image(&sealift.store(), &name, 1, &[300_000], WORKLOADS);
    sealift.ok(&["push", "--plain-http", &name]);
    // the name in the registry means something else by now
    let moved = Sealift::new();
    cluster_image(&moved.store(), &name, 7, &[1000], &[]);
    moved.ok(&["push", "--plain-http", &name]);
    damage(&sealift, &root);
    assert_says(&sealift.ok(&["fsck", "--repair", "--plain-http"]), &["no problems in the store"]);
    assert_eq!(sealift.json(&["inspect", &name])["digest"], root.digest().to_string());
}

#[test]
fn a_read_only_store_can_be_read_and_refuses_writes() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "docker.io/library/shop:1", 1, &[100_000], WORKLOADS);
    let script = r#"mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && cd "$3" || exit 9
        s() { "$b" --store "$r" "$@"; }; b=$2; r=$1
        s images && s inspect shop:1 && s save -o out.tar shop:1 && s fsck && s inventory -o site.json || exit 8
        for verb in "tag shop:1 new:1" "rmi shop:1" "prune" "load -i other.tar"; do s $verb && exit 7; done; exit 0"#;
    let other = Sealift::new();
    cluster_image(&other.store(), "docker.io/library/other:1", 9, &[1000], &[]);
    other.ok(&["save", "-o", sealift.home().join("other.tar").to_str().unwrap(), "other:1"]);
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([sealift.store_root().as_os_str(), env!("CARGO_BIN_EXE_sealift").as_ref(), sealift.home().as_os_str()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    assert_eq!(said.matches("is not writable: Read-only file system").count(), 4, "{said}");
    assert_says(&said, &["hint: use a writable store with `--store DIR`"]);
}
