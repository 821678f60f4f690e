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
    assert_says(&sealift.fails(2, &["manifest", "create", &list]), &["is there already", "hint: "]);
    sealift.ok(&["manifest", "add", &list, "arm:1", "--platform", "linux/arm64"]);
    assert_eq!(platforms(&sealift.json(&["manifest", "inspect", &list])), ["amd64", "arm64"]);
    let replaced = sealift.run(&["manifest", "add", &list, "newer:1"]).expect_code(0);
    assert_says(&replaced.stderr, &["warning:", "newer:1 replaces"]);
    sealift.ok(&["manifest", "push", &list]);
    let raw = run("skopeo", &["inspect", "--raw", "--tls-verify=false", &format!("docker://{list}")]);
    assert_eq!(serde_json::from_str::<Value>(&raw).unwrap(), sealift.json(&["manifest", "inspect", &list]));
    let arm = ["inspect", "--tls-verify=false", "--override-arch", "arm64", "--format", "{{.Layers}}"];
    run("skopeo", &[&arm[..], &[&format!("docker://{list}")]].concat());
    assert_says(&sealift.fails(2, &["manifest", "add", "amd:1", "arm:1"]), &["is one image, not a list"]);
}

#[test]
fn a_list_of_a_cluster_image_is_a_cluster_image_with_its_workloads() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "shop:1", 94, &[1000], &["web:1", "db:1"]);
    sealift.ok(&["manifest", "create", "all:1", "shop:1"]);
    assert_eq!(sealift.json(&["inspect", "--workloads", "all:1"]), sealift.json(&["inspect", "--workloads", "shop:1"]));
    assert_eq!(sealift.json(&["manifest", "inspect", "all:1"])["artifactType"], "application/vnd.sealift.cluster.v1");
}
