//! SSH logins as OpenSSH's users have them: kinds of keys, ssh-agent, prompts, jump hosts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::hosts::{Hosts, PASSWORD};
use common::run;
use sealift::error::{Kind, kind_of};
use sealift::events::Context;
use sealift::host::{AgentBinaries, Exec, Host, HostKeyPolicy, HostKeys, Target};

struct Lab {
    hosts: Hosts,
    dir: tempfile::TempDir,
}

impl Lab {
    fn new(count: usize) -> Self {
        Lab { hosts: Hosts::up(count), dir: tempfile::tempdir().unwrap() }
    }

    fn target(&self, number: usize) -> Target {
        let keys = HostKeys { file: self.dir.path().join("known_hosts"), policy: HostKeyPolicy::AcceptNew };
        Target::new(self.hosts.addresses()[number], "root", keys)
    }

    /// A new key that h1 accepts.
    fn key(&self, kind: &str, passphrase: &str) -> PathBuf {
        let path = self.dir.path().join(kind.replace(' ', ""));
        let place = path.display().to_string();
        let arguments: Vec<&str> = ["-q", "-t"].into_iter().chain(kind.split(' ')).chain(["-N", passphrase, "-f", &place]).collect();
        run("ssh-keygen", &arguments);
        let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        self.hosts.run("h1", &format!("echo '{}' >> /root/.ssh/authorized_keys", public.trim()));
        path
    }
}

async fn connect(target: &Target) -> anyhow::Result<Host> {
    let agents = AgentBinaries::default().with(std::env::consts::ARCH, env!("CARGO_BIN_EXE_sealift"));
    Host::connect(target, &agents, &Context::silent()).await
}

async fn assert_connects(target: &Target, how: &str) {
    let host = connect(target).await.unwrap_or_else(|error| panic!("{how}: {error:#}"));
    assert_eq!(host.exec(&Exec::new(["id", "-un"]), &Context::silent()).await.unwrap().text(), "root\n", "{how}");
    host.close().await;
}

async fn login_error(target: &Target) -> String {
    match connect(target).await {
        Ok(_) => panic!("let in"),
        Err(error) => format!("{error:#}"),
    }
}

/// An ssh-agent that ends with the test.
struct Agent {
    process: Child,
    socket: PathBuf,
}

impl Agent {
    fn start(dir: &Path) -> Self {
        let socket = dir.join("agent.sock");
        let process = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
        common::wait_until("the ssh-agent listens", || socket.exists());
        Agent { process, socket }
    }

    fn add(&self, key: &Path) {
        let added = Command::new("ssh-add").arg("-q").arg(key).env("SSH_AUTH_SOCK", &self.socket).output().unwrap();
        assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_kinds_of_keys_and_an_agent_log_in() {
    let lab = Lab::new(1);
    for kind in ["ed25519", "ecdsa -b 256", "ecdsa -b 521", "rsa -b 2048", "rsa -b 2048 -m PEM"] {
        let mut target = lab.target(0);
        target.auth.keys = vec![lab.key(kind, "")];
        assert_connects(&target, kind).await;
    }
    let locked = lab.key("ed25519 -a 4", "open sesame");
    let mut target = lab.target(0);
    target.auth.keys = vec![locked];
    let error = login_error(&target).await;
    assert!(error.contains("encrypted, no passphrase set"), "{error}");
    target.auth.key_passphrase = Some("wrong".into());
    let error = login_error(&target).await;
    assert!(error.contains("encrypted, wrong passphrase"), "{error}");
    target.auth.key_passphrase = Some("open sesame".into());
    assert_connects(&target, "a key with a passphrase").await;

    let mut target = lab.target(0);
    target.auth.agent = Some(lab.dir.path().join("no-such-socket"));
    assert!(login_error(&target).await.contains("no-such-socket"));
    let agent = Agent::start(lab.dir.path());
    agent.add(&lab.key("rsa -b 3072", ""));
    target.auth.agent = Some(agent.socket.clone());
    assert_connects(&target, "ssh-agent with an RSA key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_answered_with_the_password() {
    let lab = Lab::new(1);
    let config = "PasswordAuthentication no\\nKbdInteractiveAuthentication yes\\nChallengeResponseAuthentication yes\\nUsePAM yes\\n";
    lab.hosts.run("h1", &format!("printf '{config}' | cat - /etc/ssh/sshd_config > /tmp/c && mv /tmp/c /etc/ssh/sshd_config"));
    lab.hosts.run("h1", "systemctl restart ssh");
    let mut target = lab.target(0);
    target.auth.password = Some(PASSWORD.into());
    assert_connects(&target, "keyboard-interactive").await;
    target.auth.password = Some("wrong".into());
    let error = login_error(&target).await;
    assert!(error.contains("tried keyboard-interactive") && !error.contains("tried password"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_reached_through_a_jump_host() {
    let lab = Lab::new(2);
    // only h1 gets through to h2
    let first = lab.hosts.addresses()[0];
    lab.hosts.run("h2", &format!("nft add table t; nft add chain t c '{{ type filter hook input priority 0; }}'; nft add rule t c ip saddr != {first} tcp dport 22 reject"));
    let mut direct = lab.target(1);
    direct.auth.keys = vec![lab.hosts.key()];
    assert!(connect(&direct).await.is_err());
    let mut jump = lab.target(0);
    jump.auth.keys = vec![lab.hosts.key()];
    let mut target = direct.clone();
    target.jump = Some(Box::new(jump.clone()));
    let host = connect(&target).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert_eq!(host.name(), "h2");
    host.close().await;
    // both keys are recorded, each under its own address
    assert_eq!(std::fs::read_to_string(lab.dir.path().join("known_hosts")).unwrap().lines().count(), 2);

    jump.auth.keys.clear();
    target.jump = Some(Box::new(jump));
    let error = login_error(&target).await;
    assert!(error.contains(&format!("jump host {first}")) && error.contains("permission denied"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_accepts_only_known_keys() {
    let lab = Lab::new(1);
    let mut target = lab.target(0);
    target.auth.keys = vec![lab.hosts.key()];
    target.known_hosts.policy = HostKeyPolicy::Strict;
    let error = connect(&target).await.err().expect("refused");
    assert_eq!(kind_of(&error), Kind::Verification);
    let public = lab.hosts.run("h1", "cat /etc/ssh/ssh_host_ed25519_key.pub");
    std::fs::write(&target.known_hosts.file, format!("{} {public}", target.address)).unwrap();
    assert_connects(&target, "recorded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noisy_shells_and_other_shells_do_not_matter() {
    let lab = Lab::new(1);
    lab.hosts.run("h1", "sed -i '1i echo Welcome to this host' /root/.bashrc; echo 'echo hello >&2' >> /etc/bash.bashrc");
    let mut target = lab.target(0);
    target.auth.keys = vec![lab.hosts.key()];
    assert_connects(&target, "a shell that greets").await;
    lab.hosts.run("h1", "usermod -s /bin/sh root");
    assert_connects(&target, "sh").await;
}
