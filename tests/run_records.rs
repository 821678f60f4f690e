//! What is kept of a cluster: logs of runs, reports, revisions, the list of known clusters. Real hosts, sshd and etcd.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use common::clusters::Etcd;
use common::sealift::{Sealift, assert_says};
use serde_json::Value;

const SECRET: &str = "geheim-7ab";

/// The texts of all files below a directory of this machine.
fn files(directory: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push((path.display().to_string(), String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned())),
        }
    }
    found
}

#[test]
fn a_run_is_logged_reported_and_kept_as_a_revision_without_secrets() {
    let etcd = Etcd::on(2);
    let report = etcd.sealift.home().join("report.html").display().to_string();
    let variable = format!("PASSWORD={SECRET}");
    let run = [&etcd.run_args()[..], &["--env", &variable, "--report", &report]].concat();
    etcd.sealift.ok(&run);

    // what is kept, here and on the masters
    let clusters = etcd.sealift.json(&["clusters"]);
    assert_eq!((&clusters[0]["name"], &clusters[0]["lastRun"]["result"]), (&"db".into(), &"done".into()), "{clusters}");
    assert_eq!(clusters[0]["hosts"].as_array().unwrap().len(), 2);
    assert_says(&etcd.sealift.ok(&["clusters"]), &["db", "etcd:test", "done"]);
    let kept = files(&etcd.sealift.home().join("state/clusters"));
    let clear: Vec<&String> = kept.iter().filter(|(_, text)| text.contains(SECRET)).map(|(path, _)| path).collect();
    assert!(clear.is_empty() && kept.len() >= 3, "{clear:?} of {kept:?}");
    for host in ["h1", "h2"] {
        assert!(!etcd.hosts.succeeds(host, &format!("grep -rq {SECRET} /var/lib/sealift/clusters")), "{host}");
        assert_eq!(etcd.hosts.run(host, "stat -c %a /var/lib/sealift/clusters/db/revisions/1.json").trim(), "600");
    }

    // the log
    let runs = etcd.sealift.json(&["logs"]);
    assert_eq!((runs.as_array().unwrap().len(), &runs[0]["command"], &runs[0]["result"]), (1, &"run".into(), &"done".into()), "{runs}");
    let changes = runs[0]["changes"].as_u64().unwrap();
    assert_says(
        &etcd.sealift.ok(&["logs", "db", "last"]),
        &["run of cluster db", "h1: ", "h2: ", "plan: ", &format!("done, {changes} changes")],
    );
    let records = etcd.sealift.json(&["logs", "db", runs[0]["run"].as_str().unwrap()]);
    let finished = |record: &&Value| record["event"] == "finished" && record["host"] == "h1" && record["stage"].is_string();
    assert!(records.as_array().unwrap().iter().filter(finished).count() > 3, "{records}");
    assert_says(&etcd.sealift.ok(&["logs", "--follow"]), &["done"]);

    // the report
    let html = std::fs::read_to_string(&report).unwrap();
    assert_says(&html, &["<html", "时间线", "Timeline", "h1", "h2", "etcd:test@sha256:", "MiB"]);
    assert!(!html.contains(SECRET));

    let later = etcd.sealift.home().join("later.html").display().to_string();
    etcd.sealift.ok(&["logs", "db", "last", "--report", &later]);
    assert_eq!(std::fs::read_to_string(&later).unwrap(), html, "the same can be had of the log");

    // nothing changes, nothing is kept; a drift is repaired: revision 2
    assert_eq!(etcd.sealift.json(&run)["changes"], 0);
    etcd.hosts.run("h1", "rm /usr/bin/etcdctl");
    etcd.known(&["apply", "db"]).expect_code(0);
    let history = |args: &[&str]| -> Value {
        serde_json::from_str(&etcd.known(&[&["history", "db", "-o", "json"], args].concat()).expect_code(0).stdout).unwrap()
    };
    let revisions = history(&[]);
    assert_eq!(revisions.as_array().unwrap().iter().map(|revision| revision["number"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((&revisions[0]["command"], &revisions[0]["result"]), (&"apply".into(), &"done".into()), "{revisions}");
    assert!(revisions[0]["plan"]["stages"][0]["steps"][0]["what"].is_string(), "{revisions}");

    // another value of the secret is told, the value is not
    let other = run.iter().map(|word| if *word == variable { "PASSWORD=geheim-9xy" } else { *word }).collect::<Vec<_>>();
    etcd.sealift.ok(&other);
    let difference = etcd.known(&["diff", "db@1", "db@last"]).expect_code(0).stdout;
    assert_says(&difference, &["Clusterfile", "PASSWORD=sealed:"]);
    assert!(!difference.contains("geheim"), "{difference}");
    assert_says(&etcd.known(&["diff", "db@1", "db@7"]).expect_code(2).stderr, &["no such revision: db@7", "1, 2, 3"]);

    // an image of the same name is said
    etcd.sealift.ok(&["tag", "etcd:test", "db"]);
    let both = etcd.known(&["history", "db"]).expect_code(0);
    assert_says(&both.stderr, &["sealift history db:latest"]);
    assert_says(&both.stdout, &["REVISION"]);
    assert_says(&etcd.sealift.ok(&["history", "db:latest"]), &["CREATED BY"]);

    // no host answers: what this machine made
    etcd.hosts.stop("h1");
    assert_eq!(history(&[]).as_array().unwrap().len(), 3, "one master is enough");
    etcd.hosts.stop("h2");
    let alone = etcd.known(&["history", "db"]).expect_code(0);
    assert_says(&alone.stderr, &["no control plane node answers"]);
    assert_says(&alone.stdout, &["apply", "run"]);

    // hosts that are gone
    assert_says(&etcd.sealift.fails(2, &["forget", "db"]), &["--yes", "sealift reset db"]);
    assert_says(&etcd.sealift.fails(2, &["forget", "nope", "--yes"]), &["nope", "db"]);
    etcd.sealift.ok(&["forget", "db", "--yes"]);
    assert_eq!(etcd.sealift.json(&["clusters"]), Value::Array(Vec::new()));
    assert_says(&etcd.sealift.fails(2, &["logs", "db"]), &["no such cluster: db"]);
}

#[test]
fn a_failed_run_says_where_it_failed_and_where_its_log_is() {
    let etcd = Etcd::on(1);
    etcd.run();
    etcd.hosts.run("h1", "rm /usr/bin/etcd && mkdir /usr/bin/etcd && touch /usr/bin/etcd/in-the-way && systemctl stop etcd");
    let report = etcd.sealift.home().join("failed.html").display().to_string();
    let failed = etcd.sealift.run(&[&etcd.run_args()[..], &["--report", &report]].concat());
    assert_ne!(failed.code, 0);
    assert_says(&failed.stderr, &["failed on h1", "sealift logs db last", "state/clusters/db/runs/", ".jsonl"]);
    assert_says(&etcd.sealift.ok(&["logs", "db", "last"]), &["failed", "error: ", "✗ h1: "]);
    let html = std::fs::read_to_string(&report).unwrap();
    assert_says(&html, &["What failed", "失败原因"]);
    let history = etcd.known(&["history", "db"]).expect_code(0).stdout;
    assert_says(&history, &["failed", "done"]);
    etcd.hosts.run("h1", "rm -r /usr/bin/etcd");
    etcd.run();
    etcd.known(&["reset", "--yes"]).expect_code(0);
    // the log of the reset is there, the record is not
    assert_eq!(etcd.sealift.json(&["clusters"]), Value::Array(Vec::new()));
    assert_says(&etcd.sealift.ok(&["logs", "db"]), &["-reset", "-run", "failed"]);
    assert_says(&etcd.sealift.ok(&["logs", "db", "last"]), &["reset of cluster db", "h1: reset"]);
}

#[test]
fn a_refused_run_is_not_recorded() {
    let etcd = Etcd::on(1);
    let (address, key) = (etcd.hosts.addresses()[0].to_string(), etcd.hosts.key().display().to_string());
    etcd.sealift.ok(&["check", "etcd:test", "--masters", &address, "--pk", &key]);
    let renewing = "while :; do /var/lib/sealift/bin/sealift lease --holder other --owner bob@desk hold; sleep 5; done";
    etcd.hosts.run("h1", &format!("systemd-run --quiet --unit other /bin/sh -c '{renewing}'"));
    common::wait_until("the other run holds the lease", || etcd.hosts.succeeds("h1", "grep -q bob /var/lib/sealift/lease.json"));
    assert_says(&etcd.sealift.fails(1, &etcd.run_args()), &["bob@desk", "sealift logs db last"]);
    assert_eq!(etcd.sealift.json(&["clusters"]), Value::Array(Vec::new()));
    // what was known stays as it was
    etcd.hosts.run("h1", "systemctl stop other; rm /var/lib/sealift/lease.json");
    etcd.run();
    let record = etcd.sealift.home().join("state/clusters/db/Clusterfile");
    let before = std::fs::read_to_string(&record).unwrap();
    etcd.hosts.run("h1", &format!("systemd-run --quiet --unit other2 /bin/sh -c '{renewing}'"));
    common::wait_until("the other run holds the lease", || etcd.hosts.succeeds("h1", "grep -q bob /var/lib/sealift/lease.json"));
    etcd.hosts.run("h1", "systemctl stop etcd");
    etcd.sealift.fails(1, &[&etcd.run_args()[..], &["--env", "NEW=value"]].concat());
    assert_eq!(std::fs::read_to_string(&record).unwrap(), before);
    // nor is one that the command line or the image refuses
    etcd.sealift.fails(2, &["run", "etcd:test", "--name", "other", "--masters", "nonsense", "--pk", &key]);
    etcd.sealift.fails(7, &["run", "nope.invalid/x:1", "--name", "other", "--masters", &address, "--pk", &key]);
    assert_eq!(etcd.sealift.json(&["clusters"]).as_array().unwrap().len(), 1);
}

#[test]
fn a_cluster_is_worked_on_with_what_is_kept_and_missing_secrets_are_named() {
    let etcd = Etcd::on(1);
    let variable = format!("PASSWORD={SECRET}");
    etcd.sealift.ok(&[&etcd.run_args()[..], &["--env", &variable]].concat());
    let plan = etcd.known(&["plan", "--exit-code"]).expect_code(0);
    assert_says(&plan.stdout, &["0 changes to db"]);
    // on a machine without the key
    let key = etcd.sealift.home().join("state/secrets.key");
    let elsewhere = etcd.sealift.home().join("taken");
    std::fs::rename(&key, &elsewhere).unwrap();
    let refused = etcd.known(&["apply", "db"]).expect_code(2).stderr;
    assert_says(&refused, &["env `PASSWORD`", "--env PASSWORD=VALUE", "SEALIFT_SECRETS_KEY"]);
    assert_says(
        &etcd.known(&["status", "db"]).expect_code(0).stdout,
        &["drift: not known", "revision 1: run done", "sealift logs db last"],
    );
    let mut with_key = etcd.sealift.command(&["plan", "--exit-code", "--name", "db", "--pk", &etcd.hosts.key().display().to_string()]);
    let output = with_key.env("SEALIFT_SECRETS_KEY", &elsewhere).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    etcd.known(&["reset", "db", "--yes"]).expect_code(0);
}

#[test]
fn without_clusters_the_commands_say_so() {
    let sealift = Sealift::new();
    assert_eq!(sealift.json(&["clusters"]), Value::Array(Vec::new()));
    assert_says(&sealift.run(&["clusters"]).expect_code(0).stderr, &["no cluster is known"]);
    assert_says(&sealift.fails(2, &["logs"]), &["no cluster is known"]);
    assert_says(&sealift.fails(2, &["forget", "shop", "--yes"]), &["no such cluster: shop"]);
    assert_says(&sealift.fails(2, &["diff", "shop@1", "shop:1"]), &["two revisions of one cluster"]);
}
