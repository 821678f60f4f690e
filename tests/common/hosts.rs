//! Test hosts: systemd and sshd in namespaces of their own, by `scripts/testhost.sh`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Hosts `h1`, `h2`, …, of an instance of their own; gone when dropped. A crashed test's hosts go with the next `up`.
pub struct Hosts {
    id: String,
    addresses: Vec<IpAddr>,
}

/// The password of root, ops and deploy on every host; ops needs it for sudo too, deploy does not.
pub const PASSWORD: &str = "testhost";

impl Hosts {
    /// Starts `count` hosts and waits until they answer ssh. Needs root.
    pub fn up(count: usize) -> Self {
        let hosts = Hosts::claimed(count);
        hosts.script(&["up", &count.to_string()]);
        hosts
    }

    /// An instance whose `count` hosts somebody else starts, who is told its number.
    pub fn claimed(count: usize) -> Self {
        let id = script("0", &["claim", &std::process::id().to_string()]).trim().to_owned();
        let mut hosts = Hosts { id, addresses: Vec::new() };
        hosts.addresses = (1..=count).map(|number| hosts.numbered(number)).collect();
        hosts
    }

    /// The number of the instance: its `TESTHOST_ID`.
    pub fn id(&self) -> &str {
        &self.id
    }

    fn numbered(&self, number: usize) -> IpAddr {
        format!("10.213.{}.{}", self.id, 10 + number).parse().expect("an address")
    }

    /// Their addresses; the first is of `h1`.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The address of this machine as they see it.
    pub fn gateway(&self) -> IpAddr {
        format!("10.213.{}.1", self.id).parse().expect("an address")
    }

    /// The private key that root, ops and deploy accept on all of them.
    pub fn key(&self) -> PathBuf {
        Path::new("/var/tmp/sealift-testhosts").join(&self.id).join("id_ed25519")
    }

    /// Runs a shell line on a host as root, not over ssh; it must succeed. What it printed.
    pub fn run(&self, host: &str, line: &str) -> String {
        self.script(&["exec", host, "sh", "-c", line])
    }

    /// What a reset must leave as it was: files, units, names, parameters, mounts, links, routes and packet filters of a host.
    pub fn snapshot(&self, host: &str) -> String {
        let line = "find /etc /usr/local /opt /root /var/lib -xdev -path /var/lib/systemd -prune -o -path /var/lib/private -prune -o \
                -type f -printf '%p %m %s\\n' -o -printf '%p %m %l\\n' | sort
            ls /usr/bin /usr/sbin; cat /etc/hosts /etc/fstab 2>/dev/null; systemctl list-unit-files --no-legend
            sysctl -a 2>/dev/null | grep -E '^(net.ipv[46].(ip_|conf.all|conf.default)|vm.(over|panic|max)|kernel.panic|fs.inotify)'
            cut -d' ' -f2 /proc/mounts; ip -br link | cut -d' ' -f1 | cut -d@ -f1; ip route; ip -6 route | grep -v fe80
            for rules in iptables-save ip6tables-save; do $rules 2>/dev/null | sed -e '/^#/d' -e 's/\\[[0-9:]*\\]//'; done
            nft list tables 2>/dev/null; ipvsadm -S -n 2>/dev/null; ipset list -n 2>/dev/null; true";
        self.run(host, line)
    }

    /// Whether a shell line on a host succeeds.
    pub fn succeeds(&self, host: &str, line: &str) -> bool {
        output(&self.id, &["exec", host, "sh", "-c", line]).status.success()
    }

    /// Power loss.
    pub fn stop(&self, host: &str) {
        self.script(&["stop", host]);
    }

    /// Power on.
    pub fn start(&self, host: &str) {
        self.script(&["start", host]);
    }

    /// Installs a host anew: empty disk, same address.
    pub fn reinstall(&self, host: &str) {
        let number: usize = host.trim_start_matches('h').parse().expect("a host's number");
        self.script(&["destroy", host]);
        self.script(&["create", host, &self.addresses[number - 1].to_string()]);
        self.script(&["up", &self.addresses.len().to_string()]);
    }

    /// Limits a host's network both ways, in tc's spelling: `100mbit`, or `none`.
    pub fn rate(&self, host: &str, rate: &str) {
        self.script(&["rate", host, rate]);
    }

    /// Gives a host one more disk; its device's path there.
    pub fn disk(&self, host: &str, size: &str) -> String {
        self.script(&["disk", host, size]).trim().to_owned()
    }

    fn script(&self, args: &[&str]) -> String {
        script(&self.id, args)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let down = output(&self.id, &["down"]);
        if !down.status.success() && !std::thread::panicking() {
            panic!("testhost.sh down: {}", String::from_utf8_lossy(&down.stderr));
        }
    }
}

fn script(id: &str, args: &[&str]) -> String {
    let output = output(id, args);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "testhost.sh {args:?}: {}\n{stdout}{stderr}", output.status);
    stdout.into_owned()
}

fn output(id: &str, args: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/testhost.sh");
    Command::new(&script).args(args).env("TESTHOST_ID", id).output().unwrap_or_else(|error| panic!("{}: {error}", script.display()))
}

/// Panics with the lines that differ unless a host is as its earlier snapshot says.
pub fn assert_same_snapshot(before: &str, after: &str, host: &str) {
    let gone = before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect::<Vec<_>>();
    let new = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect::<Vec<_>>();
    assert!(gone.is_empty() && new.is_empty(), "{host} after the reset:\n- {}\n+ {}", gone.join("\n- "), new.join("\n+ "));
}
