//! Other tools take our layers apart to the tree that went in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use common::images::{noise, put};
use common::run;
use common::sealift::Sealift;
use oci_spec::image::{Descriptor, ImageManifestBuilder, MediaType};
use sealift::events::Context;
use sealift::layer::{Compression, Entry, Layer, PackOptions, Source, UnpackOptions, pack, unpack_image, walk};
use sealift::store::Store;

fn make_tree(root: &Path) {
    let deep = root.join("d".repeat(90)).join("e".repeat(120));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::create_dir_all(root.join("etc/empty")).unwrap();
    std::fs::write(deep.join("f".repeat(100)), "long").unwrap();
    std::fs::write(root.join("etc/a"), "hello\n").unwrap();
    std::fs::write(root.join("中文"), "unicode").unwrap();
    std::fs::hard_link(root.join("etc/a"), root.join("etc/b")).unwrap();
    symlink("../etc/a", root.join("etc/link")).unwrap();
    symlink("x".repeat(200), root.join("etc/long link")).unwrap();
    for number in 0..4 {
        std::fs::write(root.join(format!("big-{number}")), noise(number, 30 << 20)).unwrap();
    }
    std::fs::set_permissions(root.join("etc/a"), std::fs::Permissions::from_mode(0o4755)).unwrap();
}

/// Packs a tree, and makes an image of it.
fn image(store: &Store, root: &Path, compression: Compression) -> (Descriptor, Vec<Layer>) {
    let options = PackOptions { compression, newest_mtime: i64::MAX, max_layers: 100 };
    let layers = pack(&walk(root).unwrap(), &options, store, &Context::silent()).unwrap();
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let config =
        serde_json::json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(put(store, MediaType::ImageConfig, config.to_string().as_bytes()))
        .layers(layers.iter().map(|layer| layer.descriptor.clone()).collect::<Vec<_>>())
        .build()
        .unwrap();
    (put(store, MediaType::ImageManifest, manifest.to_string().unwrap().as_bytes()), layers)
}

/// A tree without the places of its files; of directories not the time, which tools set as they like.
fn facts(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut tree = walk(root).unwrap();
    for entry in tree.values_mut() {
        match &mut entry.source {
            Source::File(path, _) => *path = PathBuf::new(),
            Source::Directory => entry.mtime = 0,
            _ => {}
        }
    }
    tree
}

#[test]
fn umoci_unpacks_our_gzip_images_to_the_tree_that_went_in() {
    let sealift = Sealift::new();
    let (store, tree) = (sealift.store(), sealift.home().join("tree"));
    make_tree(&tree);
    let (manifest, layers) = image(&store, &tree, Compression::Gzip);
    assert!(layers.len() > 2);
    store.tag(&"docker.io/library/tree:1".parse().unwrap(), &manifest).unwrap();
    let layout = sealift.home().join("layout");
    let from = format!("oci:{}:docker.io/library/tree:1", sealift.store_root().display());
    run("skopeo", &["copy", "-q", &from, &format!("oci:{}:v1", layout.display())]);
    let bundle = sealift.home().join("bundle");
    run("umoci", &["unpack", "--image", &format!("{}:v1", layout.display()), bundle.to_str().unwrap()]);
    assert_eq!(facts(&bundle.join("rootfs")), facts(&tree));
}

#[test]
fn the_command_unpacks_an_image_to_an_empty_directory_and_touches_no_other() {
    let sealift = Sealift::new();
    let (store, tree) = (sealift.store(), sealift.home().join("tree"));
    make_tree(&tree);
    let (manifest, _) = image(&store, &tree, Compression::Zstd);
    store.tag(&"docker.io/library/tree:1".parse().unwrap(), &manifest).unwrap();
    let (copy, used) = (sealift.home().join("deep/copy"), sealift.home().join("used"));
    sealift.ok(&["unpack", "tree:1", copy.to_str().unwrap()]);
    assert_eq!(facts(&copy), facts(&tree));
    std::fs::create_dir(&used).unwrap();
    std::fs::write(used.join("theirs"), "x").unwrap();
    assert!(sealift.fails(2, &["unpack", "tree:1", used.to_str().unwrap()]).contains("is not empty"));
    assert_eq!(std::fs::read_dir(&used).unwrap().count(), 1);
    assert!(sealift.fails(1, &["unpack", "nowhere:1", "x"]).contains("nowhere:1"));
}

#[test]
fn gnu_tar_unpacks_our_zstd_layers_to_the_tree_that_went_in() {
    let sealift = Sealift::new();
    let (store, tree) = (sealift.store(), sealift.home().join("tree"));
    make_tree(&tree);
    let (_, layers) = image(&store, &tree, Compression::Zstd);
    let copy = sealift.home().join("copy");
    std::fs::create_dir(&copy).unwrap();
    for layer in &layers {
        let blob = store.blob_path(&layer.descriptor.digest().to_string().parse().unwrap());
        run("tar", &["--zstd", "--same-permissions", "-xf", blob.to_str().unwrap(), "-C", copy.to_str().unwrap()]);
    }
    assert_eq!(facts(&copy), facts(&tree));
}

#[test]
fn an_image_of_gnu_tars_layers_unpacks_to_the_same_tree() {
    let sealift = Sealift::new();
    let (store, tree) = (sealift.store(), sealift.home().join("tree"));
    make_tree(&tree);
    for format in ["gnu", "pax", "ustar"] {
        let tar = sealift.home().join("layer.tar");
        if format == "ustar" {
            // which has no room for such names
            std::fs::remove_dir_all(tree.join("d".repeat(90))).unwrap();
            std::fs::remove_file(tree.join("etc/long link")).unwrap();
        }
        run("tar", &["--format", format, "-cf", tar.to_str().unwrap(), "-C", tree.to_str().unwrap(), "."]);
        let bytes = std::fs::read(&tar).unwrap();
        let layer = put(&store, MediaType::ImageLayer, &bytes);
        let config =
            serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer.digest()]}});
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .config(put(&store, MediaType::ImageConfig, config.to_string().as_bytes()))
            .layers([layer])
            .build()
            .unwrap();
        let copy = sealift.home().join(format);
        unpack_image(&store, &manifest, &copy, &UnpackOptions { owners: true, max_bytes: 0 }, &Context::silent()).unwrap();
        assert_eq!(facts(&copy), facts(&tree), "{format}");
    }
}
