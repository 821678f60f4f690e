//! What is told about images: their history, files, layers and container images, and what changed from one to another.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::images::cluster_image;
use common::sealift::{Sealift, assert_says};

/// Builds an image of the files in a context and gives its name.
fn build(sealift: &Sealift, name: &str, files: &[(&str, &str)], more: &str) {
    let context = sealift.home().join(name.replace(':', "-"));
    for (path, content) in files {
        let place = context.join("tree").join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, content).unwrap();
    }
    fs::write(context.join("Kubefile"), format!("FROM scratch\nCOPY tree /\n{more}")).unwrap();
    sealift.ok(&["build", "-t", name, context.to_str().unwrap()]);
}

fn changes<'a>(difference: &'a serde_json::Value, of: &str) -> Vec<(&'a str, &'a str)> {
    let list = difference[of].as_array().unwrap();
    list.iter().map(|change| (change["name"].as_str().unwrap(), change["change"].as_str().unwrap())).collect()
}

#[test]
fn a_diff_names_what_changed_and_how_much_there_is_to_move() {
    let sealift = Sealift::new();
    let web = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: web}\n";
    build(
        &sealift,
        "shop:1",
        &[("etc/a", "same"), ("etc/b", "old!"), ("etc/gone", "x"), ("web.yaml", web)],
        "APP web local://tree/web.yaml\n",
    );
    build(&sealift, "shop:2", &[("etc/a", "same"), ("etc/b", "new!"), ("etc/new", "x"), ("web.yaml", web)], "");
    let difference = sealift.json(&["diff", "shop:1", "shop:2"]);
    let files: Vec<_> = changes(&difference, "files").into_iter().filter(|(name, _)| !name.starts_with("application")).collect();
    assert_eq!(files, [("etc/b", "changed"), ("etc/gone", "removed"), ("etc/new", "added")]);
    assert_eq!(changes(&difference, "apps"), [("web", "removed")]);
    let bytes = |amount: &str| difference[amount]["bytes"].as_u64().unwrap();
    assert!(bytes("toMove") > 0 && bytes("toMove") <= bytes("whole"), "{difference}");
    assert_says(&sealift.ok(&["diff", "shop:1", "shop:2"]), &["~ etc/b", "- etc/gone", "+ etc/new", "To move: "]);
    let none = sealift.json(&["diff", "shop:1", "shop:1"]);
    assert_eq!((changes(&none, "files").len(), none["toMove"]["blobs"].as_u64()), (0, Some(0)));
    assert_says(&sealift.fails(1, &["diff", "shop:1", "shop:3"]), &["no such image: shop:3", "hint: "]);
}

#[test]
fn container_images_that_changed_are_in_the_diff() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "docker.io/library/shop:1", 1, &[1000], &["docker.io/library/a:1", "docker.io/library/b:1"]);
    cluster_image(&sealift.store(), "docker.io/library/shop:2", 1, &[1000], &["docker.io/library/a:1", "docker.io/library/c:1"]);
    let difference = sealift.json(&["diff", "shop:1", "shop:2"]);
    assert_eq!(changes(&difference, "workloads"), [("b:1", "removed"), ("c:1", "added")]);
    assert!(changes(&difference, "files").is_empty());
    let workloads = sealift.json(&["inspect", "--workloads", "shop:2"]);
    assert_eq!(workloads.as_array().unwrap().len(), 2);
}

#[test]
fn history_and_the_parts_of_an_image_are_told() {
    let sealift = Sealift::new();
    build(&sealift, "shop:1", &[("etc/a", "one"), ("etc/deep/b", "two")], "LABEL made=by-us\n");
    let history = sealift.json(&["history", "shop:1"]);
    let steps: Vec<&str> = history.as_array().unwrap().iter().map(|step| step["createdBy"].as_str().unwrap()).collect();
    assert_eq!(steps.first().map(|step| step.starts_with("LABEL")), Some(true), "{steps:?}");
    assert!(steps.iter().any(|step| step.starts_with("COPY tree /")), "{steps:?}");
    assert_says(&sealift.ok(&["history", "shop:1"]), &["CREATED BY", "COPY tree /"]);

    let files = sealift.json(&["inspect", "--files", "shop:1"]);
    let file = files.as_array().unwrap().iter().find(|file| file["path"] == "etc/deep/b").unwrap();
    assert_eq!((file["kind"].as_str(), file["size"].as_u64()), (Some("file"), Some(3)));
    let sum = common::run("sha256sum", &[sealift.home().join("shop-1/tree/etc/deep/b").to_str().unwrap()]);
    assert_eq!(file["digest"].as_str().unwrap(), format!("sha256:{}", &sum[..64]));
    assert_says(&sealift.ok(&["inspect", "--files", "shop:1"]), &["PATH", "etc/deep/b"]);

    let layers = sealift.json(&["inspect", "--layers", "shop:1"]);
    assert!(
        Path::new(&sealift.store_root()).join("blobs/sha256").join(layers[0]["digest"].as_str().unwrap().replace("sha256:", "")).exists()
    );
    assert_says(&sealift.fails(2, &["inspect", "--files", "--layers", "shop:1"]), &["cannot be used with"]);
    assert_says(
        &sealift.fails(2, &["inspect", "--files", "--platform", "linux/s390x", "shop:1"]),
        &["not built for linux/s390x", "linux/amd64"],
    );
}
