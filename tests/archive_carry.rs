//! Images are carried in archives, also through skopeo, and a killed load is resumed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use common::images::{cluster_image, container_image};
use common::run;
use common::sealift::{Sealift, assert_says};

const NAME: &str = "docker.io/library/shop:1";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A sealift with one image, and its archive.
fn saved(layers: &[usize]) -> (Sealift, PathBuf) {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), NAME, 1, layers, &["docker.io/library/nginx:1", "quay.io/a/b:2"]);
    let archive = sealift.home().join("shop.tar");
    sealift.ok(&["save", "-o", text(&archive), "shop:1"]);
    (sealift, archive)
}

#[test]
fn an_archive_saved_on_one_machine_loads_on_another() {
    let (one, archive) = saved(&[300_000, 400_000]);
    let other = Sealift::new();
    assert_eq!(other.ok(&["load", "-i", text(&archive)]), "shop:1\n");
    assert_eq!(other.json(&["inspect", "shop:1"]), one.json(&["inspect", "shop:1"]));
    other.ok(&["fsck"]);
    let again = other.json(&["load", "-i", text(&archive)]);
    assert_eq!((&again["newBlobs"], &again["newBytes"]), (&0.into(), &0.into()));
    other.ok(&["save", "-o", text(&other.home().join("again.tar")), "shop:1"]);
    assert!(std::fs::read(other.home().join("again.tar")).unwrap() == std::fs::read(&archive).unwrap(), "the same images, the same bytes");
}

#[test]
fn archives_go_through_pipes() {
    let (one, archive) = saved(&[100_000]);
    let piped = one.command(&["save", "-o", "-", "shop:1"]).output().unwrap().stdout;
    assert!(piped == std::fs::read(&archive).unwrap());
    let other = Sealift::new();
    let mut load = other.command(&["load"]).stdin(Stdio::piped()).spawn().unwrap();
    load.stdin.take().unwrap().write_all(&piped).unwrap();
    assert!(load.wait().unwrap().success());
    other.ok(&["fsck"]);
}

#[test]
fn skopeo_reads_and_writes_archives_of_sealift() {
    let (one, archive) = saved(&[200_000]);
    let copy = one.home().join("copy.tar");
    let from = format!("oci-archive:{}:{NAME}", text(&archive));
    // `--all` keeps the index, but skopeo 1.9 writes it anew without the artifact type; without it skopeo picks the rootfs
    // of this platform
    run("skopeo", &["copy", "-q", "--all", &from, &format!("oci-archive:{}:{NAME}", text(&copy))]);
    let other = Sealift::new();
    assert_eq!(other.ok(&["load", "-i", text(&copy)]), "shop:1\n");
    assert_eq!(other.json(&["inspect", "shop:1"])["parts"], one.json(&["inspect", "shop:1"])["parts"]);
    run("skopeo", &["copy", "-q", &from, &format!("oci-archive:{}", text(&one.home().join("nameless.tar")))]);
    let nameless = one.home().join("nameless.tar");
    assert_says(&other.fails(2, &["load", "-i", text(&nameless)]), &["--tag"]);
    assert_eq!(other.ok(&["load", "-i", text(&nameless), "--tag", "rootfs:1"]), "rootfs:1\n");
    other.ok(&["fsck"]);
}

#[test]
fn a_killed_load_is_resumed() {
    let (_one, archive) = saved(&[4_000_000; 12]);
    let bytes = std::fs::read(&archive).unwrap();
    let other = Sealift::new();
    for part in [3, 6, 9] {
        let mut load = other.command(&["load"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = load.stdin.take().unwrap();
        stdin.write_all(&bytes[..bytes.len() / 10 * part]).unwrap();
        load.kill().unwrap();
        load.wait().unwrap();
        assert_eq!(other.ok(&["images", "-q"]), "", "no name before all is here");
    }
    let loaded = other.json(&["load", "-i", text(&archive)]);
    assert!(loaded["knownBlobs"].as_u64() >= Some(3), "{loaded}");
    other.ok(&["fsck"]);
    let pruned = other.json(&["prune"]);
    assert_eq!((&pruned["blobs"], &pruned["leftovers"]), (&0.into(), &0.into()), "nothing is left over");
}

#[test]
fn unusable_archives_are_refused_with_their_reason() {
    let (one, archive) = saved(&[100_000]);
    let bytes = std::fs::read(&archive).unwrap();
    let other = Sealift::new();
    let file = one.home().join("wrong.tar");
    for (case, content, code, says) in [
        ("a letter", b"Dear reader, ".repeat(100), 6, "not a tar archive"),
        ("cut off", bytes[..bytes.len() / 2].to_vec(), 6, "truncated"),
        ("empty", Vec::new(), 2, "the file is empty"),
        ("compressed otherwise", b"\xfd7zXZ\0".repeat(100), 2, "`xz -dc FILE | sealift load`"),
    ] {
        std::fs::write(&file, content).unwrap();
        let said = other.fails(code, &["load", "-i", text(&file)]);
        assert!(said.contains(says), "{case}: {said}");
    }
    assert_says(&other.fails(1, &["load", "-i", text(&one.home().join("none.tar"))]), &["none.tar"]);
    assert_says(&one.fails(1, &["save", "-o", text(&file), "shpo:1"]), &["no such image: shpo:1", "did you mean `shop:1`?"]);
    assert_says(&one.fails(1, &["save", "-o", "/dev/full", "shop:1"]), &["/dev/full", "No space left"]);
    assert_says(&one.fails(2, &["save", "-o", text(one.home()), "shop:1"]), &["is a directory"]);
    assert_says(&one.fails(2, &["save", "shop:1"]), &["--output"]);
    assert_says(&one.fails(2, &["save", "-o", "", "shop:1"]), &["has no name", "-o FILE"]);
    let missing = one.home().join("missing/shop.tar");
    assert_says(&one.fails(1, &["save", "-o", text(&missing), "shop:1"]), &["missing: No such file", "hint: create the directory"]);
    assert_says(&one.fails(2, &["save", "-o", text(&file), "--for", text(&missing), "shop:1"]), &["shop.tar", "hint: `sealift inventory"]);
    assert_says(&other.fails(2, &["load", "-i", text(one.store_root())]), &["is a directory", "an OCI layout directory is a store"]);
    assert_says(&other.fails(2, &["load", "-i", text(one.home())]), &["is a directory", "any part of a split one"]);
}

#[test]
fn a_full_disk_is_reported_beforehand_and_leaves_a_sound_store() {
    let (one, archive) = saved(&[3_000_000, 3_000_000, 3_000_000]);
    let script = r#"r=$1 b=$2 a=$3; mount -t tmpfs -o size=5M none "$r" && s() { "$b" --store "$r/store" "$@"; }
        s load -i "$a"; echo "code $?" >&2; s load < "$a"; echo "code $?" >&2; ls -A "$r/store/blobs/sha256" "$r/store/ingest" >&2
        cat "$a" | s load; echo "code $?" >&2
        mount -o remount,size=16M "$r"
        { head -c 5000000 "$a"; dd if=/dev/zero of="$r/fill" bs=64k 2> /dev/null; tail -c +5000001 "$a"; } | s load; echo "code $?" >&2
        rm "$r/fill" && s fsck && s load -i "$a" -o json && s fsck --layers && s prune
        for split in "" "--split 1M --parity 1"; do s save $split -o "$r/again.tar" shop:1; echo "code $?" >&2; done; ls -A "$r" >&2"#;
    let room = one.home().join("room");
    std::fs::create_dir(&room).unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh", text(&room), env!("CARGO_BIN_EXE_sealift"), text(&archive)])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let (beforehand, rest) = said.split_once("for blob sha256:").unwrap();
    assert_eq!(beforehand.matches("10 MiB to load, 4 MiB free").count(), 2, "from a file, also on stdin: {said}");
    assert!(beforehand.lines().filter(|line| line.ends_with(".part") || line.len() == 64).count() == 0, "nothing was written: {said}");
    assert_says(rest, &["No space left on device", "blob sha256:", "hint: `sealift prune`", "no space left in", "are free"]);
    assert_eq!(said.matches("code 1\n").count(), 6, "{said}");
    assert!(!said.contains(".new-") && !said.contains("again.tar."), "nothing is left half written: {said}");
    let loaded = String::from_utf8_lossy(&output.stdout);
    assert!(!loaded.contains("\"knownBlobs\": 0") && loaded.contains("knownBlobs"), "what had come in was kept: {loaded}");
}

#[test]
fn files_of_docker_save_become_container_images() {
    let one = Sealift::new();
    let store = one.store();
    let image = container_image(&store, 5, &[50_000, 60_000]);
    store.tag(&"docker.io/library/tool:5".parse().unwrap(), &image).unwrap();
    let (saved, context) = (one.home().join("saved.tar"), one.home().join("context"));
    let from = format!("oci:{}:docker.io/library/tool:5", text(one.store_root()));
    run("skopeo", &["copy", "-q", &from, &format!("docker-archive:{}:docker.io/library/tool:5", text(&saved))]);
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Kubefile"), "FROM scratch\nIMAGES tool:5\n").unwrap();
    let other = Sealift::new();
    let built = other.json(&["build", "-t", "shop:1", "--from-archive", text(&saved), text(&context)]);
    other.ok(&["fsck"]);
    let says = other.ok(&["inspect", "shop:1"]);
    assert_says(&says, &["tool:5"]);
    assert!(built["digest"].is_string(), "{built}");
    // the same compressed
    run("gzip", &["-k", text(&saved)]);
    let packed = one.home().join("saved.tar.gz");
    let again = Sealift::new().json(&["build", "-t", "shop:1", "--from-archive", text(&packed), text(&context)]);
    assert_eq!(again["digest"], built["digest"]);
    // a damaged one is refused by name
    let mut bytes = std::fs::read(&saved).unwrap();
    let place = bytes.windows(7).position(|window| window == b"noise-5").unwrap();
    bytes[place + 20_000] ^= 1;
    std::fs::write(&saved, bytes).unwrap();
    let empty = Sealift::new();
    assert_says(&empty.fails(6, &["build", "-t", "shop:1", "--from-archive", text(&saved), text(&context)]), &["blob sha256:", "damaged"]);
}
