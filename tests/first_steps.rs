//! The first steps of a newcomer: `init`, and names by digest, help, completion and man pages.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::process::Command;

use common::images::cluster_image;
use common::sealift::{Sealift, assert_says};

#[test]
fn what_init_writes_is_linted_checked_and_built() {
    let sealift = Sealift::new();
    let directory = sealift.home().join("Shop");
    let shop = directory.to_str().unwrap();
    let answer = sealift.json(&["init", shop, "--masters", "10.0.0.2", "--nodes", "10.0.0.3,10.0.0.5-10.0.0.6"]);
    assert_eq!(answer["name"], "shop");
    let (kubefile, clusterfile) = (format!("{shop}/Kubefile"), format!("{shop}/Clusterfile"));
    sealift.ok(&["lint", "--strict", &kubefile, &clusterfile]);
    sealift.ok(&["build", "--check", shop]);
    sealift.ok(&["build", "-t", "shop:0.1", shop]);
    let dry = sealift.ok(&["run", "--dry-run", "-f", &clusterfile]);
    assert_says(&dry, &["shop:0.1", "10.0.0.2", "10.0.0.6"]);

    fs::write(&kubefile, "FROM scratch\n").unwrap();
    assert_says(&sealift.fails(2, &["init", shop]), &["Kubefile exists already", "`--force`"]);
    assert_eq!(fs::read_to_string(&kubefile).unwrap(), "FROM scratch\n");
    sealift.ok(&["init", shop, "--force", "--name", "web"]);
    assert_says(&fs::read_to_string(&clusterfile).unwrap(), &["name: web", "image: web:0.1"]);
    assert_says(&sealift.fails(2, &["init", shop, "--force", "--name", "Web"]), &["name `Web`", "hint: "]);
}

#[test]
fn a_digest_as_images_prints_it_names_an_image_everywhere() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "docker.io/library/shop:1", 1, &[1000], &["docker.io/library/nginx:1"]);
    cluster_image(&sealift.store(), "docker.io/library/shop:2", 2, &[1000], &[]);
    let table = sealift.ok(&["images", "shop"]);
    let ids: Vec<&str> = table.lines().skip(1).map(|line| line.split_whitespace().nth(2).unwrap()).collect();
    let [one, two] = ids[..] else { panic!("{table}") };
    let archive = sealift.home().join("shop.tar");
    for args in [
        &["inspect", one][..],
        &["inspect", "--files", one],
        &["history", one],
        &["diff", one, two],
        &["sbom", one],
        &["unpack", one, sealift.home().join("rootfs").to_str().unwrap()],
        &["save", "-o", archive.to_str().unwrap(), one],
        &["tag", one, "shop:stable"],
        &["manifest", "create", "shop:list", two],
    ] {
        sealift.ok(args);
    }
    assert_eq!(sealift.json(&["inspect", one])["name"], "docker.io/library/shop:1");
    assert_says(&sealift.fails(2, &["rmi", one]), &["several names", "`shop:1`", "`shop:stable`"]);
    assert_says(&sealift.fails(2, &["push", one]), &["several names", "shop:1", "shop:stable"]);
    sealift.ok(&["rmi", "shop:stable"]);
    assert_eq!(sealift.ok(&["rmi", one]), "shop:1\n");
    assert_says(&sealift.ok(&["load", "-i", archive.to_str().unwrap()]), &["shop:1"]);
    assert_says(&sealift.fails(1, &["inspect", "0123456789ab"]), &["no such image"]);
}

#[test]
fn help_lists_every_command_in_a_group_within_80_columns() {
    let help = Sealift::new().ok(&["--help"]);
    for group in ["Build:", "Share:", "Run:", "Trust:", "Images:", "Other:"] {
        assert!(help.lines().any(|line| line == group), "{group}\n{help}");
    }
    assert!(!help.contains("agent"), "{help}");
    let commands = help.split("Options:").next().unwrap();
    assert!(commands.lines().skip(1).all(|line| line.chars().count() <= 80), "{commands}");
}

#[test]
fn bash_completes_commands_images_and_clusters() {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "127.0.0.1:5000/team/shop:1", 1, &[1000], &[]);
    let cluster = sealift.home().join("state/clusters/quick");
    fs::create_dir_all(&cluster).unwrap();
    fs::write(cluster.join("Clusterfile"), "").unwrap();
    let script = sealift.home().join("completion.bash");
    fs::write(&script, sealift.ok(&["completion", "bash"])).unwrap();
    for (line, expected) in [
        ("sealift ima", "images "),
        ("sealift status qu", "quick "),
        ("sealift inspect 127", "127.0.0.1:5000/team/shop:1 "),
        ("sealift push 127.0.0.1:50", "5000/team/shop:1 "),
        ("sealift images --quie", "--quiet "),
    ] {
        let call = format!(
            "source '{}'; COMP_LINE='{line}' COMP_POINT=${{#COMP_LINE}}; _sealift; printf '%s' \"${{COMPREPLY[0]}}\"",
            script.display()
        );
        let call = call.replace("COMP_POINT=${#COMP_LINE}", &format!("COMP_POINT={}", line.len()));
        let bin = std::path::Path::new(env!("CARGO_BIN_EXE_sealift")).parent().unwrap();
        let output = Command::new("bash")
            .args(["-c", &call])
            .env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap()))
            .env("SEALIFT_STORE", sealift.store_root())
            .env("SEALIFT_HOME", sealift.home().join("state"))
            .output()
            .unwrap();
        let completed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(completed, expected, "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
    for shell in ["zsh", "fish"] {
        assert_says(&sealift.ok(&["completion", shell]), &["SEALIFT_COMPLETE", "sealift"]);
    }
}

#[test]
fn every_command_has_a_man_page() {
    let sealift = Sealift::new();
    let directory = sealift.home().join("man");
    sealift.ok(&["man", directory.to_str().unwrap()]);
    for page in ["sealift.1", "sealift-build.1", "sealift-run.1", "sealift-manifest-create.1"] {
        assert_says(&fs::read_to_string(directory.join(page)).unwrap(), &["sealift"]);
    }
}

#[test]
fn version_has_the_platform_and_its_parts_as_json() {
    let sealift = Sealift::new();
    assert!(sealift.ok(&["version"]).starts_with(&format!("sealift {}", env!("CARGO_PKG_VERSION"))));
    let version = sealift.json(&["version"]);
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert!(version.get("commit").is_some() && version.get("date").is_some() && version["platform"].as_str().unwrap().contains('/'));
}
