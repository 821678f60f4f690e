//! A store with many blobs: the work of a command grows with what it has to look at, and no command looks at all blobs that need not.
//! Work is counted (reading system calls), not timed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::sealift::Sealift;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use sealift::image::Digest;
use serde_json::{Value, json};

/// Layers of one image; each is a blob of a few bytes.
const LAYERS: usize = 200;

fn put(dir: &Path, media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    std::fs::write(dir.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

/// A layout with so many images of [`LAYERS`] tiny blobs each, written past the store: artifacts, since no image has so many layers.
fn fill(dir: &Path, images: usize) {
    std::fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    let entries: Vec<Value> = (0..images)
        .map(|image| {
            let layers: Vec<Value> =
                (0..LAYERS).map(|layer| put(dir, "text/plain", format!("layer {layer} of {image}").as_bytes())).collect();
            let manifest = json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": "text/plain",
                "config": put(dir, "application/vnd.oci.empty.v1+json", b"{}"), "layers": layers,
            });
            let mut entry = put(dir, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": format!("docker.io/library/many:{image}")});
            entry
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
    std::fs::write(dir.join("index.json"), index.to_string()).unwrap();
    std::fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Runs the command, which must succeed; how often it read something.
fn reads(sealift: &Sealift, args: &[&str]) -> u64 {
    let mut command = sealift.command(args);
    let mut child = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    // it has ended, but its account is still there
    waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    let account = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap();
    assert!(child.wait().unwrap().success(), "{args:?}");
    account.lines().find_map(|line| line.strip_prefix("syscr: ")).unwrap().parse().unwrap()
}

#[test]
fn the_work_grows_with_the_blobs_that_a_command_reads() {
    let (small, large) = (Sealift::new(), Sealift::new());
    fill(small.store_root(), 25);
    fill(large.store_root(), 100);
    let blobs = 100 * LAYERS as u64;
    let archive = |sealift: &Sealift| sealift.home().join("many.tar").to_str().unwrap().to_owned();
    for (args, at_most) in [
        // a directory's entries come by other calls than reads
        (&["images"][..], blobs / 10),
        (&["tag", "many:1", "other:1"], blobs / 10),
        (&["rmi", "other:1"], blobs / 10),
        (&["prune"], blobs / 10),
        (&["inventory"], blobs / 10),
        (&["save", "-q", "-o", "ARCHIVE", "many:2"], blobs / 4),
        (&["fsck"], blobs * 3),
    ] {
        let with = |sealift: &Sealift| {
            let archive = archive(sealift);
            let args: Vec<&str> = args.iter().map(|arg| if *arg == "ARCHIVE" { archive.as_str() } else { arg }).collect();
            reads(sealift, &args)
        };
        let (few, many) = (with(&small), with(&large));
        assert!(many <= at_most, "{args:?}: {many} reads in a store of {blobs} blobs");
        assert!(many <= few * 5, "{args:?}: {few} reads with a quarter of the blobs, {many} with all");
    }
    // what comes in is looked at, what is there is not
    let empty = Sealift::new();
    let load = &["load", "-i", &archive(&large)];
    let (into_empty, into_full) = (reads(&empty, load), reads(&large, load));
    assert!(into_full <= into_empty + 200, "{into_empty} reads into an empty store, {into_full} into a full one");
}
