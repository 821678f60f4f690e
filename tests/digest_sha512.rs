//! Images with SHA-512 digests work like all others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write as _;

use common::images::{gzip, noise, tar_layer};
use common::run;
use common::sealift::{Sealift, assert_says};
use common::serve::Serve;
use oci_spec::image::Descriptor;
use sealift::image::{Algorithm, Blob, Digest};
use sealift::store::Store;
use serde_json::{Value, json};

/// Puts bytes under their SHA-512 digest; a descriptor.
fn put(store: &Store, media_type: &str, bytes: &[u8]) -> Value {
    let blob = Blob { digest: Algorithm::Sha512.digest(bytes), size: bytes.len() as u64 };
    let mut ingest = store.ingest(&blob).unwrap();
    ingest.write_all(bytes).unwrap();
    ingest.commit().unwrap();
    json!({"mediaType": media_type, "digest": blob.digest, "size": blob.size})
}

/// An image all of whose digests but the diff IDs are SHA-512; its digest.
fn image(store: &Store, name: &str, layers: usize) -> Digest {
    let tars: Vec<Vec<u8>> = (0..layers).map(|number| tar_layer(900 + number as u64, 50_000)).collect();
    let diff_ids: Vec<Digest> = tars.iter().map(|tar| Digest::of(tar)).collect();
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(store, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
    let layers: Vec<Value> = tars.iter().map(|tar| put(store, "application/vnd.oci.image.layer.v1.tar+gzip", &gzip(tar))).collect();
    let manifest =
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": layers});
    let manifest = put(store, "application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
    let manifest: Descriptor = serde_json::from_value(manifest).unwrap();
    store.tag(&name.parse().unwrap(), &manifest).unwrap();
    manifest.digest().try_into().unwrap()
}

#[test]
fn images_with_sha512_digests_are_saved_loaded_pushed_pulled_unpacked_and_checked() {
    let (here, there, site, away) = (Sealift::new(), Sealift::new(), Sealift::new(), Sealift::new());
    let digest = image(&here.store(), "shop:512", 3);
    assert_says(&digest.to_string(), &["sha512:"]);
    let archive = here.home().join("shop.tar").display().to_string();
    here.ok(&["save", "shop:512", "-o", &archive]);
    assert_eq!(run("tar", &["-tf", &archive]).matches("blobs/sha512/").count(), 1 + 5, "the directory, and five blobs");
    there.ok(&["load", "-i", &archive]);
    assert_eq!(there.json(&["inspect", "shop:512"])["digest"], digest.to_string());
    there.ok(&["unpack", "shop:512", &there.home().join("rootfs").display().to_string()]);

    site.store();
    let serve = Serve::start(&site, &["--writable"]);
    let name = format!("{}/team/shop:512", serve.host());
    there.ok(&["tag", "shop:512", &name]);
    there.ok(&["push", &name]);
    assert_eq!(there.json(&["push", &name])["movedBytes"], 0);
    assert_says(&away.ok(&["pull", &name]), &["sha"]);
    let by_digest = format!("{}/team/shop@{digest}", serve.host());
    assert_eq!(away.ok(&["pull", &by_digest]).trim(), digest.to_string());
    away.ok(&["fsck", "--layers"]);
    site.ok(&["fsck"]);

    // damage is found, what no name reaches goes
    let layer =
        away.store().blobs().unwrap().into_iter().filter(|blob| blob.digest.algorithm() == Algorithm::Sha512).max_by_key(|blob| blob.size);
    let layer = layer.unwrap();
    let path = away.store().blob_path(&layer.digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let said = away.run(&["fsck"]);
    assert_eq!(said.code, 6, "{}{}", said.stdout, said.stderr);
    assert_says(&format!("{}{}", said.stdout, said.stderr), &[&layer.digest.to_string()]);
    there.ok(&["rmi", "shop:512", &name]);
    there.ok(&["prune"]);
    assert_eq!(there.store().blobs().unwrap(), []);
}

#[test]
fn the_local_registry_accepts_uploads_with_sha512_digests() {
    let site = Sealift::new();
    site.store();
    let serve = Serve::start(&site, &["--writable"]);
    let base = format!("http://{}/v2/team/shop", serve.host());
    let curl = |args: &[&str]| run("curl", &[&["-sS", "-o", "/dev/null", "-w", "%{http_code} %header{location}"], args].concat());
    let bytes = noise(77, 200_000);
    let digest = Algorithm::Sha512.digest(&bytes);
    let file = site.home().join("blob");
    std::fs::write(&file, &bytes).unwrap();
    let data = format!("@{}", file.display());
    let begun = curl(&["-X", "POST", &format!("{base}/blobs/uploads/")]);
    let open = format!("http://{}{}", serve.host(), begun.split_once(' ').unwrap().1);
    assert_says(&curl(&["-X", "PATCH", "--data-binary", &data, &open]), &["202"]);
    let wrong = Algorithm::Sha512.digest(b"other");
    assert_says(&curl(&["-X", "POST", "--data-binary", &data, &format!("{base}/blobs/uploads/?digest={wrong}")]), &["400"]);
    assert_says(&curl(&["-X", "PUT", &format!("{open}?digest={digest}")]), &["201", &digest.to_string()]);
    assert_eq!(site.store().read(&Blob { digest, size: 200_000 }).unwrap(), bytes);
    assert_says(&curl(&[&format!("{base}/blobs/{digest}")]), &["200"]);
}
