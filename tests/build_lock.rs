//! `build --lock` writes down what names stood for, and `build --locked` takes exactly that.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::images;
use common::registry::DockerRegistry;
use common::run;
use common::sealift::{Sealift, assert_says};
use common::web::{Answer, Web};
use oci_spec::image::{Descriptor, MediaType};
use serde_json::Value;

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Pushes a container image made from `seed`.
fn push(sealift: &Sealift, name: &str, seed: u64) {
    let store = sealift.store();
    let root = images::container_image(&store, seed, &[5_000]);
    store.tag(&name.parse().unwrap(), &root).unwrap();
    sealift.ok(&["push", "--plain-http", name]);
    sealift.ok(&["rmi", name]);
}

#[test]
fn a_locked_build_takes_what_names_stood_for_and_refuses_the_rest() {
    let (publisher, registry) = (Sealift::new(), DockerRegistry::start());
    let (base, nginx) = (registry.name("base:1"), registry.name("nginx:1"));
    let publish = |text: &str, seed: u64| {
        let context = publisher.home().join("base");
        write(&context.join("Kubefile"), "FROM scratch\nCOPY file /\n");
        write(&context.join("file"), text);
        publisher.ok(&["build", "-t", &base, context.to_str().unwrap()]);
        publisher.ok(&["push", "--plain-http", &base]);
        push(&publisher, &nginx, seed);
    };
    publish("one", 1);

    let sealift = Sealift::new();
    let dir = sealift.home().join("context");
    let (context, lock) = (dir.display().to_string(), dir.join("Kubefile.lock"));
    write(&dir.join("Kubefile"), &format!("FROM {base}\nCOPY . /app/\nIMAGES {nginx}\n"));
    let args = ["build", "--plain-http", "-t", "shop:1", &context];
    let with = |more: &'static str| [&args[..], &[more]].concat();
    assert_says(&sealift.fails(2, &with("--locked")), &["Kubefile.lock", "hint: `sealift build --lock`"]);
    let digest = sealift.ok(&with("--lock"));
    let text = fs::read_to_string(&lock).unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert!(document["images"][&base].as_str().unwrap().starts_with("sha256:"), "{text}");
    assert!(document["containers"][&nginx].as_str().unwrap().starts_with("sha256:"), "{text}");
    assert_eq!(sealift.ok(&with("--lock")), digest, "the lock file itself is not in the image");
    assert_eq!(fs::read_to_string(&lock).unwrap(), text);

    // the names move on; a locked build elsewhere does not
    publish("two", 2);
    for (sealift, more) in [(&sealift, "--locked"), (&sealift, "--pull=always")] {
        let now = sealift.ok(&with(more));
        assert_eq!(now == digest, more == "--locked", "{more}");
    }
    let elsewhere = Sealift::new();
    assert_eq!(elsewhere.ok(&with("--locked")), digest);
    let refreshed = elsewhere.ok(&with("--lock"));
    assert_ne!(refreshed, digest, "the names are asked for again");
    assert_eq!(elsewhere.ok(&with("--locked")), refreshed);

    write(&dir.join("Kubefile"), &format!("FROM {base}\nCOPY . /app/\nIMAGES {nginx} {}\n", registry.name("redis:7")));
    let said = elsewhere.fails(1, &with("--locked"));
    assert_says(&said, &["container image", "redis:7 is not in the lock file", "hint: write the lock file again: `sealift build --lock`"]);
    write(&dir.join("Kubefile"), &format!("FROM {}\n", registry.name("other:1")));
    assert_says(&elsewhere.fails(1, &with("--locked")), &["image ", "other:1 is not in the lock file"]);
    write(&lock, "{}");
    assert_says(&elsewhere.fails(2, &with("--locked")), &["is not a lock file"]);
}

/// The archive of a chart with this value.
fn chart(sealift: &Sealift, value: &str) -> Vec<u8> {
    let dir = sealift.home().join("chart");
    write(&dir.join("web/Chart.yaml"), "apiVersion: v2\nname: web\nversion: 1.0.0\n");
    write(
        &dir.join("web/templates/map.yaml"),
        &format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: web}}\ndata: {{value: {value}}}\n"),
    );
    run("tar", &["-C", dir.to_str().unwrap(), "-czf", dir.join("web.tgz").to_str().unwrap(), "web"]);
    fs::read(dir.join("web.tgz")).unwrap()
}

/// Pushes a chart as `helm push` does.
fn push_chart(sealift: &Sealift, name: &str, archive: &[u8]) {
    let store = sealift.store();
    let blob = |bytes: &[u8], kind: &str| {
        let blob = store.put(bytes).unwrap();
        Descriptor::new(MediaType::from(kind), blob.size, oci_spec::image::Digest::from(blob.digest))
    };
    let config = blob(b"{\"name\":\"web\"}", "application/vnd.cncf.helm.config.v1+json");
    let layer = blob(archive, "application/vnd.cncf.helm.chart.content.v1.tar+gzip");
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config, "layers": [layer]});
    let manifest = blob(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
    store.tag(&name.parse().unwrap(), &manifest).unwrap();
    sealift.ok(&["push", "--plain-http", name]);
    sealift.ok(&["rmi", name]);
}

#[test]
fn locked_files_and_charts_are_these_or_an_error_and_need_no_network() {
    let (sealift, registry, web) = (Sealift::new(), DockerRegistry::start(), Web::start());
    let (base, nginx, oci) = (registry.name("base:1"), registry.name("nginx:1"), registry.name("charts/web:1.0.0"));
    push(&sealift, &nginx, 1);
    write(&sealift.home().join("base/Kubefile"), "FROM scratch\nCOPY Kubefile /\n");
    sealift.ok(&["build", "-t", &base, sealift.home().join("base").to_str().unwrap()]);
    sealift.ok(&["push", "--plain-http", &base]);
    sealift.ok(&["rmi", &base]);
    push_chart(&sealift, &oci, &chart(&sealift, "one"));
    web.put("web.tgz", Answer::File(chart(&sealift, "two")));
    web.put("tool", Answer::File(b"tool".to_vec()));

    let dir = sealift.home().join("context");
    let kubefile =
        format!("FROM {base}\nADD {} bin/\nAPP one oci://{oci}\nAPP two {}\nIMAGES {nginx}\n", web.url("tool"), web.url("web.tgz"));
    write(&dir.join("Kubefile"), &kubefile);
    let args = ["build", "--plain-http", "-t", "shop:1", dir.to_str().unwrap()];
    let with = |more: &'static str| [&args[..], &[more]].concat();
    let digest = sealift.ok(&with("--lock"));
    let text = fs::read_to_string(dir.join("Kubefile.lock")).unwrap();
    assert!(text.starts_with("{\n  \"comment\": \"Written by `sealift build --lock`"), "{text}");
    let keys: Vec<String> = serde_json::from_str::<Value>(&text).unwrap()["files"].as_object().unwrap().keys().cloned().collect();
    let mut expected = [web.url("tool"), web.url("web.tgz"), format!("oci://{oci}")];
    expected.sort();
    assert_eq!(keys, expected);
    let line = |key: &str| text.lines().position(|line| line.contains(key)).unwrap() + 1;

    // all has changed behind its name: who has what was locked goes on, who does not is told the line
    web.put("tool", Answer::File(b"other".to_vec()));
    push_chart(&sealift, &oci, &chart(&sealift, "three"));
    web.log();
    assert_eq!(sealift.ok(&with("--locked")), digest);
    assert_eq!(web.log(), [] as [String; 0]);
    let elsewhere = Sealift::new();
    let hint = "hint: if the change is intended, update the lock file: `sealift build --lock`";
    let said = elsewhere.fails(6, &with("--locked"));
    assert_says(
        &said,
        &["Kubefile:2: ADD", &format!("Kubefile.lock:{}: \"{}\"", line("/tool"), web.url("tool")), ": checksum is sha256:", hint],
    );
    web.put("tool", Answer::File(b"tool".to_vec()));
    let said = elsewhere.fails(6, &with("--locked"));
    assert_says(
        &said,
        &["Kubefile:3: APP one", &format!("Kubefile.lock:{}: \"oci://{oci}\"", line("oci://")), ": checksum is sha256:", hint],
    );

    // the network goes away
    drop(registry);
    assert_eq!(sealift.ok(&with("--locked")), digest);
    let said = elsewhere.fails(7, &with("--locked"));
    assert_says(&said, &["Kubefile.lock:", hint]);
    let ended = sealift.run(&with("--lock")).expect_code(0);
    assert_eq!(ended.stdout, digest, "nothing newer can be seen");
    assert_says(&ended.stderr, &["from the store", "using the last download of the file"]);
    assert_eq!(fs::read_to_string(dir.join("Kubefile.lock")).unwrap(), text);
}
