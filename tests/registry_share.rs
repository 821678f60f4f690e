//! Images are pushed to and pulled from docker-registry unchanged, and only missing blobs are transferred.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::images::cluster_image;
use common::registry::{DockerRegistry, Settings};
use common::run;
use common::sealift::{Sealift, assert_says};
use oci_spec::image::{Descriptor, ImageIndex};

const WORKLOADS: &[&str] = &["docker.io/library/nginx:1.25", "quay.io/a/b:2"];

#[test]
fn an_image_comes_back_with_the_same_digest() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = registry.name("team/shop:1");
    let digest = cluster_image(&here.store(), &name, 1, &[3_000_000, 10], WORKLOADS).digest().to_string();
    assert_eq!(here.ok(&["push", &name]).trim(), digest);
    let pulled = there.json(&["pull", &name]);
    assert_eq!(pulled["digest"], digest.as_str());
    assert_eq!(pulled["presentBlobs"], 0);
    assert!(pulled["movedBytes"].as_u64().unwrap() > 3_000_000, "{pulled}");
    let root = there.store().resolve(&name.parse().unwrap()).unwrap().unwrap();
    assert_eq!(root.digest().to_string(), digest);
    // what was pulled can be pushed on, under another name
    let copy = registry.name("other/shop:1");
    assert_eq!(there.ok(&["push", &name, &copy]).trim(), digest);
}

#[test]
fn a_second_push_and_a_second_pull_move_nothing() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = registry.name("shop:1");
    cluster_image(&here.store(), &name, 2, &[100_000, 2_000_000], WORKLOADS);
    let first = here.json(&["push", &name]);
    assert!(first["movedBytes"].as_u64().unwrap() > 2_000_000, "{first}");
    there.ok(&["pull", &name]);
    for (who, verb) in [(&here, "push"), (&there, "pull")] {
        let second = who.json(&[verb, &name]);
        assert_eq!(second["movedBytes"], 0, "{verb}: {second}");
        assert_eq!(second["movedBlobs"], 0, "{verb}: {second}");
        assert_eq!(second["presentBlobs"].as_u64(), first["movedBlobs"].as_u64(), "{verb}: {second}");
    }
}

#[test]
fn blobs_that_another_repository_has_are_mounted() {
    let registry = DockerRegistry::start();
    let here = Sealift::new();
    let (one, two) = (registry.name("a/one:1"), registry.name("b/two:1"));
    cluster_image(&here.store(), &one, 3, &[2_000_000], WORKLOADS);
    here.ok(&["push", &one]);
    let second = here.json(&["push", &one, &two]);
    assert_eq!(second["movedBlobs"], 0, "{second}");
    assert!(second["mountedBlobs"].as_u64().unwrap() > 4, "{second}");
}

#[test]
fn with_tls_and_users_the_ca_and_the_password_are_required() {
    let registry = Settings::default().tls().user("ann", "secret").start();
    let ca = registry.ca_file();
    let ca = ca.to_str().unwrap();
    let here = Sealift::new();
    let name = registry.name("shop:1");
    let digest = cluster_image(&here.store(), &name, 4, &[1000], WORKLOADS).digest().to_string();
    let host = registry.host();

    assert_says(&here.fails(1, &["push", &name]), &["its certificate is not trusted: signed by an unknown authority", "--ca-file"]);
    assert_says(&here.fails(1, &["push", &name, "--plain-http"]), &["requires HTTPS", "leave out `--plain-http`"]);
    assert_says(&here.fails(1, &["push", &name, "--ca-file", ca]), &["401", &format!("sealift login {host}")]);
    let wrong = here.run_with_stdin(&["login", &host, "-u", "ann", "--password-stdin", "--ca-file", ca], "wrong\n").expect_code(1);
    assert_says(&wrong.stderr, &[&format!("log in to {host} as ann"), "(401)"]);
    assert!(!here.home().join(".docker/config.json").exists(), "a wrong password is not kept");

    let login = here.run_with_stdin(&["login", &host, "-u", "ann", "--password-stdin", "--ca-file", ca], "secret\n").expect_code(0);
    assert!(!login.stdout.contains("secret") && !login.stderr.contains("secret"));
    assert_eq!(here.ok(&["push", &name, "--ca-file", ca]).trim(), digest);
    assert_eq!(here.ok(&["push", &name, "--insecure-skip-tls-verify"]).trim(), digest);
    here.ok(&["logout", &host]);
    here.fails(1, &["push", &name, "--ca-file", ca]);
}

#[test]
fn skopeo_copies_a_pushed_image_and_sealift_pulls_the_copy() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let (name, copy) = (registry.name("shop:1"), registry.name("copy/shop:1"));
    let index = cluster_image(&here.store(), &name, 5, &[1000, 2000], WORKLOADS);
    here.ok(&["push", &name]);
    let (from, to) = (format!("docker://{name}"), format!("docker://{copy}"));
    run("skopeo", &["copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", &from, &to]);
    there.ok(&["pull", &copy]);
    // skopeo 1.9 drops fields of the index that it does not know; what the index names stays as it was
    let arms = |store: &sealift::store::Store, root: &Descriptor| {
        let index: ImageIndex = serde_json::from_slice(&store.read(&root.try_into().unwrap()).unwrap()).unwrap();
        index.manifests().iter().map(|arm| arm.digest().to_string()).collect::<Vec<_>>()
    };
    let copied = there.store().resolve(&copy.parse().unwrap()).unwrap().unwrap();
    assert_eq!(arms(&there.store(), &copied), arms(&here.store(), &index));
    assert_says(&run("skopeo", &["inspect", "--tls-verify=false", &from]), &["\"Architecture\": \"amd64\""]);
}
