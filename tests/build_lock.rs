//! `build --lock` writes down what names stood for, and `build --locked` takes exactly that.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::images;
use common::registry::DockerRegistry;
use common::sealift::{Sealift, assert_says};
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

    write(&dir.join("Kubefile"), &format!("FROM {base}\nCOPY . /app/\nIMAGES {nginx} {}\n", registry.name("redis:7")));
    let said = elsewhere.fails(1, &with("--locked"));
    assert_says(&said, &["container image", "redis:7 is not in the lock file", "hint: write the lock file anew"]);
    write(&dir.join("Kubefile"), &format!("FROM {}\n", registry.name("other:1")));
    assert_says(&elsewhere.fails(1, &with("--locked")), &["image ", "other:1 is not in the lock file"]);
    write(&lock, "{}");
    assert_says(&elsewhere.fails(2, &with("--locked")), &["is no lock file"]);
}
