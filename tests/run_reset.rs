//! A reset that is killed, interrupted, or stopped by an uninstall script is finished by the same command, and never reports success
//! before the hosts are as they were.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Stdio;
use std::time::Instant;

use common::clusters::Etcd;
use common::sealift::assert_says;
use rustix::process::{Pid, Signal, kill_process};

const HOSTS: [&str; 2] = ["h1", "h2"];
const ETCDCTL: &str = "etcdctl --endpoints http://127.0.0.1:2379";
const SCRIPTS: &str = "/var/lib/sealift/rootfs/current/scripts";

/// How often a reset is killed; more with `SEALIFT_KILLED_RESETS`.
fn rounds() -> u32 {
    std::env::var("SEALIFT_KILLED_RESETS").map_or(8, |text| text.parse().expect("a number"))
}

/// A fraction of 1, another for every round of every process.
fn random_fraction(round: u32) -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    f64::from((now / 7).wrapping_mul(2_654_435_761).wrapping_add(round.wrapping_mul(40_503)) % 1000) / 1000.0
}

fn snapshots(etcd: &Etcd) -> Vec<String> {
    HOSTS.iter().map(|host| etcd.snapshot(host)).collect()
}

/// Panics with the lines that differ from the snapshots of before.
fn assert_as_before(before: &[String], etcd: &Etcd, when: &str) {
    for ((host, before), after) in HOSTS.iter().zip(before).zip(snapshots(etcd)) {
        let missing =
            |from: &str, of: &str| from.lines().filter(|line| !of.lines().any(|other| other == *line)).collect::<Vec<_>>().join("\n  ");
        let (gone, new) = (missing(before, &after), missing(&after, before));
        assert!(gone.is_empty() && new.is_empty(), "{host} is not as before, {when}:\n- {gone}\n+ {new}");
    }
}

#[test]
fn a_reset_killed_at_any_moment_is_finished_by_the_same_command_and_leaves_no_data() {
    let etcd = Etcd::on(HOSTS.len());
    let clusterfile = etcd.sealift.home().join("Clusterfile").display().to_string();
    std::fs::write(&clusterfile, etcd.sealift.ok(&[&etcd.run_args()[..], &["--dry-run"]].concat())).unwrap();
    let key = etcd.hosts.key().display().to_string();
    let reset = ["reset", "-f", &clusterfile, "--pk", &key, "--yes"];
    let before = snapshots(&etcd);
    etcd.run();
    let began = Instant::now();
    etcd.sealift.ok(&reset);
    let whole = began.elapsed();
    etcd.run();
    let mut unfinished = 0;
    for round in 0..rounds() {
        etcd.hosts.run("h1", &format!("{ETCDCTL} put old {round}"));
        let wait = whole.mul_f64(random_fraction(round));
        let signal = if round % 2 == 0 { Signal::KILL } else { Signal::INT };
        let when = format!("round {round}, {signal:?} after {wait:?} of {whole:?}");
        let mut killed = etcd.sealift.command(&reset).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        kill_process(Pid::from_child(&killed), signal).ok();
        if killed.wait().unwrap().success() {
            assert_as_before(&before, &etcd, &when);
        } else {
            unfinished += 1;
        }
        etcd.sealift.ok(&reset);
        assert_as_before(&before, &etcd, &when);
        etcd.run();
        etcd.assert_healthy();
        assert_eq!(etcd.hosts.run("h1", &format!("{ETCDCTL} get old")), "", "old data, {when}");
    }
    assert!(unfinished > 0, "every reset had ended before it was killed");
}

#[test]
fn a_reset_whose_agent_is_killed_in_the_uninstall_script_runs_it_again() {
    let etcd = Etcd::on(HOSTS.len());
    let before = snapshots(&etcd);
    etcd.run();
    let slow = format!("cd {SCRIPTS} && {{ echo 'touch /run/uninstalling; sleep 3'; cat uninstall.sh; }} >new && mv new uninstall.sh");
    etcd.hosts.run("h1", &slow);
    let mut killed = etcd.sealift.command(&["reset", "--pk", &etcd.hosts.key().display().to_string(), "--yes"]).spawn().unwrap();
    common::wait_until("the script runs", || etcd.hosts.succeeds("h1", "test -e /run/uninstalling"));
    etcd.hosts.run("h1", "pkill -KILL -f '[s]ealift.* agent'; pkill -KILL -f '[u]ninstall.sh'; rm /run/uninstalling");
    assert!(!killed.wait().unwrap().success(), "the script did not end");
    assert!(etcd.hosts.succeeds("h1", "test -e /var/lib/etcd/db && test -e /var/lib/sealift/undo/ledger.jsonl"));
    etcd.known(&["reset", "--yes"]).expect_code(0);
    etcd.hosts.run("h1", "rm /run/uninstalling");
    assert_as_before(&before, &etcd, "after the second reset");
}

#[test]
fn an_uninstall_script_that_fails_or_is_missing_keeps_what_it_needs_and_runs_again() {
    let etcd = Etcd::on(HOSTS.len());
    let before = snapshots(&etcd);
    etcd.run();
    let fails_once = "[ -e /run/failed ] || { touch /run/failed; echo the data is busy; exit 1; }; . \"$(dirname \"$0\")/real.sh\"";
    etcd.hosts.run("h1", &format!("cd {SCRIPTS} && mv uninstall.sh real.sh && echo '{fails_once}' >uninstall.sh"));
    etcd.hosts.run("h2", &format!("cd {SCRIPTS} && mv uninstall.sh real.sh"));
    let failed = etcd.known(&["reset", "--yes"]);
    assert!([1, 4].contains(&failed.code), "{}: {}", failed.code, failed.stderr);
    assert_says(&failed.stderr, &["not undone: script", "the data is busy", "uninstall.sh: not on the host"]);
    for host in HOSTS {
        assert!(etcd.hosts.succeeds(host, &format!("test -e /var/lib/etcd/db && test -e {SCRIPTS}/real.sh")), "{host}");
    }
    etcd.hosts.run("h2", &format!("cd {SCRIPTS} && mv real.sh uninstall.sh"));
    etcd.known(&["reset", "--yes"]).expect_code(0);
    etcd.hosts.run("h1", "rm /run/failed");
    assert_as_before(&before, &etcd, "after the second reset");
    assert!(etcd.run() > 0);
    etcd.assert_healthy();
}
