//! Image layouts written by hand, sound and damaged: the sound ones are loaded and unpacked, each damage is refused by name of the blob,
//! also those that other clients let through.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use common::images::gzip;
use common::registry::DockerRegistry;
use common::sealift::{Sealift, assert_says};
use oci_spec::image::Descriptor;
use sealift::archive::{LoadOptions, load};
use sealift::error::{Kind, kind_of};
use sealift::events::Context;
use sealift::image::{Content, Digest};
use sealift::layer::{LayerVerification, UnpackOptions, check_layers, unpack_image};
use sealift::store::Store;
use serde_json::{Value, json};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// What all these images are called.
const NAME: &str = "docker.io/library/variant:1";
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
struct Change<'a> {
    config: Option<&'a dyn Fn(&mut Value)>,
    manifest: Option<&'a dyn Fn(&mut Value)>,
    sealed: Option<&'a dyn Fn(&mut Layout)>,
}

fn layout(layers: Vec<Layer>, change: &Change) -> Layout {
    let mut config = json!({
        "created": "2023-11-14T22:13:20Z", "architecture": "amd64", "os": "linux", "config": {"Env": ["X=1"]},
        "rootfs": {"type": "layers", "diff_ids": layers.iter().map(|layer| sha(&layer.0)).collect::<Vec<_>>()},
        "history": layers.iter().map(|_| json!({"created": "2023-11-14T22:13:20Z", "created_by": "COPY"})).collect::<Vec<_>>(),
    });
    change.config.iter().for_each(|change| change(&mut config));
    let config_bytes = config.to_string().into_bytes();
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": describe("application/vnd.oci.image.config.v1+json", &config_bytes),
        "layers": layers.iter().map(|(_, bytes, media_type)| describe(media_type, bytes)).collect::<Vec<_>>(),
        "annotations": {"sealer.image.extension": "{\"schemaVersion\":\"v1alpha1\",\"type\":\"kube-installer\"}"},
    });
    change.manifest.iter().for_each(|change| change(&mut manifest));
    let manifest_bytes = manifest.to_string().into_bytes();
    let mut entry = describe(MANIFEST, &manifest_bytes);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": NAME});
    let blobs = layers.iter().map(|layer| layer.1.clone()).chain([config_bytes, manifest_bytes]);
    let blobs = blobs.map(|bytes| (sha(&bytes).replace(':', "/"), bytes)).collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]});
    let mut layout = Layout { layers, config, manifest, blobs, index, oci_layout: Some(r#"{"imageLayoutVersion":"1.0.0"}"#) };
    change.sealed.iter().for_each(|change| change(&mut layout));
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

    /// Puts it into a registry's storage as `variant:1`, past all that the registry would look at.
    fn serve(&self, registry: &DockerRegistry) {
        let root = registry.data_dir().join("docker/registry/v2");
        std::fs::remove_dir_all(&root).ok();
        let put = |path: String, bytes: &[u8]| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        for (path, bytes) in &self.blobs {
            let (algorithm, hex) = path.split_once('/').unwrap();
            put(format!("blobs/{algorithm}/{}/{hex}/data", &hex[..2]), bytes);
            let link = format!("{algorithm}:{hex}");
            put(format!("repositories/variant/_layers/{algorithm}/{hex}/link"), link.as_bytes());
            put(format!("repositories/variant/_manifests/revisions/{algorithm}/{hex}/link"), link.as_bytes());
        }
        put("repositories/variant/_manifests/tags/1/current/link".to_owned(), sha(self.manifest.to_string().as_bytes()).as_bytes());
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

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("store")).unwrap();
    (dir, store)
}

fn unpack(store: &Store, root: &Descriptor, to: &Path) -> Result<()> {
    let options = UnpackOptions { owners: false, max_bytes: LIMIT };
    for node in store.walk(root)? {
        if let Content::Manifest(manifest) = node.content {
            unpack_image(store, &manifest, to, &options, &Context::silent())?;
        }
    }
    Ok(())
}

fn options() -> LoadOptions {
    let verification = LayerVerification { max_bytes: LIMIT, ..LayerVerification::default() };
    LoadOptions { tag: Some(NAME.parse().unwrap()), verification, ..LoadOptions::default() }
}

/// Loads, looks into the layers again, and unpacks.
fn accepted(name: &str, layout: &Layout) {
    let (dir, store) = store();
    let loaded = load(&store, &layout.tar()[..], &options(), &Context::silent()).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    assert_eq!(store.fsck(&Context::silent()).unwrap(), []);
    let root = store.resolve(&loaded.images[0]).unwrap().unwrap();
    for ignore_cache in [false, true] {
        check_layers(
            &store,
            &root,
            LayerVerification { max_bytes: LIMIT, ignore_cache, ..LayerVerification::default() },
            &Context::silent(),
        )
        .unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
    unpack(&store, &root, &dir.path().join("rootfs")).unwrap_or_else(|error| panic!("{name}: {error:#}"));
    let outside: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(outside.len(), 2, "{name}: nothing is written beside the root: {outside:?}");
}

#[test]
fn sound_layouts_are_loaded_and_unpacked() {
    let base = base();
    let none = Change::default();
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
        ("no history", layout(usual(), &Change { config: Some(&no_history), ..none })),
        ("empty history entries", layout(usual(), &Change { config: Some(&empty_history), ..none })),
        ("extra fields", layout(usual(), &Change { config: Some(&extra), manifest: Some(&extra), ..none })),
        ("no media type", layout(usual(), &Change { manifest: Some(&no_type), ..none })),
        ("an artifact type", layout(usual(), &Change { manifest: Some(&artifact), ..none })),
        ("no tag", layout(usual(), &Change { sealed: Some(&no_tag), ..none })),
    ] {
        accepted(name, &layout);
    }
}

/// What a registry does with a damaged image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Served {
    /// It serves it, and the pull says what the load says.
    Alike,
    /// It cannot serve it, or the pull ends in another way.
    Otherwise,
    /// The damage is not in what a registry keeps.
    Not,
}

/// A damaged layout, and what is said about it.
struct Damage<'a> {
    name: &'a str,
    layout: Layout,
    blob: &'a str,
    says: &'a str,
    served: Served,
}

/// Is refused wherever it arrives, and where it is unpacked: loaded from an archive, pulled from a registry, put in place as a store.
fn refused(damage: &Damage, registry: &DockerRegistry) {
    let Damage { name, layout, blob, says, served } = damage;
    let tells =
        |way: &str, said: &str| assert!(said.contains(says) && said.contains(blob), "{way} {name}: want `{says}` and `{blob}` in: {said}");
    let (_dir, store) = store();
    let error = load(&store, &layout.tar()[..], &options(), &Context::silent()).expect_err(name);
    assert!(matches!(kind_of(&error), Kind::Verification | Kind::Usage), "{name}: {error:#}");
    tells("load", &format!("{error:#}"));
    assert_eq!(store.refs().unwrap(), [], "{name}: what is refused gets no name");

    let sealift = Sealift::new();
    let dir = sealift.home().join("layout");
    layout.write(&dir);
    let rootfs = sealift.home().join("rootfs");
    let ended = sealift.run(&["unpack", "--store", dir.to_str().unwrap(), NAME, rootfs.to_str().unwrap()]);
    assert_ne!(ended.code, 0, "unpack {name}");
    assert!(!sealift.home().join("evil-dotdot").exists() && !Path::new("/tmp/sealift-pwn").exists(), "{name}: written outside the root");

    if *served == Served::Not {
        return;
    }
    layout.serve(registry);
    let ended = sealift.run(&["pull", "--plain-http", &registry.name("variant:1")]);
    assert_ne!(ended.code, 0, "pull {name}");
    assert_eq!(sealift.ok(&["images", "-q"]), "", "pull {name}: what is refused gets no name");
    if *served == Served::Alike {
        tells("pull", &ended.stderr);
        assert_eq!(ended.code, 6, "pull {name}: {}", ended.stderr);
    }
}

#[test]
fn inconsistent_manifests_are_refused_on_arrival() {
    use Served::{Alike, Otherwise};
    let registry = DockerRegistry::start();
    let base = base();
    let usual = || vec![gzipped(base.clone())];
    let (layer, md5) = (sha(&gzip(&base)), format!("md5:{}", "0".repeat(32)));
    let more_diffs = |config: &mut Value| config["rootfs"]["diff_ids"].as_array_mut().unwrap().push(json!(sha(b"x")));
    let more_history = |config: &mut Value| config["history"].as_array_mut().unwrap().push(json!({"created_by": "extra"}));
    for (name, change, says) in
        [("diffID count", &more_diffs as &dyn Fn(&mut Value), "lists 2"), ("history count", &more_history, "history of its config")]
    {
        let layout = layout(usual(), &Change { config: Some(change), ..Change::default() });
        let manifest = sha(layout.manifest.to_string().as_bytes());
        refused(&Damage { name, layout, blob: &manifest, says, served: Alike }, &registry);
    }
    let layer_size = |manifest: &mut Value| manifest["layers"][0]["size"] = json!(manifest["layers"][0]["size"].as_u64().unwrap() + 7);
    let config_size = |manifest: &mut Value| manifest["config"]["size"] = json!(manifest["config"]["size"].as_u64().unwrap() + 3);
    let version_1 = |manifest: &mut Value| manifest["schemaVersion"] = json!(1);
    let unknown_type = |manifest: &mut Value| manifest["layers"][0]["mediaType"] = json!(format!("{PLAIN}+foo"));
    let says_plain = |manifest: &mut Value| manifest["layers"][0]["mediaType"] = json!(PLAIN);
    let md5_layer = |manifest: &mut Value| manifest["layers"][0]["digest"] = json!(md5);
    for (name, change, blob, says, served) in [
        ("layer size", &layer_size as &dyn Fn(&mut Value), layer.as_str(), "is missing blob", Otherwise),
        ("config size", &config_size, "", "is missing blob", Otherwise),
        ("schema version 1", &version_1, "", "schemaVersion 1", Otherwise),
        ("unknown media type", &unknown_type, &layer, "tar+foo", Alike),
        ("gzip that says tar", &says_plain, &layer, "is gzip, but its media type says uncompressed", Alike),
        ("a layer of md5", &md5_layer, &md5, "only sha256 and sha512", Otherwise),
    ] {
        let layout = layout(usual(), &Change { manifest: Some(change), ..Change::default() });
        refused(&Damage { name, layout, blob, says, served }, &registry);
    }
    let says_gzip = layout(vec![(base.clone(), base.clone(), GZIP)], &Change::default());
    let says = "is uncompressed, but its media type says gzip";
    refused(&Damage { name: "tar that says gzip", layout: says_gzip, blob: &sha(&base), says, served: Alike }, &registry);
}

#[test]
fn damaged_bytes_are_refused_on_arrival() {
    use Served::{Alike, Not, Otherwise};
    let registry = DockerRegistry::start();
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
    for (name, change, blob, says, served) in [
        ("layer bit flip", &flip as &dyn Fn(&mut Layout), layer.as_str(), "damaged", Alike),
        ("layer truncated", &truncate, &layer, "damaged", Otherwise),
        ("layer missing", &drop_layer, &layer, "is missing blob", Otherwise),
        ("config missing", &drop_config, "sha256:", "is missing blob", Otherwise),
        ("config tampered", &tamper_config, "sha256:", "damaged", Alike),
        ("manifest tampered", &tamper_manifest, "sha256:", "damaged", Otherwise),
        ("manifest size in the index", &index_size, "sha256:", "bytes, expected", Not),
        ("another media type in the index", &index_type, "sha256:", "has media type `application/vnd.oci.image.manifest", Not),
        ("no oci-layout", &no_layout, "", "oci-layout", Not),
        ("layout version", &new_layout, "", "9.9.9", Not),
    ] {
        let layout = layout(vec![gzipped(base.clone())], &Change { sealed: Some(change), ..Change::default() });
        refused(&Damage { name, layout, blob, says, served }, &registry);
    }
}

#[test]
fn wrong_layers_are_refused_on_arrival() {
    let registry = DockerRegistry::start();
    let base = base();
    let none = Change::default();
    let wrong_diff = |config: &mut Value| config["rootfs"]["diff_ids"] = json!([format!("sha256:{}", "0".repeat(64))]);
    let junk = gzipped(b"junk".repeat(300));
    let trailing = (base.clone(), [gzip(&base), b"garbage!".repeat(9)].concat(), GZIP);
    let cut = (base.clone(), gzip(&base)[..1000].to_vec(), GZIP);
    let evil = |member: Raw| gzipped([&base[..base.len() - 1024], &tar_of(&[member])].concat());
    let link = |target| Raw("lnk", tar::EntryType::Symlink, target, b"");
    let through = Raw("lnk/sealift-pwn", FILE, "", b"x");
    for (name, layers, change, says) in [
        ("diffID", vec![gzipped(base.clone())], Change { config: Some(&wrong_diff), ..none }, "wrong diff ID"),
        ("not a tar", vec![junk], none, "not a tar archive"),
        ("trailing garbage", vec![trailing], Change::default(), "compression is damaged"),
        ("truncated before it was sealed", vec![cut], Change::default(), "compression is damaged"),
        ("traversal by ..", vec![evil(Raw("../../evil-dotdot", FILE, "", b"x"))], Change::default(), "leads out of the root with `..`"),
        ("an absolute name", vec![evil(Raw("/evil-abs", FILE, "", b"x"))], Change::default(), "is absolute"),
        (
            "a hard link out",
            vec![evil(Raw("h", tar::EntryType::Link, "/etc/hostname", b""))],
            Change::default(),
            "leads out of the root to `/etc/hostname`",
        ),
        ("a way out by a symbolic link", vec![gzipped(tar_of(&[link("/tmp"), through]))], Change::default(), "symbolic link"),
        (
            "a way out by a link and a link",
            vec![gzipped(tar_of(&[Raw("a", tar::EntryType::Symlink, "lnk", b""), link("../tmp"), Raw("a/sealift-pwn", FILE, "", b"x")]))],
            Change::default(),
            "symbolic link",
        ),
        (
            "a way out by a link of a lower layer",
            vec![gzipped(tar_of(&[link("/tmp")])), gzipped(tar_of(&[Raw("lnk/sealift-pwn", FILE, "", b"y")]))],
            Change::default(),
            "symbolic link",
        ),
    ] {
        let blob = sha(&layers[layers.len() - 1].1);
        refused(&Damage { name, layout: layout(layers, &change), blob: &blob, says, served: Served::Alike }, &registry);
    }
}

#[test]
fn replaced_links_are_not_followed() {
    let none = Change::default();
    let link = || gzipped(tar_of(&[Raw("lnk", tar::EntryType::Symlink, "/tmp", b""), Raw("etc/", DIR, "", b"")]));
    let below = gzipped(tar_of(&[Raw("lnk/sealift-pwn", FILE, "", b"z")]));
    let directory = gzipped(tar_of(&[Raw("lnk/", DIR, "", b""), Raw("lnk/a", FILE, "", b"x")]));
    let whiteout = gzipped(tar_of(&[Raw(".wh.lnk", FILE, "", b"")]));
    let inside = gzipped(tar_of(&[Raw("lnk", tar::EntryType::Symlink, "./etc", b"")]));
    for (name, layers) in [
        ("by a directory", vec![link(), directory, below.clone()]),
        ("by nothing", vec![link(), whiteout, below.clone()]),
        ("by a link that stays inside", vec![link(), inside, below]),
    ] {
        accepted(name, &layout(layers, &none));
    }
}

#[test]
fn decompression_bombs_stop_at_a_limit() {
    let zeros = vec![0; 4 << 20];
    for bomb in [gzipped(tar_of(&[Raw("zeros", FILE, "", &zeros)])), {
        let tar = tar_of(&[Raw("zeros", FILE, "", &zeros)]);
        let bytes = zstd(&tar);
        (tar, bytes, ZSTD)
    }] {
        let (_dir, store) = store();
        let blob = sha(&bomb.1);
        let layout = layout(vec![bomb], &Change::default());
        let error = load(&store, &layout.tar()[..], &options(), &Context::silent()).unwrap_err();
        assert_says(&format!("{error:#}"), &[&blob, "unpacks to more than the limit of 1048576 bytes"]);
        assert_eq!((kind_of(&error), store.refs().unwrap().len()), (Kind::Verification, 0));
        // what is remembered of a layer does not lift the limit
        let larger = LoadOptions { verification: LayerVerification::default(), ..options() };
        load(&store, &layout.tar()[..], &larger, &Context::silent()).unwrap();
        load(&store, &layout.tar()[..], &options(), &Context::silent()).unwrap_err();
    }
}

#[test]
fn fsck_verifies_layers_on_request_and_reports_what_cannot_be_repaired() {
    let sealift = Sealift::new();
    let layer = (base(), [gzip(&base()), b"garbage!".repeat(9)].concat(), GZIP);
    layout(vec![layer.clone()], &Change::default()).write(sealift.store_root());
    sealift.ok(&["fsck"]);
    for args in [&["fsck", "--layers"][..], &["fsck", "--layers", "--repair"]] {
        let ended = sealift.run(args).expect_code(6);
        assert_says(&ended.stdout, &[&sha(&layer.1), "compression is damaged", "variant:1"]);
        assert_says(&ended.stderr, &["fetching them again repairs nothing", "sealift rmi"]);
    }
}

#[test]
fn a_layer_is_verified_once_by_a_store() {
    let (_dir, store) = store();
    let layout = layout(vec![gzipped(base())], &Change::default());
    let loaded = load(&store, &layout.tar()[..], &options(), &Context::silent()).unwrap();
    let path = store.root().join("blobs").join(layout.layer_path());
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let root = store.resolve(&loaded.images[0]).unwrap().unwrap();
    check_layers(&store, &root, LayerVerification::default(), &Context::silent()).unwrap();
    check_layers(&store, &root, LayerVerification { ignore_cache: true, ..LayerVerification::default() }, &Context::silent()).unwrap_err();
    store.untag(&loaded.images[0]).unwrap();
    store.prune(false, &Context::silent()).unwrap();
    assert_eq!(std::fs::read_dir(store.root().join("checked")).unwrap().count(), 0, "what is known goes with the blob");
}

#[test]
fn layers_that_a_large_pull_skips_are_verified_before_hosts_are_changed() {
    let registry = DockerRegistry::start();
    let wrong_diff = |config: &mut Value| config["rootfs"]["diff_ids"] = json!([format!("sha256:{}", "0".repeat(64))]);
    let noise = common::images::noise(1, 65 << 20);
    let tar = tar_of(&[Raw("noise", FILE, "", &noise)]);
    let layout = layout(vec![(tar.clone(), tar, PLAIN)], &Change { config: Some(&wrong_diff), ..Change::default() });
    layout.serve(&registry);
    let (sealift, name) = (Sealift::new(), registry.name("variant:1"));
    let layer = sha(&layout.layers[0].1);
    let refused = [layer.as_str(), "wrong diff ID"];
    assert_says(&sealift.fails(6, &["pull", "--plain-http", "--check-layers", &name]), &refused);
    assert_eq!(sealift.ok(&["images", "-q"]), "");
    // the store remembers, so another one
    let sealift = Sealift::new();
    sealift.ok(&["pull", "--plain-http", &name]);
    let error = sealift::cluster::ImageContent::open(&sealift.store(), &name.parse().unwrap(), &Context::silent()).unwrap_err();
    assert_says(&format!("{error:#}"), &refused);
    let context = sealift.home().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Kubefile"), format!("FROM {name}\n")).unwrap();
    assert_says(&sealift.fails(6, &["build", "-t", "shop:1", "--plain-http", context.to_str().unwrap()]), &refused);
}
