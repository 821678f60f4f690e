//! The policy stops what is not signed: what is pulled, loaded and run, what a build starts from, and what it brings along.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::building::write;
use common::images::{cluster_image, container_image};
use common::registry::DockerRegistry;
use common::sealift::{Sealift, assert_says};
use common::trust::{keys, sign};

#[test]
fn the_policy_stops_what_is_not_signed_before_anything_is_done() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = registry.name("team/shop:1");
    cluster_image(&here.store(), &name, 73, &[1000], &[]);
    let (key, _) = keys(&here, "own");
    here.ok(&["push", &name]);
    let policy = here.home().join("trust.yaml").display().to_string();
    let write = |level: &str| {
        let text = format!("images:\n- name: '127.0.0.1:*/team/*'\n  trust: {level}\n  keys: [own.pub]\n");
        std::fs::write(&policy, text).unwrap();
    };
    write("required");
    assert_says(
        &there.fails(6, &["pull", &name, "--trust-policy", &policy]),
        &["is not trusted", "is not signed", "hint: the trust policy is"],
    );
    assert!(there.store().refs().unwrap().is_empty());
    let run_it = ["run", &name, "-m", "127.0.0.9", "--trust-policy", &policy];
    assert_says(&there.fails(6, &run_it), &["is not trusted"]);
    write("warn");
    assert_says(&there.run(&["pull", &name, "--trust-policy", &policy]).expect_code(0).stderr, &["warning:", "is not trusted"]);
    write("required");
    sign(&here, &name, &key, &["--remote"]);
    there.ok(&["pull", &name, "--trust-policy", &policy]);
    std::fs::remove_file(here.home().join("own.pub")).unwrap();
    assert_says(&there.fails(2, &["pull", &name, "--trust-policy", &policy]), &["own.pub"]);
}

/// Puts a container image into the registry.
fn push_container(who: &Sealift, name: &str, seed: u64) {
    let image = container_image(&who.store(), seed, &[1000]);
    who.store().tag(&name.parse().unwrap(), &image).unwrap();
    who.ok(&["push", name]);
}

#[test]
fn what_is_signed_at_the_desk_loads_and_runs_on_site_offline_and_nothing_else_does() {
    let (desk, site) = (Sealift::new(), Sealift::new());
    let (key, public) = keys(&desk, "own");
    for (name, seed) in [("registry.example.com/shop:1", 81), ("registry.example.com/other:1", 82)] {
        cluster_image(&desk.store(), name, seed, &[1000], &["web:1"]);
    }
    sign(&desk, "registry.example.com/shop:1", &key, &[]);
    let policy = site.home().join("trust.yaml").display().to_string();
    write(&site.home().join("trust.yaml"), &format!("trust: required\nkeys: [{public}]\n"));
    let archive = |name: &str, more: &[&str]| {
        let file = desk.home().join(name).display().to_string();
        desk.ok(&[&["save", "-o", &file], more].concat());
        file
    };
    let (both, other) = (["registry.example.com/shop:1", "registry.example.com/other:1"], ["registry.example.com/other:1"]);
    for unsigned in [archive("both.tar", &both), archive("other.tar", &other)] {
        let said = site.fails(6, &["load", "-i", &unsigned, "--trust-policy", &policy]);
        assert_says(&said, &["registry.example.com/other:1 is not trusted", "is not signed", "hint: the trust policy is"]);
        assert!(site.store().refs().unwrap().is_empty());
    }
    let split = desk.home().join("split.tar").display().to_string();
    desk.ok(&["save", "-o", &split, "--split", "64K", both[0]]);
    for signed in [archive("shop.tar", &both[..1]), format!("{split}.001")] {
        site.ok(&["load", "-i", &signed, "--trust-policy", &policy]);
    }
    // the host is nobody's: the image is not what stops this
    let run = ["run", both[0], "-m", "127.0.0.9", "--trust-policy", &policy];
    let ended = site.run(&run);
    assert!(ended.code != 0 && ended.code != 6 && !ended.stderr.contains("trust"), "{} {}", ended.code, ended.stderr);
    assert_says(&site.ok(&["verify", both[0], "--key", &public]), &["is signed by"]);
}

#[test]
fn a_build_starts_from_and_brings_along_only_what_the_policy_trusts() {
    let registry = DockerRegistry::start();
    let (maker, builder) = (Sealift::new(), Sealift::new());
    let (key, public) = keys(&maker, "own");
    let [base, web, tool] = ["team/base:1", "team/web:1", "tools/tool:1"].map(|name| registry.name(name));
    cluster_image(&maker.store(), &base, 83, &[1000], &[]);
    maker.ok(&["push", &base]);
    push_container(&maker, &web, 84);
    push_container(&maker, &tool, 85);
    let context = builder.home().join("context");
    write(&context.join("Kubefile"), &format!("FROM {base}\nIMAGES {web} {tool}\n"));
    let policy = builder.home().join("trust.yaml").display().to_string();
    let rules = format!("images:\n- name: '127.0.0.1:*/team/*'\n  trust: required\n  keys: [{public}]\n");
    write(&builder.home().join("trust.yaml"), &rules);
    let context = context.display().to_string();
    let build = ["build", "-t", "shop:1", &context, "--trust-policy", &policy];

    let said = builder.fails(6, &build);
    assert_says(&said, &[&format!("{base} is not trusted"), "is not signed"]);
    sign(&maker, &base, &key, &["--remote"]);
    let said = builder.fails(6, &build);
    assert_says(&said, &[&format!("{web} is not trusted")]);
    assert!(!said.contains(&tool), "no rule is for it: {said}");
    sign(&maker, &web, &key, &["--remote"]);
    builder.ok(&build);
    // the signatures are here now: nobody needs to be asked again
    drop(registry);
    builder.ok(&build);
    let other = ["build", "-t", "shop:2", &context, "--cache-from", &base, "--trust-policy", &policy];
    builder.ok(&other);
}
