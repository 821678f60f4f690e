//! Runs that end early or meet another one: interrupted by Ctrl-C, two clusters on one host, a run beside a reset.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Child;
use std::time::{Duration, Instant};

use common::hosts::Hosts;
use common::sealift::{Ended, Sealift, assert_says};
use rustix::process::{Pid, Signal, kill_process};

/// A script that works for a minute, and cleans up when it is stopped.
const CLEANS_UP: &str = "trap 'touch /etc/cleaned; exit 1' TERM; touch /run/installing; sleep 60 & wait; touch /etc/installed";
/// A script that works for some seconds, and is not to be stopped.
const FINISHES: &str = "trap '' TERM; touch /run/installing; sleep 4; touch /etc/installed";

/// An operator's machine with a small image, `small:test`: a file and an install script.
fn operator(install: &str) -> Sealift {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    let files = [
        ("Kubefile", "FROM scratch\nLABEL cluster.alpha.sealer.io/cluster-runtime-type=none\nCOPY host host\nCOPY scripts scripts\n"),
        ("host/etc/small.conf", "small\n"),
        ("scripts/install.sh", install),
        ("scripts/check.sh", "test -e /etc/installed"),
        ("scripts/uninstall.sh", "rm -f /etc/installed /etc/cleaned"),
    ];
    for (path, text) in files {
        let path = context.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let context = context.display().to_string();
    sealift.ok(&["build", "-t", "small:test", "-f", &format!("{context}/Kubefile"), &context]);
    sealift
}

fn args(hosts: &Hosts, command: &[&str], cluster: &str) -> Vec<String> {
    let key = hosts.key().display().to_string();
    let masters = hosts.addresses()[0].to_string();
    let words = match command {
        ["run", ..] => [command, &["small:test", "--name", cluster, "--masters", &masters, "--pk", &key]].concat(),
        _ => [command, &[cluster, "--pk", &key]].concat(),
    };
    words.into_iter().map(str::to_owned).collect()
}

fn spawn(sealift: &Sealift, args: &[String]) -> Child {
    sealift.command(&args.iter().map(String::as_str).collect::<Vec<_>>()).spawn().unwrap()
}

fn end(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

fn run(sealift: &Sealift, args: &[String]) -> Ended {
    end(spawn(sealift, args))
}

fn interrupt(child: &Child) {
    kill_process(Pid::from_child(child), Signal::INT).unwrap();
}

/// Starts a run, and interrupts it in its install script.
fn interrupted_in_script(sealift: &Sealift, hosts: &Hosts) -> Child {
    hosts.run("h1", "rm -f /run/installing");
    let child = spawn(sealift, &args(hosts, &["run"], "small"));
    common::wait_until("the script runs", || hosts.succeeds("h1", "test -e /run/installing"));
    interrupt(&child);
    child
}

#[test]
fn an_interrupted_run_leaves_its_script_or_finishes_it_and_says_so() {
    let hosts = Hosts::up(1);
    let sealift = operator(CLEANS_UP);
    let began = Instant::now();
    let left = end(interrupted_in_script(&sealift, &hosts)).expect_code(130);
    assert_says(
        &left.stderr,
        &["finishing script", "on h1; press Ctrl-C again", "stopped by SIGTERM", "run the same command again to resume"],
    );
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert!(hosts.succeeds("h1", "test -e /etc/cleaned -a ! -e /etc/installed"), "the script had time to clean up");
    assert_says(&hosts.run("h1", "cat /var/lib/sealift/lease.json"), &["\"until\":0"]);

    hosts.run("h1", "rm /etc/cleaned");
    let child = interrupted_in_script(&sealift, &hosts);
    std::thread::sleep(Duration::from_millis(500));
    let began = Instant::now();
    interrupt(&child);
    end(child);
    assert!(began.elapsed() < Duration::from_secs(5), "the second Ctrl-C ends at once: {:?}", began.elapsed());
    common::wait_until("the script cleans up", || hosts.succeeds("h1", "test -e /etc/cleaned"));

    let sealift = operator(FINISHES);
    let finished = end(interrupted_in_script(&sealift, &hosts)).expect_code(130);
    assert_says(&finished.stderr, &["finishing script", "h1: finished script"]);
    assert!(hosts.succeeds("h1", "test -e /etc/installed"), "the script was finished");
    run(&sealift, &args(&hosts, &["run"], "small")).expect_code(0);
}

#[test]
fn an_agent_that_loses_its_connection_leaves_its_script_and_the_next_run_waits_for_it() {
    let hosts = Hosts::up(1);
    let sealift = operator(FINISHES);
    let mut child = spawn(&sealift, &args(&hosts, &["run"], "small"));
    common::wait_until("the script runs", || hosts.succeeds("h1", "test -e /run/installing"));
    child.kill().unwrap();
    child.wait().unwrap();
    let again = run(&sealift, &args(&hosts, &["run"], "small")).expect_code(0);
    assert!(hosts.succeeds("h1", "test -e /etc/installed"), "{}", again.stderr);
    common::wait_until("all agents end", || !hosts.succeeds("h1", "pgrep -f '[s]ealift-.* agent'"));
}

#[test]
fn two_clusters_that_take_a_host_at_once_do_not_both_get_it() {
    let hosts = Hosts::up(1);
    let operators = [("a", operator("touch /etc/installed")), ("b", operator("touch /etc/installed"))];
    for round in 0..4 {
        let runs: Vec<Child> = operators.iter().map(|(name, sealift)| spawn(sealift, &args(&hosts, &["run"], name))).collect();
        let ended: Vec<Ended> = runs.into_iter().map(end).collect();
        let winner =
            ended.iter().position(|ended| ended.code == 0).unwrap_or_else(|| panic!("{round}: {}\n{}", ended[0].stderr, ended[1].stderr));
        let ((name, sealift), (other, loser)) = (&operators[winner], &operators[1 - winner]);
        let refused = &ended[1 - winner];
        assert_eq!(refused.code, 3, "{round}: {}", refused.stderr);
        assert_says(&refused.stderr, &[&format!("belongs to the cluster {name}"), &format!("sealift reset {name}")]);
        assert_eq!(hosts.run("h1", "ls /var/lib/sealift/clusters").trim(), *name, "{round}");
        let reset = run(loser, &args(&hosts, &["reset", "--yes"], other));
        assert!(reset.code == 0 || reset.stderr.contains("no such cluster"), "{}", reset.stderr);
        assert!(hosts.succeeds("h1", "test -e /etc/small.conf"), "a reset of another cluster changes nothing");
        assert_eq!(run(sealift, &args(&hosts, &["run"], name)).expect_code(0).stdout.matches(" 0 changes").count(), 1);
        run(sealift, &args(&hosts, &["reset", "--yes"], name)).expect_code(0);
        assert!(!hosts.succeeds("h1", "test -e /var/lib/sealift -o -e /etc/small.conf"), "{round}");
    }
}

#[test]
fn a_run_beside_another_operators_reset_ends_well() {
    let hosts = Hosts::up(1);
    let (first, second) = (operator("touch /etc/installed"), operator("touch /etc/installed"));
    let (up, down) = (args(&hosts, &["run"], "small"), args(&hosts, &["reset", "--yes"], "small"));
    run(&first, &up).expect_code(0);
    let began = Instant::now();
    run(&first, &down).expect_code(0);
    let whole = began.elapsed();
    for moment in 0..8 {
        run(&first, &up).expect_code(0);
        let reset = spawn(&first, &down);
        std::thread::sleep(whole * moment / 8);
        let beside = run(&second, &up);
        let reset = end(reset);
        for (what, ended) in [("run", &beside), ("reset", &reset)] {
            let text = &ended.stderr;
            assert!(!text.contains(".new-") && !text.contains("exited before"), "{moment}: {what}: {text}");
            assert!(
                ended.code == 0 || text.contains("locked by") || text.contains("since it was looked at"),
                "{moment}: {what} {}: {text}",
                ended.code
            );
        }
        run(&second, &up).expect_code(0);
        assert!(hosts.succeeds("h1", "test -e /etc/small.conf -a -e /etc/installed && /var/lib/sealift/bin/sealift version"), "{moment}");
    }
}
