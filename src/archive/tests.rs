use std::io::Read;

use oci_spec::image::{Descriptor, MediaType};

use super::*;
use crate::error::{Kind, kind_of};
use crate::events::Context;
use crate::image::{Blob, Reference};
use crate::store::Store;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn name(text: &str) -> Reference {
    text.parse().unwrap()
}

fn image(store: &Store, named: &str, layers: &[&[u8]]) -> Descriptor {
    let of = |media_type: MediaType, blob: Blob| Descriptor::new(media_type, blob.size, blob.digest);
    let layers: Vec<_> = layers.iter().map(|layer| of(MediaType::ImageLayer, store.put(layer).unwrap())).collect();
    let config = of(MediaType::EmptyJSON, store.put(b"{}").unwrap());
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest, "config": config, "layers": layers});
    let descriptor = of(MediaType::ImageManifest, store.put(manifest.to_string().as_bytes()).unwrap());
    store.tag(&name(named), &descriptor).unwrap();
    descriptor
}

fn archive(store: &Store, names: &[&str]) -> Vec<u8> {
    let selection = select(store, &names.iter().map(|text| name(text)).collect::<Vec<_>>()).unwrap();
    let mut bytes = Vec::new();
    selection.write(store, &mut bytes, &Context::silent()).unwrap();
    assert_eq!(bytes.len() as u64, selection.archive_size());
    bytes
}

#[test]
fn a_loaded_archive_is_saved_again_byte_for_byte() {
    let (_dir, one) = store();
    image(&one, "shop:1", &[b"shared", &[1; 1000]]);
    image(&one, "shop:2", &[b"shared", &[2; 512]]);
    image(&one, "other:1", &[b"not saved"]);
    let bytes = archive(&one, &["shop:2", "shop:1", "shop:2"]);
    let (_dir, other) = store();
    let loaded = load(&other, &bytes[..], &LoadOptions::default(), &Context::silent()).unwrap();
    assert_eq!((loaded.images.len(), loaded.new_blobs, loaded.known_blobs), (2, 6, 0));
    assert_eq!(other.blobs().unwrap().len(), 6);
    assert_eq!(archive(&other, &["shop:1", "shop:2"]), bytes);
    let again = load(&other, &bytes[..], &LoadOptions::default(), &Context::silent()).unwrap();
    assert_eq!((again.new_blobs, again.known_blobs), (0, 6));
}

/// Fails after some bytes, like a disk that is unplugged.
struct Unplugged<'a>(&'a [u8]);

impl Read for Unplugged<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(std::io::Error::other("no such device")),
            count => Ok(count),
        }
    }
}

#[test]
fn an_interrupted_load_resumes_where_it_stopped() {
    let (_dir, one) = store();
    let large: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    image(&one, "shop:1", &[b"small", &large]);
    let bytes = archive(&one, &["shop:1"]);
    let (_dir, other) = store();
    for cut in [600, 5_000, 1_500_000, 2_900_000, bytes.len() - 600] {
        load(&other, Unplugged(&bytes[..cut]), &LoadOptions::default(), &Context::silent()).unwrap_err();
        assert_eq!(other.refs().unwrap(), [], "no name before all is here");
    }
    assert!(!other.blobs().unwrap().is_empty());
    let loaded = load(&other, &bytes[..], &LoadOptions::default(), &Context::silent()).unwrap();
    assert!(loaded.known_blobs > 0);
    assert_eq!(other.fsck(&Context::silent()).unwrap(), []);
}

#[test]
fn damaged_archives_are_refused_and_tag_nothing() {
    let (_dir, one) = store();
    image(&one, "shop:1", &[&[7; 5000]]);
    let good = archive(&one, &["shop:1"]);
    let layer = Blob::of(&[7; 5000]).digest;
    let flipped = {
        let mut bytes = good.clone();
        let place = bytes.windows(100).position(|window| window == [7; 100]).unwrap();
        bytes[place + 50] ^= 1;
        bytes
    };
    let renamed = |from: &str, to: &str| {
        String::from_utf8_lossy(&good)
            .find(from)
            .map(|_| {
                let mut bytes = good.clone();
                let place = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
                bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
                // the header's checksum with the new name
                let header = tar::Header::from_byte_slice(&bytes[place..place + 512]);
                let mut header = header.clone();
                header.set_cksum();
                bytes[place..place + 512].copy_from_slice(header.as_bytes());
                bytes
            })
            .unwrap()
    };
    for (case, bytes, kind, text) in [
        ("bit flip", flipped, Kind::Verification, layer.to_string()),
        ("cut off", good[..good.len() - 3000].to_vec(), Kind::Verification, "truncated".to_owned()),
        ("no oci-layout", renamed("oci-layout", "oci-layoux"), Kind::Usage, "oci-layout".to_owned()),
        ("no index", renamed("index.json", "indax.json"), Kind::Verification, "index.json".to_owned()),
        ("no archive", b"hello".repeat(500), Kind::Verification, "not a tar archive".to_owned()),
        ("empty", Vec::new(), Kind::Usage, "not an OCI archive".to_owned()),
    ] {
        let (_dir, other) = store();
        let error = load(&other, &bytes[..], &LoadOptions::default(), &Context::silent()).expect_err(case);
        assert_eq!(kind_of(&error), kind, "{case}: {error:#}");
        assert!(format!("{error:#}").contains(&text), "{case}: {error:#}");
        assert_eq!(other.refs().unwrap(), [], "{case}");
        load(&other, &good[..], &LoadOptions::default(), &Context::silent()).expect("the good archive loads afterwards");
    }
}

#[test]
fn an_incomplete_image_is_not_saved() {
    let (_dir, store) = store();
    image(&store, "shop:1", &[b"layer"]);
    std::fs::remove_file(store.blob_path(&Blob::of(b"layer").digest)).unwrap();
    let error = select(&store, &[name("shop:1")]).unwrap_err();
    assert!(format!("{error:#}").contains(&Blob::of(b"layer").digest.to_string()), "{error:#}");
    assert_eq!(kind_of(&select(&store, &[name("none:1")]).unwrap_err()), Kind::Failed);
}

#[test]
fn an_archive_without_a_name_needs_a_tag() {
    let (_dir, one) = store();
    let descriptor = image(&one, "shop:1", &[b"layer"]);
    let mut bytes = archive(&one, &["shop:1"]);
    let key = b"org.opencontainers.image.ref.name";
    let place = bytes.windows(key.len()).position(|window| window == key).unwrap();
    bytes[place] = b'x';
    let (_dir, other) = store();
    assert_eq!(kind_of(&load(&other, &bytes[..], &LoadOptions::default(), &Context::silent()).unwrap_err()), Kind::Usage);
    load(&other, &bytes[..], &LoadOptions { tag: Some(name("mine:1")), ..LoadOptions::default() }, &Context::silent()).unwrap();
    assert_eq!(other.resolve(&name("mine:1")).unwrap().unwrap().digest(), descriptor.digest());
}
