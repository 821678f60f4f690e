use std::io::{Read as _, Write as _};

use oci_spec::image::{Descriptor, MediaType};

use super::*;
use crate::error::{Kind, hints_of, kind_of};
use crate::events::Context;
use crate::image::Reference;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Stores an image of one layer and tags it.
fn image(store: &Store, named: &str, layer: &[u8]) -> Descriptor {
    let of = |media_type: MediaType, blob: Blob| Descriptor::new(media_type, blob.size, blob.digest);
    let layer = of(MediaType::ImageLayer, store.put(layer).unwrap());
    let config = of(MediaType::EmptyJSON, store.put(b"{}").unwrap());
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": [layer]});
    let descriptor = of(MediaType::ImageManifest, store.put(manifest.to_string().as_bytes()).unwrap());
    store.tag(&name(named), &descriptor).unwrap();
    descriptor
}

#[test]
fn a_blob_appears_complete_or_not_at_all() {
    let (_dir, store) = store();
    let mut writer = store.writer().unwrap();
    writer.write_all(b"hello").unwrap();
    drop(writer);
    assert_eq!(store.blobs().unwrap(), []);
    assert_eq!(std::fs::read_dir(store.ingest_dir()).unwrap().count(), 0);
    let mut writer = store.writer().unwrap();
    writer.write_all(b"hello").unwrap();
    let blob = writer.commit().unwrap();
    assert_eq!((blob, store.has(&blob), store.read(&blob).unwrap()), (Blob::of(b"hello"), true, b"hello".to_vec()));
}

#[test]
fn damaged_and_missing_blobs_are_named_when_read() {
    let (_dir, store) = store();
    let good = store.put(b"hello").unwrap();
    let path = store.blob_path(&good.digest);
    for (case, bytes) in [("bit flip", Some(&b"hellp"[..])), ("shorter", Some(b"hell")), ("longer", Some(b"hello!")), ("missing", None)] {
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let error = store.read(&good).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Verification, "{case}: {error:#}");
        assert!(format!("{error:#}").contains(&good.digest.to_string()), "{case}: {error:#}");
    }
}

#[test]
fn a_download_resumes_where_it_stopped() {
    let (_dir, store) = store();
    let bytes = vec![7; 1 << 20];
    let blob = Blob::of(&bytes);
    let mut ingest = store.ingest(&blob).unwrap();
    ingest.write_all(&bytes[..300_000]).unwrap();
    drop(ingest);
    let mut ingest = store.ingest(&blob).unwrap();
    assert_eq!(ingest.offset(), 300_000);
    ingest.write_all(&bytes[300_000..]).unwrap();
    ingest.commit().unwrap();
    assert_eq!(store.read(&blob).unwrap(), bytes);
    let again = store.ingest(&blob).unwrap();
    assert_eq!(again.offset(), blob.size);
    again.commit().unwrap();
    assert!(store.has(&blob));
    assert_eq!(std::fs::read_dir(store.ingest_dir()).unwrap().count(), 0);
}

#[test]
fn a_wrong_download_is_discarded_and_named() {
    let (_dir, store) = store();
    let blob = Blob::of(b"right bytes");
    for wrong in [&b"wrong bytes"[..], b"short"] {
        let mut ingest = store.ingest(&blob).unwrap();
        ingest.write_all(wrong).unwrap();
        let error = ingest.commit().unwrap_err();
        assert_eq!(kind_of(&error), Kind::Verification);
        assert!(error.to_string().contains(&blob.digest.to_string()), "{error:#}");
        assert_eq!((store.has(&blob), store.ingest(&blob).unwrap().offset()), (false, 0));
    }
    let mut ingest = store.ingest(&blob).unwrap();
    assert!(ingest.write_all(b"more bytes than it has").is_err());
    ingest.restart().unwrap();
    ingest.write_all(b"right bytes").unwrap();
    ingest.commit().unwrap();
    assert!(store.has(&blob));
}

#[test]
fn a_second_download_of_a_blob_finds_it_done() {
    let (_dir, store) = store();
    let blob = Blob::of(b"shared");
    let mut first = store.ingest(&blob).unwrap();
    let other = store.clone();
    let second = std::thread::spawn(move || other.ingest(&blob).map(|ingest| (ingest.offset(), ingest.commit())).unwrap());
    std::thread::sleep(std::time::Duration::from_millis(50));
    first.write_all(b"shared").unwrap();
    first.commit().unwrap();
    let (offset, committed) = second.join().unwrap();
    assert_eq!((offset, committed.is_ok()), (blob.size, true));
}

#[test]
fn references_point_until_they_are_removed() {
    let (_dir, store) = store();
    let one = image(&store, "shop:1", b"one");
    image(&store, "shop:2", b"two");
    store.tag(&name("shop:2"), &one).unwrap();
    assert_eq!(store.refs().unwrap().len(), 2);
    let two = store.resolve(&name("shop:2")).unwrap().unwrap();
    assert_eq!(two.digest(), one.digest());
    assert_eq!(
        store.resolve(&name(&format!("else@{}", one.digest()))).unwrap().map(|found| found.digest().clone()),
        Some(one.digest().clone())
    );
    assert!(store.untag(&name("shop:2")).unwrap());
    assert!(!store.untag(&name("shop:2")).unwrap());
    assert_eq!(store.resolve(&name("shop:2")).unwrap(), None);
    let error = store.find(&name("shpo:1")).unwrap_err();
    assert!(hints_of(&error)[0].contains("`shop:1`"), "{:?}", hints_of(&error));
}

#[test]
fn concurrent_writers_of_references_lose_none() {
    let (_dir, store) = store();
    let descriptor = image(&store, "first:1", b"layer");
    std::thread::scope(|scope| {
        for number in 0..8 {
            let (store, descriptor) = (&store, &descriptor);
            scope.spawn(move || store.tag(&name(&format!("many:{number}")), descriptor).unwrap());
        }
    });
    assert_eq!(store.refs().unwrap().len(), 9);
}

#[test]
fn prune_deletes_what_no_image_reaches_and_nothing_else() {
    let (_dir, store) = store();
    let kept = image(&store, "kept:1", b"kept");
    let gone = image(&store, "gone:1", b"gone");
    store.ingest(&Blob::of(b"never came")).unwrap().write_all(b"never").unwrap();
    store.untag(&name("gone:1")).unwrap();
    let counted = store.prune(true, &Context::silent()).unwrap();
    assert_eq!((counted.blobs, counted.leftovers), (2, 1));
    assert!(store.has(&Blob::try_from(&gone).unwrap()), "a dry run deletes nothing");
    assert_eq!(store.prune(false, &Context::silent()).unwrap(), counted);
    assert_eq!(store.walk(&kept).unwrap().iter().filter(|node| store.has(&node.blob)).count(), 3);
    assert_eq!(store.blobs().unwrap().len(), 3);
    assert_eq!(store.prune(false, &Context::silent()).unwrap(), Pruned::default());
}

#[test]
fn prune_waits_for_users_of_the_store() {
    let (_dir, store) = store();
    let in_use = store.lock_shared().unwrap();
    let other = store.clone();
    let prune = std::thread::spawn(move || other.prune(false, &Context::silent()));
    let orphan = store.put(b"being put together").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(250));
    assert!(store.has(&orphan));
    drop(in_use);
    assert_eq!(prune.join().unwrap().unwrap().blobs, 1);
}

#[test]
fn prune_refuses_when_a_manifest_is_damaged() {
    let (_dir, store) = store();
    let descriptor = image(&store, "a:1", b"layer");
    let path = store.blob_path(&Blob::try_from(&descriptor).unwrap().digest);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[5] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(kind_of(&store.prune(false, &Context::silent()).unwrap_err()), Kind::Verification);
    assert_eq!(store.blobs().unwrap().len(), 3);
}

#[test]
fn fsck_reports_problems_with_the_affected_images() {
    let (_dir, store) = store();
    image(&store, "a:1", b"layer");
    assert_eq!(store.fsck(&Context::silent()).unwrap(), []);
    let layer = Blob::of(b"layer");
    std::fs::write(store.blob_path(&layer.digest), b"lay3r").unwrap();
    let problems = store.fsck(&Context::silent()).unwrap();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].digest, &problems[0].images), (Some(layer.digest), &vec![name("a:1")]));
    std::fs::remove_file(store.blob_path(&layer.digest)).unwrap();
    assert!(store.fsck(&Context::silent()).unwrap()[0].message.contains("missing"));
}

#[test]
fn directories_that_are_not_a_store_are_refused() {
    for (case, file, content) in [
        ("not empty", "letter.txt", "dear"),
        ("no oci-layout", "index.json", "{}"),
        ("another version", "oci-layout", r#"{"imageLayoutVersion":"9.9.9"}"#),
        ("damaged", "oci-layout", "{"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(file), content).unwrap();
        assert!(Store::open(dir.path()).is_err(), "{case}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{case}: nothing is written there");
    }
}

#[test]
fn a_store_whose_creation_was_killed_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lock"), "").unwrap();
    std::fs::create_dir(dir.path().join("blobs")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.put(b"x").is_ok());
}

#[test]
fn a_reader_verifies_at_the_end() {
    let (_dir, store) = store();
    let blob = store.put(b"hello").unwrap();
    std::fs::write(store.blob_path(&blob.digest), b"hellp").unwrap();
    let mut reader = store.reader(&blob).unwrap();
    let mut five = [0; 5];
    reader.read_exact(&mut five).unwrap();
    assert_eq!(reader.read(&mut five).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn manifests_of_another_type_or_version_are_refused() {
    let (_dir, store) = store();
    let config = serde_json::json!({"mediaType": MediaType::EmptyJSON, "digest": store.put(b"{}").unwrap().digest, "size": 2});
    let docker = "application/vnd.docker.distribution.manifest.v2+json";
    for (case, document, fine) in [
        ("plain", serde_json::json!({"schemaVersion": 2, "config": config, "layers": []}), true),
        ("another type", serde_json::json!({"schemaVersion": 2, "mediaType": docker, "config": config, "layers": []}), false),
        ("another schema", serde_json::json!({"schemaVersion": 1, "config": config, "layers": []}), false),
        ("no manifest", serde_json::json!({"hello": "world"}), false),
    ] {
        let blob = store.put(document.to_string().as_bytes()).unwrap();
        let descriptor = Descriptor::new(MediaType::ImageManifest, blob.size, blob.digest);
        let kind = store.walk(&descriptor).err().map(|error| kind_of(&error));
        assert_eq!(kind, (!fine).then_some(Kind::Verification), "{case}");
    }
}
