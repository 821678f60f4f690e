//! Hosts that come, go and die in a cluster without Kubernetes, end to end: real hosts and sshd, an image of a few scripts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::hosts::Hosts;
use common::sealift::{Ended, Sealift, assert_says};
use serde_json::Value;

const KUBEFILE: &str = "FROM scratch\nLABEL cluster.alpha.sealer.io/cluster-runtime-type=none\nCOPY scripts scripts\n";
const ENV: &str = "#!/bin/sh\ntext=\"$HostIP in $Masters\"\n";
const SCRIPTS: [(&str, &str); 3] = [
    ("install.sh", "echo \"$text\" > /etc/notes\n"),
    ("check.sh", "[ \"$(cat /etc/notes 2>/dev/null)\" = \"$text\" ]\n"),
    ("uninstall.sh", "rm -f /etc/notes\n"),
];

struct Notes {
    sealift: Sealift,
    hosts: Hosts,
}

impl Notes {
    fn on(count: usize) -> Self {
        let sealift = Sealift::new();
        let context = sealift.home().join("context");
        std::fs::create_dir_all(context.join("scripts")).unwrap();
        std::fs::write(context.join("Kubefile"), KUBEFILE).unwrap();
        for (name, text) in SCRIPTS {
            std::fs::write(context.join("scripts").join(name), format!("{ENV}{text}")).unwrap();
        }
        sealift.ok(&["build", "-t", "notes:1", &context.display().to_string()]);
        Notes { sealift, hosts: Hosts::up(count) }
    }

    fn address(&self, number: usize) -> String {
        self.hosts.addresses()[number - 1].to_string()
    }

    /// Writes a Clusterfile with these hosts, and more lines below `spec`.
    fn clusterfile(&self, hosts: &[usize], more: &str) -> String {
        let file = self.sealift.home().join("Clusterfile");
        let addresses: Vec<String> = hosts.iter().map(|number| self.address(*number)).collect();
        let text = format!(
            "apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {{name: notes}}\nspec:\n  image: notes:1\n  ssh: {{pk: {}}}\n  \
                hosts: [{{ips: [{}], roles: [master]}}]\n{more}",
            self.hosts.key().display(),
            addresses.join(", ")
        );
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    fn runs(&self, args: &[&str]) -> Ended {
        self.sealift.run(args)
    }

    fn reads(&self, host: &str) -> String {
        self.hosts.run(host, "cat /etc/notes 2>/dev/null || true")
    }
}

fn ids(plan: &Value) -> Vec<String> {
    let steps = plan["stages"].as_array().unwrap().iter().flat_map(|stage| stage["steps"].as_array().unwrap().clone());
    let mut ids: Vec<String> = steps.map(|step| step["id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn a_host_that_left_the_clusterfile_is_cleaned_and_one_that_is_dead_is_named() {
    let notes = Notes::on(3);
    let file = notes.clusterfile(&[1, 2, 3], "  hostAliases: [{ip: 10.9.9.9, hostnames: [old.example.com]}]\n");
    // what a plan lists is what is done
    let planned: Value = serde_json::from_str(&notes.runs(&["plan", "-f", &file, "-o", "json"]).expect_code(0).stdout).unwrap();
    let done: Value = serde_json::from_str(&notes.runs(&["run", "-f", &file, "-o", "json"]).expect_code(0).stdout).unwrap();
    let mut steps: Vec<String> = done["steps"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
    steps.sort();
    assert_eq!(steps, ids(&planned));
    assert_says(&notes.hosts.run("h1", "cat /etc/hosts"), &["old.example.com"]);

    // another order is no change
    let file = notes.clusterfile(&[1, 2, 3], "");
    notes.runs(&["apply", "-f", &file]).expect_code(0);
    assert!(!notes.hosts.run("h1", "cat /etc/hosts").contains("old.example.com"), "a name that is not wanted any more");

    // a host leaves: asked first, then cleaned
    let file = notes.clusterfile(&[1, 2], "");
    let asked = notes.runs(&["apply", "-f", &file]).expect_code(2);
    assert_says(&asked.stderr, &[&notes.address(3), "--yes"]);
    assert_says(&notes.reads("h3"), &[&notes.address(3)]);
    assert_says(&notes.runs(&["plan", "-f", &file]).expect_code(0).stdout, &["remove", "- ", "all changes on the host"]);
    notes.runs(&["apply", "-f", &file, "--yes"]).expect_code(0);
    assert_eq!(notes.hosts.run("h3", "cat /etc/notes /var/lib/sealift 2>/dev/null || ls -d /var/lib/sealift 2>/dev/null || true"), "");
    assert_says(&notes.runs(&["plan", "-f", &file]).expect_code(0).stdout, &["0 changes to notes"]);

    // a dead host is named, the others are changed; when nothing is left to do, that is said too
    notes.hosts.stop("h2");
    notes.hosts.run("h1", "rm /etc/notes");
    assert_says(&notes.runs(&["apply", "-f", &file]).expect_code(4).stderr, &[&notes.address(2)]);
    assert_says(&notes.reads("h1"), &[&notes.address(1)]);
    assert_says(&notes.runs(&["plan", "-f", &file]).expect_code(4).stdout, &["0 changes to notes", "! "]);
    assert_says(&notes.runs(&["status"]).expect_code(4).stderr, &[&notes.address(2)]);
    assert_says(&notes.runs(&["check", "-f", &file]).expect_code(4).stderr, &[&notes.address(2)]);
    notes.runs(&["apply", "-f", &file, "--require-all"]).expect_code(4);

    // it leaves while it is dead: it stays known until it is forgotten
    let alone = notes.clusterfile(&[1], "");
    assert_says(&notes.runs(&["apply", "-f", &alone, "--yes"]).expect_code(4).stderr, &[&notes.address(2), "--forget"]);
    assert_says(&notes.runs(&["apply", "-f", &alone, "--yes"]).expect_code(4).stderr, &[&notes.address(2), "--forget"]);
    notes.runs(&["apply", "-f", &alone, "--yes", "--forget"]).expect_code(0);
    assert_says(&notes.runs(&["apply", "-f", &alone]).expect_code(0).stdout, &["0 changes"]);
    // it comes back: cleaned by its address
    notes.hosts.start("h2");
    let key = notes.hosts.key().display().to_string();
    notes.runs(&["reset", "notes", "--host", &notes.address(2), "--pk", &key, "--yes"]).expect_code(0);
    assert_eq!(notes.hosts.run("h2", "ls -d /etc/notes /var/lib/sealift 2>/dev/null || true"), "");
}

/// A removal that is killed at any moment is finished by the same command: no host is forgotten half way.
#[test]
fn a_removal_killed_at_any_moment_is_finished_by_the_same_command() {
    let notes = Notes::on(2);
    let both = notes.clusterfile(&[1, 2], "");
    notes.runs(&["run", "-f", &both]).expect_code(0);
    let began = std::time::Instant::now();
    let removal = |file: &str| vec!["apply".to_owned(), "-f".to_owned(), file.to_owned(), "--yes".to_owned()];
    let alone = notes.clusterfile(&[1], "");
    notes.runs(&["apply", "-f", &alone, "--yes"]).expect_code(0);
    let whole = began.elapsed();
    for moment in 0..5 {
        let both = notes.clusterfile(&[1, 2], "");
        notes.runs(&["apply", "-f", &both]).expect_code(0);
        let alone = notes.clusterfile(&[1], "");
        let args = removal(&alone);
        let mut run = notes.sealift.command(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let mut run = run.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole * moment / 5);
        run.kill().unwrap();
        run.wait().unwrap();
        notes.runs(&["apply", "-f", &alone, "--yes"]).expect_code(0);
        assert_says(&notes.runs(&["plan", "-f", &alone]).expect_code(0).stdout, &["0 changes to notes"]);
        assert_says(&notes.reads("h1"), &[&notes.address(1)]);
        // the cluster is not forgotten on it: only a kill between the last two steps leaves sealift's own files there
        assert_eq!(
            notes.hosts.run("h2", "ls -d /etc/notes /var/lib/sealift/rootfs /var/lib/sealift/undo 2>/dev/null || true"),
            "",
            "{moment}"
        );
    }
}

#[test]
fn another_machine_adopts_a_cluster_and_goes_on_with_it() {
    let notes = Notes::on(2);
    let file = notes.clusterfile(&[1, 2], "");
    notes.runs(&["run", "-f", &file]).expect_code(0);
    let (other, key) = (Sealift::new(), notes.hosts.key().display().to_string());
    let none = other.run(&["adopt", "nosuch", "--host", &notes.address(1), "--pk", &key]).expect_code(2);
    assert_says(&none.stderr, &["nosuch", "notes"]);
    assert_says(&other.ok(&["adopt", "--host", &notes.address(2), "--pk", &key]), &["notes", "2 hosts"]);
    let store = notes.sealift.store_root().display().to_string();
    assert_says(&other.ok(&["--store", &store, "plan", "--name", "notes"]), &["0 changes to notes"]);
    assert_says(&other.ok(&["status", "notes"]), &["h1", "h2"]);
    let refused = other.run(&["--store", &store, "scale", "notes", "--masters", ""]).expect_code(2);
    assert_says(&refused.stderr, &["no master"]);
    other.ok(&["--store", &store, "scale", "notes", "--masters", &notes.address(2), "--yes"]);
    assert_says(&notes.reads("h2"), &[&format!("in {}\n", notes.address(2))]);
    assert_eq!(notes.reads("h1"), "");
    // the first machine still believes in both hosts: the cluster knows better, and takes the other one in again
    other.ok(&["reset", "notes", "--yes"]);
    assert_eq!(notes.hosts.run("h2", "ls -d /etc/notes /var/lib/sealift 2>/dev/null || true"), "");
}

#[test]
fn an_application_image_is_added_to_a_cluster() {
    let notes = Notes::on(1);
    let file = notes.clusterfile(&[1], "");
    notes.runs(&["run", "-f", &file]).expect_code(0);
    let build = |version: &str| {
        let context = notes.sealift.home().join("extra");
        std::fs::create_dir_all(&context).unwrap();
        let kubefile = format!("FROM scratch\nCMDS [\"echo extra {version} >> /etc/extra\"]\n");
        std::fs::write(context.join("Kubefile"), kubefile).unwrap();
        let tag = format!("team/extra:{version}");
        notes.sealift.ok(&["build", "--type", "app-installer", "-t", &tag, &context.display().to_string()]);
        tag
    };
    let (first, second) = (build("1"), build("2"));
    let extra = |notes: &Notes| notes.hosts.run("h1", "cat /etc/extra 2>/dev/null || true");
    notes.runs(&["run", &first, "--name", "notes"]).expect_code(0);
    assert_eq!(extra(&notes), "extra 1\n");
    assert_says(&notes.runs(&["apply", "notes"]).expect_code(0).stdout, &["0 changes"]);
    // a newer version replaces it
    notes.runs(&["run", &second, "--name", "notes"]).expect_code(0);
    assert_eq!(extra(&notes), "extra 1\nextra 2\n");
    let images = notes.runs(&["status", "-o", "json"]).expect_code(0).stdout;
    assert!(images.contains("notes:1, team/extra:2"), "{images}");
    assert!(Path::new(&file).exists());
    assert_says(&notes.reads("h1"), &[&notes.address(1)]);
}

/// Another image, going back, another address, a dead host that is taken out: each is said before it is done, and done by one command.
#[test]
fn another_image_is_asked_for_what_it_wants_and_going_back_is_a_change_too() {
    let notes = Notes::on(2);
    let (key, both) = (notes.hosts.key().display().to_string(), notes.clusterfile(&[1, 2], ""));
    notes.runs(&["run", "-f", &both]).expect_code(0);
    let build = |tag: &str, text: &str| {
        let context = notes.sealift.home().join(tag.replace([':', '/'], "-"));
        std::fs::create_dir_all(context.join("scripts")).unwrap();
        std::fs::write(context.join("Kubefile"), KUBEFILE).unwrap();
        for (name, script) in SCRIPTS {
            std::fs::write(context.join("scripts").join(name), format!("{}{script}", ENV.replace("in $Masters", text))).unwrap();
        }
        notes.sealift.ok(&["build", "-t", tag, &context.display().to_string()]);
    };
    // its scripts want something else: planned, and done at once
    build("notes:2", "in the second");
    for (image, text) in [("notes:2", "in the second"), ("notes:1", "in 10.")] {
        let plan = notes.runs(&["plan", image, "--name", "notes", "-o", "json"]).expect_code(0);
        let done = notes.runs(&["run", image, "--name", "notes", "-o", "json"]).expect_code(0);
        let done: Value = serde_json::from_str(&done.stdout).unwrap();
        let mut steps: Vec<String> = done["steps"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect();
        steps.sort();
        assert_eq!(steps, ids(&serde_json::from_str(&plan.stdout).unwrap()));
        assert!(["h1", "h2"].iter().all(|host| notes.reads(host).contains(text)), "{image}");
        assert_says(&notes.runs(&["plan", "--name", "notes"]).expect_code(0).stdout, &["0 changes to notes"]);
    }

    // an application that goes back to an earlier version is launched again
    for version in [1, 2] {
        let context = notes.sealift.home().join(format!("team-{version}"));
        std::fs::create_dir_all(&context).unwrap();
        std::fs::write(context.join("Kubefile"), format!("FROM scratch\nCMDS [\"echo app {version} >> /etc/app-log\"]\n")).unwrap();
        let tag = format!("team/app:{version}");
        notes.sealift.ok(&["build", "--type", "app-installer", "-t", &tag, &context.display().to_string()]);
    }
    for version in [1, 2, 1] {
        notes.runs(&["run", &format!("team/app:{version}"), "--name", "notes"]).expect_code(0);
    }
    assert_eq!(notes.hosts.run("h1", "cat /etc/app-log"), "app 1\napp 2\napp 1\n");
    // one that the Clusterfile does not name leaves, which is said
    assert_says(&notes.runs(&["plan", "-f", &both]).expect_code(0).stderr, &["team/app:1", "leaves the record"]);

    // one machine by two of its addresses is no other host
    let other = notes.address(2).replace(".12", ".112");
    notes.hosts.run("h2", &format!("ip address add {other}/24 dev eth0"));
    let renamed = std::fs::read_to_string(&both).unwrap().replace(&notes.address(2), &other);
    let file = notes.sealift.home().join("renamed");
    std::fs::write(&file, renamed).unwrap();
    let refused = notes.runs(&["apply", "-f", &file.display().to_string(), "--yes", "--host-key", "off"]).expect_code(3);
    assert_says(&refused.stderr, &[&other, "same machine"]);
    assert_says(&notes.reads("h2"), &[&notes.address(2)]);

    // a dead host is taken out: asked first, kept in mind until it is back or forgotten, then cleaned by the same command
    let address = notes.address(2);
    let out = ["reset", "notes", "--host", address.as_str(), "--pk", &key];
    notes.hosts.stop("h2");
    notes.runs(&out).expect_code(2);
    assert_says(&notes.runs(&[&out[..], &["--yes"]].concat()).expect_code(4).stderr, &[&address, "--forget"]);
    notes.hosts.start("h2");
    notes.runs(&[&out[..], &["--yes"]].concat()).expect_code(0);
    assert_eq!(notes.hosts.run("h2", "ls -d /etc/notes /var/lib/sealift 2>/dev/null || true"), "");
    assert_says(&notes.runs(&["plan", "--name", "notes"]).expect_code(0).stdout, &["0 changes to notes"]);
    assert_says(
        &notes.runs(&["reset", "notes", "--host", "10.213.0.99", "--pk", &key, "--yes"]).expect_code(2).stderr,
        &["does not belong"],
    );
}
