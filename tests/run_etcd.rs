//! A cluster without Kubernetes, end to end: brought up, applied again, killed, reset. Real hosts, sshd and etcd.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::clusters::Etcd;
use common::hosts::assert_same_snapshot;
use common::sealift::assert_says;

#[test]
fn a_second_apply_changes_nothing_and_a_reset_leaves_nothing() {
    let etcd = Etcd::on(3);
    let before: Vec<String> = ["h1", "h2", "h3"].iter().map(|host| etcd.snapshot(host)).collect();
    assert!(etcd.run() > 0);
    etcd.assert_healthy();
    assert_eq!(etcd.run(), 0, "a second run changes nothing");
    let plan = etcd.known(&["plan", "--exit-code"]).expect_code(0);
    assert_says(&plan.stdout, &["0 changes to db"]);
    assert_says(&etcd.known(&["status"]).expect_code(0).stdout, &["h1", "h2", "h3", "up"]);
    let inventory = etcd.known(&["inventory", "db"]).expect_code(0);
    let inventory: serde_json::Value = serde_json::from_str(&inventory.stdout).unwrap();
    let hosts = inventory["hosts"].as_array().unwrap();
    assert!(hosts.len() == 3 && hosts.iter().all(|host| host["blobs"].as_array().unwrap().len() > 2), "{inventory}");
    let members = etcd.known(&["exec", "--", "etcdctl member list | wc -l"]).expect_code(0);
    assert_eq!(members.stdout.lines().filter(|line| line.ends_with(": 3")).count(), 3, "{}", members.stdout);
    assert_says(&etcd.known(&["reset"]).expect_code(2).stderr, &["--yes"]);
    etcd.known(&["reset", "--yes"]).expect_code(0);
    for (host, before) in ["h1", "h2", "h3"].iter().zip(&before) {
        assert_same_snapshot(before, &etcd.snapshot(host), host);
    }
    assert!(etcd.run() > 0, "a reset cluster comes up again");
    etcd.assert_healthy();
}

/// Panics with the lines that differ between two snapshots of a host.
#[test]
fn a_run_killed_at_any_of_ten_moments_is_finished_by_the_same_command() {
    let etcd = Etcd::on(3);
    let began = Instant::now();
    etcd.run();
    let whole = began.elapsed();
    for moment in 0..10 {
        etcd.known(&["reset", "--yes"]).expect_code(0);
        let wait = whole * moment / 10 + Duration::from_millis(100);
        let mut run =
            etcd.sealift.command(&etcd.run_args()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        run.kill().unwrap();
        run.wait().unwrap();
        etcd.run();
        etcd.assert_healthy();
        assert_eq!(etcd.run(), 0, "killed after {wait:?} and finished, there is still something to change");
    }
}

#[test]
fn a_partly_installed_cluster_is_reset() {
    let etcd = Etcd::on(1);
    let before = etcd.snapshot("h1");
    let mut run =
        etcd.sealift.command(&etcd.run_args()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    common::wait_until("the rootfs is there", || etcd.hosts.succeeds("h1", "test -e /var/lib/sealift/rootfs/current"));
    run.kill().unwrap();
    run.wait().unwrap();
    etcd.known(&["reset", "--yes"]).expect_code(0);
    assert_same_snapshot(&before, &etcd.snapshot("h1"), "h1");
}

#[test]
fn two_operators_do_not_change_a_cluster_at_the_same_time() {
    let etcd = Etcd::on(1);
    etcd.run();
    let renewing = "while :; do /var/lib/sealift/bin/sealift lease --holder other --owner bob@desk hold; sleep 5; done";
    etcd.hosts.run("h1", &format!("systemd-run --quiet --unit other /bin/sh -c '{renewing}'"));
    common::wait_until("the other run holds the lease", || etcd.hosts.succeeds("h1", "grep -q bob /var/lib/sealift/lease.json"));
    etcd.hosts.run("h1", "systemctl stop etcd");
    let refused = etcd.sealift.fails(1, &etcd.run_args());
    assert_says(&refused, &["bob@desk", "--break-lease"]);
    assert!(!etcd.hosts.succeeds("h1", "systemctl is-active --quiet etcd"), "nothing was changed");
    etcd.hosts.run("h1", "systemctl stop other");
    etcd.sealift.ok(&[&etcd.run_args()[..], &["--break-lease"]].concat());
    etcd.assert_healthy();
}

#[test]
fn drift_is_planned_and_repaired() {
    let etcd = Etcd::on(1);
    etcd.run();
    etcd.hosts.run("h1", "rm /usr/bin/etcdctl; echo broken > /etc/systemd/system/etcd.service");
    let plan = etcd.known(&["plan", "--exit-code"]).expect_code(5);
    assert_says(&plan.stdout, &["host files", "drift in 2 files"]);
    assert!(etcd.run() > 0);
    etcd.assert_healthy();
    assert_eq!(etcd.run(), 0);
}

/// What stays as it is on a host when one file of an image changes: processes, unpacked files, installed files.
const UNCHANGED: &str = "systemctl show -P MainPID etcd; cd /var/lib/sealift/rootfs/current && find host scripts -type f -printf '%p %i %T@ %m %U\\n' | sort; \
    stat -c '%n %i %Y %Z' /etc/systemd/system/etcd.service /usr/bin/etcd /usr/bin/etcdctl";

#[test]
fn a_changed_file_of_an_image_moves_and_changes_nothing_else() {
    let etcd = Etcd::on(2);
    let hosts = ["h1", "h2"];
    let before: Vec<String> = hosts.iter().map(|host| etcd.snapshot(host)).collect();
    etcd.run();
    let unchanged = |host: &str| etcd.hosts.run(host, UNCHANGED);
    let received = |host: &str| -> u64 { etcd.hosts.run(host, "cat /sys/class/net/eth0/statistics/rx_bytes").trim().parse().unwrap() };
    let on_disk = |host: &str| -> u64 { etcd.hosts.run(host, "du -sk /var/lib/sealift/rootfs | cut -f1").trim().parse().unwrap() };
    let state: Vec<String> = hosts.iter().map(|host| unchanged(host)).collect();
    let (bytes, disk) = (hosts.map(received), hosts.map(on_disk));
    let content = |number: u8| format!("{number}\n").repeat(5 << 10);
    for number in 1..=4 {
        assert!(etcd.run_with_file(&format!("v{number}"), &content(number)) > 0);
        for (host, state) in hosts.iter().zip(&state) {
            assert_eq!(unchanged(host), *state, "{host} after change {number}");
            assert_eq!(etcd.hosts.run(host, "cat /var/lib/sealift/rootfs/current/application/file"), content(number));
            assert_eq!(etcd.hosts.run(host, "ls /var/lib/sealift/rootfs").lines().count(), 3, "the old one, the new one, the link");
        }
    }
    for ((host, bytes), disk) in hosts.iter().zip(bytes).zip(disk) {
        let (bytes, disk) = (received(host) - bytes, on_disk(host) - disk);
        assert!(bytes < 4 << 20, "{host} received {bytes} bytes in four runs");
        assert!(disk < 1 << 10, "{host} has {disk} KiB more of root file systems");
    }
    // and back, with nothing sent: the one before is there
    let plan = etcd.known(&["plan", "--exit-code"]).expect_code(0);
    assert_says(&plan.stdout, &["0 changes to db"]);
    assert!(etcd.run_with_file("v3", &content(3)) > 0);
    etcd.assert_healthy();
    etcd.known(&["reset", "--yes"]).expect_code(0);
    for (host, before) in hosts.iter().zip(&before) {
        assert_same_snapshot(before, &etcd.snapshot(host), host);
    }
}

#[test]
fn wrong_hosts_are_reported_before_anything_is_changed() {
    let etcd = Etcd::on(2);
    let (first, second) = (etcd.hosts.addresses()[0].to_string(), etcd.hosts.addresses()[1].to_string());
    let key = etcd.hosts.key().display().to_string();
    let both = format!("{first},{second}");
    let twice = format!("{first},{first}");
    let run = |masters: &str, more: &[&str]| etcd.sealift.run(&[&["run", "etcd:test", "--masters", masters], more].concat());

    let refused = run(&twice, &["--pk", &key]).expect_code(2);
    assert_says(&refused.stderr, &["listed twice", &first]);
    let refused = run(&first, &["--pk", "/no/such/key", "-p", "wrong"]).expect_code(1);
    assert_says(&refused.stderr, &[&first, "password"]);
    let refused = run(&first, &["--pk", &key, "--port", "23"]).expect_code(7);
    assert_says(&refused.stderr, &[&first, "23", "refused"]);
    let refused = run("not-an-address", &["--pk", &key]).expect_code(2);
    assert_says(&refused.stderr, &["not-an-address"]);
    assert_says(&etcd.sealift.fails(7, &["run", "nope.invalid/x:1", "--masters", &first, "--pk", &key]), &["nope.invalid/x:1"]);

    etcd.hosts.stop("h2");
    let refused = run(&both, &["--pk", &key]).expect_code(4);
    assert_says(&refused.stderr, &[&second]);
    etcd.hosts.start("h2");
    assert!(!etcd.hosts.succeeds("h1", "test -e /var/lib/sealift/clusters"), "nothing was changed");
}

#[test]
fn a_host_without_disk_space_is_refused_by_the_preflight_checks() {
    let etcd = Etcd::on(1);
    let disk = etcd.hosts.disk("h1", "400M");
    etcd.hosts.run("h1", &format!("mkfs.ext4 -q {disk} && mkdir -p /var/lib/sealift && mount {disk} /var/lib/sealift"));
    let (address, key) = (etcd.hosts.addresses()[0].to_string(), etcd.hosts.key().display().to_string());
    let check = ["check", "etcd:test", "--masters", &address, "--pk", &key];
    etcd.sealift.ok(&check);
    let full = "/var/lib/sealift/full";
    etcd.hosts.run("h1", &format!("head -c 10G /dev/zero > {full} 2>/dev/null; truncate -s -20M {full}"));
    let refused = etcd.sealift.fails(3, &etcd.run_args());
    assert_says(&refused, &["DiskSpace", "MiB free below /var/lib/sealift", "--ignore DiskSpace"]);
    assert_says(&etcd.sealift.run(&check).expect_code(3).stdout, &["DiskSpace", "fail"]);
    // what a host has already needs no space again
    etcd.hosts.run("h1", &format!("rm {full}"));
    etcd.run();
    etcd.hosts.run("h1", &format!("head -c 10G /dev/zero > {full} 2>/dev/null; truncate -s -4M {full}"));
    assert_eq!(etcd.run(), 0);
}

#[test]
fn unreachable_hosts_do_not_keep_others_from_being_reset() {
    let etcd = Etcd::on(2);
    etcd.run();
    etcd.hosts.stop("h2");
    let output = etcd.known(&["reset", "--yes"]).expect_code(4);
    assert_says(&output.stderr, &[&etcd.hosts.addresses()[1].to_string()]);
    assert!(!etcd.hosts.succeeds("h1", "test -e /etc/systemd/system/etcd.service"));
    etcd.hosts.start("h2");
    etcd.known(&["reset", "--yes"]).expect_code(0);
    assert!(!etcd.hosts.succeeds("h2", "test -e /etc/systemd/system/etcd.service"));
}

#[test]
fn a_dry_run_prints_the_clusterfile_and_touches_no_host() {
    let sealift = common::sealift::Sealift::new();
    let text = sealift.ok(&["run", "shop:1", "-m", "10.0.0.2-10.0.0.4", "-n", "10.0.0.9", "-e", "A=b", "-p", "s3cret", "--dry-run"]);
    assert_says(&text, &["kind: Cluster", "shop:1", "10.0.0.3", "A=b"]);
    assert!(!text.contains("s3cret"), "{text}");
}
