//! Connections to hosts: every way to log in works, and every way to fail has its own error.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod common;

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::hosts::{Hosts, PASSWORD};
use sealift::cluster::LeaseGuard;
use sealift::error::{Kind, kind_of};
use sealift::events::{Context, Event, Events};
use sealift::host::facts::FactsRequest;
use sealift::host::{AgentBinaries, Exec, Host, HostKeyPolicy, HostKeys, Target};
use sealift::resource::{Resource, State, Sysctl};

/// The program that tests run as the agent.
fn agents() -> AgentBinaries {
    AgentBinaries::default().with(std::env::consts::ARCH, env!("CARGO_BIN_EXE_sealift"))
}

fn target(address: IpAddr, user: &str, dir: &Path) -> Target {
    Target::new(address, user, HostKeys { file: dir.join("known_hosts"), policy: HostKeyPolicy::AcceptNew })
}

async fn connect(target: &Target) -> anyhow::Result<Host> {
    Host::connect(target, &agents(), &Context::silent()).await
}

async fn connect_error(target: &Target) -> (Kind, String) {
    match connect(target).await {
        Ok(_) => panic!("{}@{} is let in", target.user, target.address),
        Err(error) => (kind_of(&error), format!("{error:#}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_logging_in_ends_as_root() {
    let hosts = Hosts::up(1);
    let dir = tempfile::tempdir().unwrap();
    let address = hosts.addresses()[0];
    for (user, by_key, password, sudo) in [
        ("root", true, None, None),
        ("root", false, Some(PASSWORD), None),
        ("deploy", true, None, None),
        ("deploy", false, Some(PASSWORD), None),
        ("ops", false, Some(PASSWORD), None),
        ("ops", true, None, Some(PASSWORD)),
    ] {
        let mut target = target(address, user, dir.path());
        if by_key {
            target.auth.keys = vec![dir.path().join("no-such-key"), hosts.key()];
        }
        target.auth.password = password.map(Into::into);
        target.sudo_password = sudo.map(Into::into);
        let host = connect(&target).await.unwrap_or_else(|error| panic!("{user} {by_key} {password:?} {sudo:?}: {error:#}"));
        let output = host.exec(&Exec::new(["id", "-u"]), &Context::silent()).await.unwrap();
        assert_eq!((output.text().as_str(), output.status), ("0\n", 0), "{user}");
        assert_eq!(host.name(), "h1");
        host.close().await;
    }
    // one key in the file, one agent on the host
    assert_eq!(std::fs::read_to_string(dir.path().join("known_hosts")).unwrap().lines().count(), 1);
    assert_eq!(hosts.run("h1", "ls /var/lib/sealift/bin | wc -l").trim(), "2");
    common::wait_until("all agents end", || !hosts.succeeds("h1", "pgrep -f '[s]ealift-'"));

    let mut target = target(address, "ops", dir.path());
    target.auth.keys = vec![hosts.key()];
    let (kind, error) = connect_error(&target).await;
    assert!(kind == Kind::Failed && error.contains("sudo: a password is required"), "{error}");
    target.sudo_password = Some("wrong".into());
    let (_, error) = connect_error(&target).await;
    assert!(error.contains("sudo: wrong password"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failure_to_connect_has_its_own_error() {
    let hosts = Hosts::up(1);
    let dir = tempfile::tempdir().unwrap();
    let address = hosts.addresses()[0];

    let mut closed = target(address, "root", dir.path());
    closed.port = 2;
    let (kind, error) = connect_error(&closed).await;
    assert!(kind == Kind::Network && error.contains("connection refused"), "{error}");

    let mut nobody = target(address, "root", dir.path());
    nobody.address = hosts.addresses()[0].to_string().replace(".11", ".99").parse().unwrap();
    let (kind, error) = connect_error(&nobody).await;
    assert!(kind == Kind::Network && error.contains("unreachable"), "{error}");

    let mut wrong = target(address, "root", dir.path());
    wrong.auth.password = Some("wrong".into());
    let (kind, error) = connect_error(&wrong).await;
    assert!(
        kind == Kind::Failed && error.contains("permission denied (") && error.contains("publickey") && error.contains("tried password"),
        "{error}"
    );

    let known = dir.path().join("known_hosts");
    let other = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    std::fs::write(&known, format!("# old\n{address} ssh-ed25519 {other}\n")).unwrap();
    let mut changed = target(address, "root", dir.path());
    changed.auth.keys = vec![hosts.key()];
    let (kind, error) = connect_error(&changed).await;
    assert!(kind == Kind::Verification && error.contains("host key changed") && error.contains("known_hosts line 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_space_for_the_agent_is_reported() {
    let hosts = Hosts::up(1);
    let dir = tempfile::tempdir().unwrap();
    hosts.run("h1", "mkdir -p /var/lib/sealift && mount -t tmpfs -o size=1m tmpfs /var/lib/sealift");
    let mut target = target(hosts.addresses()[0], "deploy", dir.path());
    target.auth.keys = vec![hosts.key()];
    let (_, error) = connect_error(&target).await;
    assert!(error.contains("No space left on device"), "{error}");
    assert_eq!(hosts.run("h1", "ls /var/lib/sealift/bin"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_checked_applied_and_undone_on_a_host() {
    let hosts = Hosts::up(1);
    let dir = tempfile::tempdir().unwrap();
    let mut target = target(hosts.addresses()[0], "root", dir.path());
    target.auth.keys = vec![hosts.key()];
    let (host, ctx) = (connect(&target).await.unwrap(), Context::silent());
    let facts = host.facts(&FactsRequest::default()).await.unwrap();
    assert_eq!(facts.hostname, "h1");

    let before = hosts.run("h1", "cat /proc/sys/net/ipv4/ip_forward");
    hosts.run("h1", "echo 0 > /proc/sys/net/ipv4/ip_forward");
    let forward = Resource::Sysctl(Sysctl::exactly("net.ipv4.ip_forward", 1));
    assert!(matches!(host.check(std::slice::from_ref(&forward)).await.unwrap()[0], Ok(State::Differs { .. })), "{before}");
    host.apply(&forward, &ctx).await.unwrap();
    assert_eq!(host.check(std::slice::from_ref(&forward)).await.unwrap(), [Ok(State::Present)]);
    assert_eq!(hosts.run("h1", "cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    assert_eq!(host.undo(&ctx).await.unwrap(), 1);
    assert_eq!(hosts.run("h1", "cat /proc/sys/net/ipv4/ip_forward"), "0\n");

    assert_eq!(host.read_file("/etc/hostname").await.unwrap().unwrap(), b"h1\n");
    assert_eq!(host.read_file("/no/such").await.unwrap(), None);
    host.purge(false).await.unwrap();
    assert!(!hosts.succeeds("h1", "test -e /var/lib/sealift"));

    let started = std::time::Instant::now();
    let sleep = Exec::new(["sleep", "1000"]);
    let sleeping = host.exec(&sleep, &ctx);
    let killed = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        hosts.run("h1", "pkill -KILL -f 'sealift-[0-9a-f]* agent'");
    };
    let (result, ()) = tokio::join!(sleeping, killed);
    let error = result.unwrap_err();
    assert!(kind_of(&error) == Kind::Network && error.to_string().contains("connection lost"), "{error:#}");
    assert!(started.elapsed().as_secs() < 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_agent_end_with_the_connection() {
    let hosts = Hosts::up(1);
    let dir = tempfile::tempdir().unwrap();
    let mut target = target(hosts.addresses()[0], "deploy", dir.path());
    target.auth.keys = vec![hosts.key()];
    let host = connect(&target).await.unwrap();
    let ctx = Context::silent();
    let sleep = Exec::shell("sleep 12345; true");
    tokio::select! {
        _ = host.exec(&sleep, &ctx) => panic!("it ended"),
        () = tokio::time::sleep(std::time::Duration::from_millis(300)) => {}
    }
    assert!(hosts.succeeds("h1", "pgrep -f 'sleep 12345'"));
    host.close().await;
    common::wait_until("the command ends", || !hosts.succeeds("h1", "pgrep -f '[s]leep 12345'"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_run_is_refused_once_another_has_taken_over() {
    let hosts = Hosts::up(2);
    let dir = tempfile::tempdir().unwrap();
    let ctx = Context::silent();
    let mut targets: Vec<Target> = hosts.addresses().iter().map(|address| target(*address, "root", dir.path())).collect();
    targets.iter_mut().for_each(|target| target.auth.keys = vec![hosts.key()]);
    let connect_both = async || [connect(&targets[0]).await.unwrap(), connect(&targets[1]).await.unwrap()];
    let forward = |value| Resource::Sysctl(Sysctl::exactly("net.ipv4.ip_forward", value));
    let older = connect_both().await;
    let lease = LeaseGuard::acquire(&older[0], "ann@desk", false, &ctx).await.unwrap();
    lease.fence(&older[0], "a", &older).await.unwrap();
    for host in &older {
        host.apply(&forward(0), &ctx).await.unwrap();
    }
    // the newer run keeps its lease on the other host, whose clock is behind
    let newer = connect_both().await;
    let other_lease = LeaseGuard::acquire(&newer[1], "bob@desk", true, &ctx).await.unwrap();
    other_lease.fence(&newer[1], "a", &newer).await.unwrap();
    assert!(other_lease.number() > lease.number());
    newer[0].apply(&forward(1), &ctx).await.unwrap();
    let error = older[0].apply(&forward(0), &ctx).await.unwrap_err();
    assert!(error.to_string().contains("another run has taken over the cluster a"), "{error:#}");
    assert!(older[0].exec(&Exec::new(["true"]), &ctx).await.is_err(), "commands of that run are refused, too");
    assert_eq!(hosts.run("h1", "cat /proc/sys/net/ipv4/ip_forward"), "1\n");
    // what the newer one has not touched yet is still the older one's
    older[1].apply(&forward(0), &ctx).await.unwrap();
    let third = LeaseGuard::acquire(&older[0], "ann@desk", true, &ctx).await.unwrap();
    let error = third.verify_unchanged("a", &older).await.unwrap_err();
    assert!(error.to_string().contains("another run has changed this host since it was looked at"), "{error:#}");
    assert_eq!(kind_of(&third.verify_unchanged("b", &older).await.unwrap_err()), Kind::Preflight);
    third.verify_unchanged("a", &connect_both().await).await.unwrap();
    let held = third.hold_during(&older[0], &ctx, async {
        tokio::time::sleep(Duration::from_secs(40)).await;
        Ok(())
    });
    let stolen = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        LeaseGuard::acquire(&newer[0], "bob@desk", true, &ctx).await.unwrap()
    };
    let began = Instant::now();
    let (result, _) = tokio::join!(held, stolen);
    assert!(result.unwrap_err().to_string().contains("taken by bob@desk") && began.elapsed().as_secs() < 25);
}

/// Keeps the notes and warnings.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Events for Notes {
    fn emit(&self, event: Event) {
        if let Event::Note { text, .. } = event {
            self.0.lock().unwrap().push(text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_is_named_after_10_seconds_and_goes_on_when_it_answers() {
    let hosts = Hosts::up(1);
    let dir = tempfile::tempdir().unwrap();
    let address = hosts.addresses()[0];
    let mut target = target(address, "root", dir.path());
    target.auth.keys = vec![hosts.key()];
    let notes = Arc::new(Notes::default());
    let ctx = Context::new(notes.clone(), Default::default(), NonZeroUsize::MIN);
    let host = Host::connect(&target, &agents(), &ctx).await.unwrap();
    hosts.run("h1", "pkill -STOP -f 'sealift-[0-9a-f]* agent'");
    let began = Instant::now();
    let has = |part: &str| notes.0.lock().unwrap().iter().any(|note| note.contains(part));
    let silent = format!("no answer from {address} for 10 s");
    while !has(&silent) {
        assert!(began.elapsed() < Duration::from_secs(20), "nothing was said");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(6), "too early: {:?}", began.elapsed());
    hosts.run("h1", "pkill -CONT -f 'sealift-[0-9a-f]* agent'");
    assert_eq!(host.exec(&Exec::new(["echo", "here"]), &ctx).await.unwrap().text(), "here\n");
    assert!(has("answers again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_sealift_cannot_answer_is_shown() {
    let hosts = Hosts::up(1);
    let dir = tempfile::tempdir().unwrap();
    let sudo =
        "printf '#!/bin/sh\\nprintf \"Verification code: \" >&2; exec sleep 1000\\n' > /usr/local/bin/sudo; chmod 755 /usr/local/bin/sudo";
    hosts.run("h1", sudo);
    let mut target = target(hosts.addresses()[0], "ops", dir.path());
    target.auth.keys = vec![hosts.key()];
    target.sudo_password = Some(PASSWORD.into());
    let began = Instant::now();
    let (_, error) = connect_error(&target).await;
    assert!(error.contains("sudo asks `Verification code:`"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_removed_while_it_starts_or_runs_is_installed_again() {
    let hosts = Hosts::up(1);
    let dir = tempfile::tempdir().unwrap();
    let mut target = target(hosts.addresses()[0], "root", dir.path());
    target.auth.keys = vec![hosts.key()];
    let remove = "while ! ls /var/lib/sealift/bin/.new-* > /dev/null 2>&1; do :; done; rm -rf /var/lib/sealift";
    hosts.run("h1", &format!("systemd-run --quiet --unit remover /bin/sh -c '{remove}'"));
    let host = connect(&target).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(!hosts.succeeds("h1", "systemctl is-active --quiet remover"), "the upload was removed once");
    hosts.run("h1", "rm -rf /var/lib/sealift");
    host.apply(&Resource::Sysctl(Sysctl::exactly("net.ipv4.ip_forward", 1)), &Context::silent()).await.unwrap();
    assert!(hosts.run("h1", "/var/lib/sealift/bin/sealift version").contains("sealift"));
}
