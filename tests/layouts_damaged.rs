//! Image layouts written by hand, sound and damaged: the sound ones are loaded and unpacked, each damage is refused by name of the blob,
//! also those that other clients let through.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use anyhow::Result;
use common::images::gzip;
use common::registry::DockerRegistry;
use common::run;
use common::sealift::{Sealift, assert_says};
use oci_spec::image::Descriptor;
use sealift::archive::{Naming, load};
use sealift::error::{Kind, kind_of};
use sealift::events::Job;
use sealift::image::{Content, Digest, Name};
use sealift::layer::{UnpackOptions, check_layers, unpack_image};
use sealift::store::Store;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// No layer of these tests unpacks to more.
const LIMIT: u64 = 1 << 20;

fn sha(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

fn describe(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha(bytes), "size": bytes.len()})
}

/// A member of a tar, its name not looked at.
struct Raw<'a>(&'a str, tar::EntryType, &'a str, &'a [u8]);

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIR: tar::EntryType = tar::EntryType::Directory;

fn tar_of(members: &[Raw]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for Raw(name, kind, link, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_gnu_mut().unwrap().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == DIR { 0o755 } else { 0o644 });
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn base() -> Vec<u8> {
    let kubelet = common::images::noise(7, 5000);
    tar_of(&[
        Raw("etc/", DIR, "", b""),
        Raw("etc/a", FILE, "", b"hello\n"),
        Raw("bin/", DIR, "", b""),
        Raw("bin/kubelet", FILE, "", &kubelet),
    ])
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A layer: its tar, its bytes, its media type.
type Layer = (Vec<u8>, Vec<u8>, &'static str);

fn gzipped(tar: Vec<u8>) -> Layer {
    let bytes = gzip(&tar);
    (tar, bytes, GZIP)
}

/// A layout as it will be written.
struct Layout {
    layers: Vec<Layer>,
    config: Value,
    manifest: Value,
    /// The blobs by their path below `blobs`, put in when documents are sealed.
    blobs: BTreeMap<String, Vec<u8>>,
    index: Value,
    oci_layout: Option<&'static str>,
}

/// Steps at which a variant meddles.
#[derive(Default)]
struct Meddle<'a> {
    config: Option<&'a dyn Fn(&mut Value)>,
    manifest: Option<&'a dyn Fn(&mut Value)>,
    sealed: Option<&'a dyn Fn(&mut Layout)>,
}

fn layout(layers: Vec<Layer>, meddle: &Meddle) -> Layout {
    let mut config = json!({
        "created": "2023-11-14T22:13:20Z", "architecture": "amd64", "os": "linux", "config": {"Env": ["X=1"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| sha(&layer.0)).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created": "2023-11-14T22:13:20Z", "created_by": "COPY"})).collect::<Vec<_>>(),
    });
    meddle.config.iter().for_each(|change| change(&mut config));
    let config_bytes = config.to_string().into_bytes();
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": describe("application/vnd.oci.image.config.v1+json", &config_bytes),
        "layers": layers.iter().map(|(_, bytes, media_type)| describe(media_type, bytes)).collect::<Vec<_>>(),
        "annotations": {"sealer.image.extension": "{\"schemaVersion\":\"v1alpha1\",\"type\":\"kube-installer\"}"},
    });
    meddle.manifest.iter().for_each(|change| change(&mut manifest));
    let manifest_bytes = manifest.to_string().into_bytes();
    let mut entry = describe(MANIFEST, &manifest_bytes);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "docker.io/library/variant:1"});
    let blobs = layers.iter().map(|layer| layer.1.clone()).chain([config_bytes, manifest_bytes]);
    let blobs = blobs.map(|bytes| (sha(&bytes).replace(':', "/"), bytes)).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    let mut layout = Layout { layers, config, manifest, blobs, index, oci_layout: Some(r#"{"imageLayoutVersion":"1.0.0"}"#) };
    meddle.sealed.iter().for_each(|change| change(&mut layout));
    layout
}

impl Layout {
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let blobs = self.blobs.iter().map(|(path, bytes)| (format!("blobs/{path}"), bytes.clone()));
        let index = ("index.json".to_owned(), self.index.to_string().into_bytes());
        self.oci_layout.map(|text| ("oci-layout".to_owned(), text.as_bytes().to_vec())).into_iter().chain([index]).chain(blobs).collect()
    }

    fn tar(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, bytes) in self.files() {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, path, &bytes[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn write(&self, dir: &Path) {
        for (path, bytes) in self.files() {
            std::fs::create_dir_all(dir.join(&path).parent().unwrap()).unwrap();
            std::fs::write(dir.join(path), bytes).unwrap();
        }
    }

    fn layer_path(&self) -> String {
        sha(&self.layers[0].1).replace(':', "/")
    }

    fn config_path(&self) -> String {
        sha(self.config.to_string().as_bytes()).replace(':', "/")
    }

    fn manifest_path(&self) -> String {
        sha(self.manifest.to_string().as_bytes()).replace(':', "/")
    }
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    *bytes = String::from_utf8(bytes.clone()).unwrap().replace(from, to).into_bytes();
}

/// Where a damage is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// When the archive is loaded.
    Loading,
    /// When the layers are looked into, and when they are unpacked.
    Sifting,
    /// Only when it is unpacked.
    Unpacking,
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn unpack(store: &Store, root: &Descriptor, to: &Path) -> Result<()> {
    let options = UnpackOptions { owners: false, max_bytes: LIMIT };
    for node in store.walk(root)? {
        if let Content::Manifest(manifest) = node.content {
            unpack_image(store, &manifest, to, &options, &Job::silent())?;
        }
    }
    Ok(())
}

/// Loads, sifts and unpacks; the first step that fails, and why.
fn judge(layout: &Layout) -> std::result::Result<(), (Found, anyhow::Error)> {
    let (dir, store) = store();
    let tag: Name = "docker.io/library/variant:1".parse().unwrap();
    let loaded =
        load(&store, &layout.tar()[..], &Naming { tag: Some(tag.clone()), ..Naming::default() }, &Job::silent()).map_err(|error| {
            assert_eq!(store.names().unwrap(), [], "what is refused gets no name");
            (Found::Loading, error)
        })?;
    assert_eq!(store.fsck(&Job::silent()).unwrap(), []);
    let root = store.resolve(&loaded.images[0]).unwrap().unwrap();
    let sifted = check_layers(&store, &root, LIMIT, &Job::silent());
    let unpacked = unpack(&store, &root, &dir.path().join("rootfs"));
    let outside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside.len(), 2, "nothing is written beside the root: {outside:?}");
    match (sifted, unpacked) {
        (Ok(()), Ok(())) => Ok(()),
        (Ok(()), Err(error)) => Err((Found::Unpacking, error)),
        (Err(error), Err(_)) => Err((Found::Sifting, error)),
        (Err(error), Ok(())) => panic!("unpacked, although {error:#}"),
    }
}

#[test]
fn sound_layouts_are_loaded_and_unpacked() {
    let base = base();
    let none = Meddle::default();
    let over = gzipped(tar_of(&[Raw("etc/.wh.a", FILE, "", b""), Raw("etc/b", FILE, "", b"new\n")]));
    let opaque = gzipped(tar_of(&[Raw("etc/", DIR, "", b""), Raw("etc/.wh..wh..opq", FILE, "", b""), Raw("etc/b", FILE, "", b"new\n")]));
    let links = gzipped(tar_of(&[
        Raw("etc/", DIR, "", b""),
        Raw("etc/a", FILE, "", b"x"),
        Raw("etc/h", tar::EntryType::Link, "etc/a", b""),
        Raw("etc/s", tar::EntryType::Symlink, "../../../../etc/passwd", b""),
    ]));
    let frames = (base.clone(), [zstd(&base[..4096]), zstd(&base[4096..])].concat(), ZSTD);
    let gzip_members = (base.clone(), [gzip(&base[..4096]), gzip(&base[4096..])].concat(), GZIP);
    let usual = || vec![gzipped(base.clone())];
    let no_history = |config: &mut Value| drop(config.as_object_mut().unwrap().remove("history"));
    let empty_history =
        |config: &mut Value| config["history"].as_array_mut().unwrap().push(json!({"created_by": "ENV", "empty_layer": true}));
    let extra = |document: &mut Value| document["xNew"] = json!({"a": 1});
    let no_type = |manifest: &mut Value| drop(manifest.as_object_mut().unwrap().remove("mediaType"));
    let artifact = |manifest: &mut Value| manifest["artifactType"] = json!("application/vnd.sealer.x");
    let no_tag = |layout: &mut Layout| drop(layout.index["manifests"][0].as_object_mut().unwrap().remove("annotations"));
    for (name, layout) in [
        ("gzip", layout(usual(), &none)),
        ("plain tar", layout(vec![(base.clone(), base.clone(), PLAIN)], &none)),
        ("zstd", layout(vec![(base.clone(), zstd(&base), ZSTD)], &none)),
        ("zstd in two frames", layout(vec![frames], &none)),
        ("gzip in two members", layout(vec![gzip_members], &none)),
        ("a whiteout", layout(vec![gzipped(base.clone()), over], &none)),
        ("an opaque directory", layout(vec![gzipped(base.clone()), opaque], &none)),
        ("links", layout(vec![links], &none)),
        ("no history", layout(usual(), &Meddle { config: Some(&no_history), ..none })),
        ("empty history entries", layout(usual(), &Meddle { config: Some(&empty_history), ..none })),
        ("extra fields", layout(usual(), &Meddle { config: Some(&extra), manifest: Some(&extra), ..none })),
        ("no media type", layout(usual(), &Meddle { manifest: Some(&no_type), ..none })),
        ("an artifact type", layout(usual(), &Meddle { manifest: Some(&artifact), ..none })),
        ("no tag", layout(usual(), &Meddle { sealed: Some(&no_tag), ..none })),
    ] {
        judge(&layout).unwrap_or_else(|(found, error)| panic!("{name}: {found:?}: {error:#}"));
    }
}

fn refused(name: &str, layout: &Layout, found: Found, blob: &str, says: &str) {
    let (at, error) = judge(layout).expect_err(name);
    let said = format!("{error:#}");
    assert_eq!(at, found, "{name}: {said}");
    assert!(matches!(kind_of(&error), Kind::Verification | Kind::Usage), "{name}: {said}");
    assert!(said.contains(says) && said.contains(blob), "{name}: want `{says}` and `{blob}` in: {said}");
}

#[test]
fn documents_that_are_not_of_one_mind_are_refused_when_they_arrive() {
    use Found::Loading;
    let base = base();
    let usual = || vec![gzipped(base.clone())];
    let (layer, sha512) = (sha(&gzip(&base)), format!("sha512:{}", "0".repeat(128)));
    let more_diffs = |config: &mut Value| config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(sha(b"x")));
    let more_history = |config: &mut Value| config["history"].as_array_mut().unwrap().push(json!({"created_by": "extra"}));
    for (name, change, says) in
        [("diffID count", &more_diffs as &dyn Fn(&mut Value), "has 2"), ("history count", &more_history, "history of its config")]
    {
        let layout = layout(usual(), &Meddle { config: Some(change), ..Meddle::default() });
        let manifest = sha(layout.manifest.to_string().as_bytes());
        refused(name, &layout, Loading, &manifest, says);
    }
    let layer_size = |manifest: &mut Value| manifest["layers"][0]["size"] = json!(manifest["layers"][0]["size"].as_u64().unwrap() + 7);
    let config_size = |manifest: &mut Value| manifest["config"]["size"] = json!(manifest["config"]["size"].as_u64().unwrap() + 3);
    let version_1 = |manifest: &mut Value| manifest["schemaVersion"] = json!(1);
    let unknown_type = |manifest: &mut Value| manifest["layers"][0]["mediaType"] = json!(format!("{PLAIN}+foo"));
    let says_plain = |manifest: &mut Value| manifest["layers"][0]["mediaType"] = json!(PLAIN);
    let sha512_layer = |manifest: &mut Value| manifest["layers"][0]["digest"] = json!(sha512);
    for (name, change, blob, says) in [
        ("layer size", &layer_size as &dyn Fn(&mut Value), layer.as_str(), "lacks blob"),
        ("config size", &config_size, "", "lacks blob"),
        ("schema version 1", &version_1, "", "schema version 1"),
        ("unknown media type", &unknown_type, &layer, "tar+foo"),
        ("gzip that says tar", &says_plain, &layer, "is gzip, but its media type says not compressed"),
        ("a sha512 layer", &sha512_layer, &sha512, "only sha256"),
    ] {
        refused(name, &layout(usual(), &Meddle { manifest: Some(change), ..Meddle::default() }), Loading, blob, says);
    }
    let says_gzip = layout(vec![(base.clone(), base.clone(), GZIP)], &Meddle::default());
    refused("tar that says gzip", &says_gzip, Loading, &sha(&base), "is not compressed, but its media type says gzip");
}

#[test]
fn damaged_bytes_are_refused_when_they_arrive() {
    use Found::Loading;
    let base = base();
    let layer = sha(&gzip(&base));
    let flip = |layout: &mut Layout| {
        let bytes =
            layout.blobs.get_mut(&layout.layers[0..1].iter().map(|layer| sha(&layer.1).replace(':', "/")).collect::<String>()).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    let truncate = |layout: &mut Layout| {
        let path = layout.layer_path();
        let bytes = layout.blobs.get_mut(&path).unwrap();
        bytes.truncate(bytes.len() - 100);
    };
    let drop_layer = |layout: &mut Layout| drop(layout.blobs.remove(&layout.layer_path()));
    let drop_config = |layout: &mut Layout| drop(layout.blobs.remove(&layout.config_path()));
    let tamper_config = |layout: &mut Layout| {
        let path = layout.config_path();
        replace(layout.blobs.get_mut(&path).unwrap(), "X=1", "X=2");
    };
    let tamper_manifest = |layout: &mut Layout| {
        let path = layout.manifest_path();
        replace(layout.blobs.get_mut(&path).unwrap(), "kube-installer", "kube-installeR");
    };
    let index_size = |layout: &mut Layout| {
        let size = &mut layout.index["manifests"][0]["size"];
        *size = json!(size.as_u64().unwrap() + 5);
    };
    let index_type = |layout: &mut Layout| {
        layout.index["manifests"][0]["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
    };
    let no_layout = |layout: &mut Layout| layout.oci_layout = None;
    let new_layout = |layout: &mut Layout| layout.oci_layout = Some(r#"{"imageLayoutVersion":"9.9.9"}"#);
    for (name, change, blob, says) in [
        ("layer bit flip", &flip as &dyn Fn(&mut Layout), layer.as_str(), "damaged"),
        ("layer truncated", &truncate, &layer, "damaged"),
        ("layer missing", &drop_layer, &layer, "lacks blob"),
        ("config missing", &drop_config, "sha256:", "lacks blob"),
        ("config tampered", &tamper_config, "sha256:", "damaged"),
        ("manifest tampered", &tamper_manifest, "sha256:", "damaged"),
        ("manifest size in the index", &index_size, "sha256:", "bytes, not"),
        ("another media type in the index", &index_type, "sha256:", "is a `application/vnd.oci.image.manifest"),
        ("no oci-layout", &no_layout, "", "oci-layout"),
        ("layout version", &new_layout, "", "9.9.9"),
    ] {
        refused(name, &layout(vec![gzipped(base.clone())], &Meddle { sealed: Some(change), ..Meddle::default() }), Loading, blob, says);
    }
}

#[test]
fn layers_that_are_not_what_they_should_be_are_never_unpacked() {
    use Found::{Sifting, Unpacking};
    let base = base();
    let none = Meddle::default();
    let wrong_diff = |config: &mut Value| config["rootfs"]["diff_ids"] = json!([format!("sha256:{}", "0".repeat(64))]);
    let junk = gzipped(b"junk".repeat(300));
    let trailing = (base.clone(), [gzip(&base), b"garbage!".repeat(9)].concat(), GZIP);
    let cut = (base.clone(), gzip(&base)[..1000].to_vec(), GZIP);
    let zeros = vec![0; 4 << 20];
    let bomb = gzipped(tar_of(&[Raw("zeros", FILE, "", &zeros)]));
    let evil = |member: Raw| gzipped([&base[..base.len() - 1024], &tar_of(&[member])].concat());
    let escape = gzipped(tar_of(&[Raw("lnk", tar::EntryType::Symlink, "/tmp", b""), Raw("lnk/sealift-pwn", FILE, "", b"x")]));
    for (name, layer, meddle, found, says) in [
        ("diffID", gzipped(base.clone()), Meddle { config: Some(&wrong_diff), ..none }, Sifting, "the layer's tar has the digest"),
        ("not a tar", junk, none, Sifting, "no tar archive"),
        ("trailing garbage", trailing, Meddle::default(), Sifting, "compression is damaged"),
        ("truncated before it was sealed", cut, Meddle::default(), Sifting, "compression is damaged"),
        ("a decompression bomb", bomb, Meddle::default(), Sifting, "unpacks to more than"),
        ("traversal by ..", evil(Raw("../../evil-dotdot", FILE, "", b"x")), Meddle::default(), Sifting, "leads out with `..`"),
        ("an absolute name", evil(Raw("/evil-abs", FILE, "", b"x")), Meddle::default(), Sifting, "is absolute"),
        (
            "a hard link out",
            evil(Raw("h", tar::EntryType::Link, "/etc/hostname", b"")),
            Meddle::default(),
            Sifting,
            "leads out to `/etc/hostname`",
        ),
        ("a way out by a symbolic link", escape, Meddle::default(), Unpacking, "symbolic link"),
    ] {
        let blob = sha(&layer.1);
        refused(name, &layout(vec![layer], &meddle), found, &blob, says);
    }
    assert!(!Path::new("/tmp/sealift-pwn").exists());
}

#[test]
fn fsck_looks_into_layers_when_it_is_asked_to() {
    let sealift = Sealift::new();
    let archive = sealift.home().join("variant.tar");
    let layer = (base(), [gzip(&base()), b"garbage!".repeat(9)].concat(), GZIP);
    std::fs::File::create(&archive).unwrap().write_all(&layout(vec![layer.clone()], &Meddle::default()).tar()).unwrap();
    sealift.ok(&["load", "-i", archive.to_str().unwrap()]);
    sealift.ok(&["fsck"]);
    let ended = sealift.run(&["fsck", "--layers"]).expect_code(6);
    assert_says(&ended.stdout, &[&sha(&layer.1), "compression is damaged", "variant:1"]);
}

#[test]
fn what_a_registry_lets_through_is_refused_when_it_is_pulled() {
    let registry = DockerRegistry::start();
    let sealift = Sealift::new();
    let more_diffs = |config: &mut Value| config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(sha(b"x")));
    let layout = layout(vec![gzipped(base())], &Meddle { config: Some(&more_diffs), ..Meddle::default() });
    let dir = sealift.home().join("layout");
    layout.write(&dir);
    let name = registry.name("bad:1");
    let from = format!("oci:{}:docker.io/library/variant:1", dir.display());
    run("skopeo", &["copy", "-q", "--dest-tls-verify=false", &from, &format!("docker://{name}")]);
    let manifest = sha(layout.manifest.to_string().as_bytes());
    assert_says(&sealift.fails(6, &["pull", "--plain-http", &name]), &[&manifest, "the manifest has 1 layers", "has 2"]);
    assert_eq!(sealift.ok(&["images", "-q"]), "");
}
