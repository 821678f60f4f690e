//! The store is an OCI layout that other tools read and write, and that many processes use at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::images::{cluster_image, container_image, noise};
use common::run;
use common::sealift::{Sealift, assert_says};
use sealift::image::{Blob, Digest};

#[test]
fn skopeo_reads_and_writes_the_store() {
    let sealift = Sealift::new();
    let store = sealift.store();
    let image = container_image(&store, 3, &[50_000, 60_000]);
    store.tag(&"registry.example.com/team/tool:3".parse().unwrap(), &image).unwrap();
    let root = sealift.store_root().to_str().unwrap();
    let from = format!("oci:{root}:registry.example.com/team/tool:3");
    let raw = run("skopeo", &["inspect", "--raw", &from]);
    assert_eq!(Digest::of(raw.as_bytes()).to_string(), image.digest().to_string());
    // there and back through a directory of its own
    let away = format!("oci:{}:v1", sealift.home().join("away").display());
    run("skopeo", &["copy", "-q", &from, &away]);
    run("skopeo", &["copy", "-q", &away, &format!("oci:{root}:docker.io/library/back:1")]);
    assert_eq!(sealift.json(&["inspect", "back:1"])["digest"], image.digest().to_string());
    assert_eq!(sealift.ok(&["images", "-q"]), "back:1\nregistry.example.com/team/tool:3\n");
    sealift.ok(&["fsck"]);
}

#[test]
fn images_shows_shared_sizes_and_prune_frees_what_rmi_left() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "shop:1", 1, &[500_000], &["docker.io/library/nginx:1"]);
    cluster_image(&sealift.store(), "shop:2", 2, &[600_000], &["docker.io/library/nginx:1"]);
    sealift.ok(&["tag", "shop:1", "same:1", "registry.example.com/other:1"]);
    let images = sealift.json(&["images"]);
    assert_eq!(images.as_array().unwrap().len(), 4);
    let own = |name: &str| {
        let row = images.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
        (row["kind"].as_str().unwrap().to_owned(), row["ownSize"].as_u64().unwrap(), row["size"].as_u64().unwrap())
    };
    let (kind, own_bytes, size) = own("docker.io/library/shop:1");
    assert!(kind == "cluster" && own_bytes > 500_000 && own_bytes <= size, "{images}");
    assert_says(&sealift.ok(&["images"]), &["REPOSITORY", "registry.example.com/other", "linux/amd64"]);
    assert_says(&sealift.ok(&["inspect", "shop:1"]), &["Platform linux/amd64", "cluster image", "nginx:1"]);
    assert_says(&sealift.fails(1, &["rmi", "shop:2", "shop:9"]), &["no such image: shop:9", "`shop:1`"]);
    assert!(sealift.ok(&["images", "-q"]).contains("shop:2"), "all names or none");
    sealift.ok(&["rmi", "shop:1", "same:1"]);
    assert_eq!(sealift.json(&["prune"])["blobs"], 0, "another name keeps the blobs");
    sealift.ok(&["rmi", "registry.example.com/other:1"]);
    let would = sealift.json(&["prune", "--dry-run"]);
    let did = sealift.json(&["prune"]);
    assert_eq!(would, did);
    assert!(did["bytes"].as_u64() >= Some(500_000), "{did}");
    sealift.ok(&["fsck"]);
    assert_eq!(sealift.ok(&["images", "-q"]), "shop:2\n");
}

#[test]
fn fsck_reports_damaged_blobs_with_the_affected_images() {
    for case in ["bit flip", "cut off", "missing"] {
        let sealift = Sealift::new();
        let store = sealift.store();
        cluster_image(&store, "good:1", 1, &[50_000], &[]);
        let broken = cluster_image(&store, "broken:1", 2, &[70_000], &[]);
        let leaf = store.walk(&broken).unwrap().into_iter().map(|node| node.blob).max_by_key(|blob| blob.size).unwrap();
        let path = store.blob_path(&leaf.digest);
        let mut bytes = std::fs::read(&path).unwrap();
        match case {
            "bit flip" => bytes[30_000] ^= 1,
            _ => bytes.truncate(30_000),
        }
        if case == "missing" {
            std::fs::remove_file(&path).unwrap()
        } else {
            std::fs::write(&path, bytes).unwrap()
        }
        let ended = sealift.run(&["fsck"]).expect_code(6);
        assert_says(&ended.stdout, &[&leaf.digest.to_string(), "broken:1"]);
        assert!(!ended.stdout.contains("good:1"), "{case}: {}", ended.stdout);
        let saved = sealift.home().join("x.tar");
        assert_says(&sealift.fails(6, &["save", "-o", saved.to_str().unwrap(), "broken:1"]), &[&leaf.digest.to_string()]);
        assert!(!saved.exists(), "{case}: no half archive");
        sealift.ok(&["save", "-o", saved.to_str().unwrap(), "good:1"]);
    }
}

#[test]
fn many_processes_use_one_store_concurrently() {
    let one = Sealift::new();
    let archives: Vec<_> = (1..=4)
        .map(|seed| {
            // all share the container image, each has layers of its own
            cluster_image(&one.store(), &format!("shop:{seed}"), seed, &[800_000, 900_000], &["docker.io/library/nginx:1"]);
            let archive = one.home().join(format!("{seed}.tar"));
            one.ok(&["save", "-o", archive.to_str().unwrap(), &format!("shop:{seed}")]);
            archive
        })
        .collect();
    let other = Sealift::new();
    std::thread::scope(|scope| {
        for archive in archives.iter().chain(&archives) {
            scope.spawn(|| other.ok(&["load", "-i", archive.to_str().unwrap()]));
        }
        scope.spawn(|| (0..5).for_each(|_| drop(other.ok(&["prune"]))));
    });
    assert_eq!(other.ok(&["images", "-q"]), "shop:1\nshop:2\nshop:3\nshop:4\n");
    other.ok(&["fsck"]);
    assert_eq!(other.json(&["prune"])["blobs"], 0);
}

#[test]
fn a_killed_writer_leaves_only_what_prune_removes() {
    let sealift = Sealift::new();
    let store = sealift.store();
    let bytes = noise(9, 300_000);
    let mut writer = store.writer().unwrap();
    std::io::Write::write_all(&mut writer, &bytes).unwrap();
    // as a killed process leaves it: nobody cleans up
    std::mem::forget(writer);
    let mut ingest = store.ingest(&Blob::of(&bytes)).unwrap();
    std::io::Write::write_all(&mut ingest, &bytes[..100_000]).unwrap();
    drop(ingest);
    assert!(!store.has(&Blob::of(&bytes)));
    assert_eq!(sealift.json(&["prune"])["leftovers"], 2);
    assert_eq!(std::fs::read_dir(sealift.store_root().join("ingest")).unwrap().count(), 0);
}

#[test]
fn a_store_on_a_read_only_disk_can_be_read() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "shop:1", 1, &[50_000], &[]);
    let script = r#"mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && "$2" images && "$2" fsck && ! "$2" tag shop:1 new:1"#;
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", sealift.store_root().to_str().unwrap(), env!("CARGO_BIN_EXE_sealift")])
        .env("SEALIFT_STORE", sealift.store_root())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_says(&said, &["Read-only file system"]);
}

#[test]
fn a_directory_that_is_not_a_store_is_left_unchanged() {
    let sealift = Sealift::new();
    std::fs::create_dir(sealift.store_root()).unwrap();
    std::fs::write(sealift.store_root().join("letter.txt"), "dear").unwrap();
    assert_says(&sealift.fails(2, &["images"]), &["not an image store", "hint:"]);
    assert_eq!(std::fs::read_dir(sealift.store_root()).unwrap().count(), 1);
}
