//! Images that were built apart become one name for several platforms.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::images::{cluster_image, container_image};
use common::registry::DockerRegistry;
use common::run;
use common::sealift::{Sealift, assert_says};
use serde_json::Value;

fn platforms(index: &Value) -> Vec<&str> {
    index["manifests"].as_array().unwrap().iter().map(|arm| arm["platform"]["architecture"].as_str().unwrap_or_default()).collect()
}

#[test]
fn images_for_two_platforms_are_pushed_under_one_name_and_skopeo_reads_it() {
    let (registry, sealift) = (DockerRegistry::start(), Sealift::new());
    let store = sealift.store();
    for (name, seed) in [("amd:1", 91), ("arm:1", 92), ("newer:1", 93)] {
        store.tag(&name.parse().unwrap(), &container_image(&store, seed, &[1000])).unwrap();
    }
    let list = registry.name("team/tool:1");
    sealift.ok(&["manifest", "create", &list, "amd:1"]);
    assert_says(&sealift.fails(2, &["manifest", "create", &list]), &["exists already", "hint: "]);
    sealift.ok(&["manifest", "add", &list, "arm:1", "--platform", "linux/arm64"]);
    assert_eq!(platforms(&sealift.json(&["manifest", "inspect", &list])), ["amd64", "arm64"]);
    let replaced = sealift.run(&["manifest", "add", &list, "newer:1"]).expect_code(0);
    assert_says(&replaced.stderr, &["warning:", "newer:1 replaces"]);
    sealift.ok(&["manifest", "push", &list]);
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{list}")]);
    assert_eq!(serde_json::from_str::<Value>(&raw).unwrap(), sealift.json(&["manifest", "inspect", &list]));
    let arm = ["inspect", "--tls-verify=false", "--override-arch", "arm64", "--format", "{{.Layers}}"];
    run("skopeo", &[&arm[..], &[&format!("docker://{list}")]].concat());
    assert_says(&sealift.fails(2, &["manifest", "add", "amd:1", "arm:1"]), &["is a single image, not a manifest list"]);
}

#[test]
fn a_list_of_a_cluster_image_is_a_cluster_image_with_its_workloads() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "shop:1", 94, &[1000], &["web:1", "db:1"]);
    sealift.ok(&["manifest", "create", "all:1", "shop:1"]);
    assert_eq!(sealift.json(&["inspect", "--workloads", "all:1"]), sealift.json(&["inspect", "--workloads", "shop:1"]));
    assert_eq!(sealift.json(&["manifest", "inspect", "all:1"])["artifactType"], "application/vnd.sealift.cluster.v1");
}

#[test]
fn images_of_a_list_are_described_anew_and_taken_out_by_digest_platform_or_name() {
    let sealift = Sealift::new();
    let store = sealift.store();
    for (name, seed) in [("amd:1", 95), ("arm:1", 96), ("s390:1", 97)] {
        store.tag(&name.parse().unwrap(), &container_image(&store, seed, &[1000])).unwrap();
    }
    sealift.ok(&["manifest", "create", "list:1", "amd:1"]);
    sealift.ok(&["manifest", "add", "list:1", "arm:1", "--platform", "linux/arm64"]);
    sealift.ok(&["manifest", "add", "list:1", "s390:1", "--platform", "linux/s390x"]);
    let annotate = ["manifest", "annotate", "list:1", "arm:1", "--arch", "arm", "--variant", "v7", "--annotation", "note=old boards"];
    sealift.ok(&annotate);
    let arm = &sealift.json(&["manifest", "inspect", "list:1"])["manifests"][1];
    assert_eq!((&arm["platform"]["architecture"], &arm["platform"]["variant"]), (&"arm".into(), &"v7".into()));
    assert_eq!(arm["annotations"]["note"], "old boards");
    let digest = arm["digest"].as_str().unwrap();
    for (image, left) in [("s390:1", 2), (digest, 1), ("linux/amd64", 0)] {
        sealift.ok(&["manifest", "remove", "list:1", image]);
        assert_eq!(platforms(&sealift.json(&["manifest", "inspect", "list:1"])).len(), left, "{image}");
    }
    assert_says(&sealift.fails(2, &["manifest", "remove", "list:1", "linux/amd64"]), &["no linux/amd64 in list:1", "hint: "]);
}

#[test]
fn parts_of_a_cluster_image_keep_their_platform_and_go_together() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "shop:1", 98, &[1000], &["web:1"]);
    sealift.ok(&["manifest", "create", "all:1", "shop:1"]);
    let said = sealift.fails(2, &["manifest", "annotate", "all:1", "linux/amd64", "--arch", "arm64"]);
    assert_says(&said, &["linux/amd64 belongs to a cluster image", "hint: "]);
    sealift.ok(&["manifest", "remove", "all:1", "linux/amd64"]);
    assert_eq!(sealift.json(&["manifest", "inspect", "all:1"])["manifests"].as_array().unwrap().len(), 0);
}
