//! A name in `/etc/hosts`: `hosts(5)`.

use std::net::IpAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::text_lines::{self, Position};
use super::{Reconcile, Snapshot, State, System};

const FILE: &str = "/etc/hosts";
const MARKER: &str = "# sealift";

/// A name in `/etc/hosts`, on marked lines before all others, because the first match wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsEntry {
    /// The host name: `apiserver.cluster.local`.
    pub name: String,
    /// The address that it resolves to.
    pub address: IpAddr,
    /// Further addresses of the name, on lines of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more: Vec<IpAddr>,
}

impl HostsEntry {
    /// A name with one address.
    pub fn new(name: impl Into<String>, address: impl Into<IpAddr>) -> Self {
        HostsEntry { name: name.into(), address: address.into(), more: Vec::new() }
    }

    fn lines(&self) -> Vec<String> {
        std::iter::once(&self.address).chain(&self.more).map(|address| format!("{address} {} {MARKER}", self.name)).collect()
    }

    fn is_entry(&self, line: &str) -> bool {
        line.ends_with(MARKER) && line.split_whitespace().nth(1) == Some(&self.name)
    }

    /// The marked lines of the name that are in the file.
    fn present(&self, system: &System) -> Result<Vec<String>> {
        Ok(system.read_text(FILE)?.lines().filter(|line| self.is_entry(line)).map(str::to_owned).collect())
    }

    /// Reads the file and writes it at once: others write to it too.
    fn set(&self, system: &System, lines: &[String]) -> Result<()> {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let text = system.read_text(FILE)?;
        let new = text_lines::set_all(&text, |line| self.is_entry(line), &lines, Position::First);
        if new == text { Ok(()) } else { system.write_text(FILE, &new) }
    }
}

/// The addresses of lines, for a plan.
fn addresses(lines: &[String]) -> String {
    lines.iter().filter_map(|line| line.split_whitespace().next()).collect::<Vec<_>>().join(", ")
}

impl Reconcile for HostsEntry {
    fn title(&self) -> String {
        format!("hosts entry {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        let (actual, desired) = (self.present(system)?, self.lines());
        Ok(match actual.is_empty() {
            true => State::Absent,
            false if actual == desired => State::Present,
            false => State::differs(addresses(&actual), addresses(&desired)),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(self.present(system)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        self.set(system, &self.lines())
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        // the first versions wrote one line, or null
        let previous = match snapshot {
            Snapshot::String(line) => vec![line.clone()],
            Snapshot::Null => Vec::new(),
            lines => Vec::deserialize(lines)?,
        };
        self.set(system, &previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn entries_win_over_existing_lines_and_are_undone() {
        let host = FakeHost::new();
        host.write("/etc/hosts", "127.0.0.1 localhost\n10.9.9.9 apiserver.cluster.local\n");
        let entry = HostsEntry::new("apiserver.cluster.local", [10, 0, 0, 1]);
        let moved = HostsEntry { address: [127, 0, 0, 1].into(), ..entry.clone() };
        entry.apply(&host.system, &mut |_| ()).unwrap();
        assert!(host.read("/etc/hosts").starts_with("10.0.0.1 apiserver.cluster.local # sealift\n127.0.0.1 localhost\n"));
        assert_eq!(moved.check(&host.system).unwrap(), State::differs("10.0.0.1", "127.0.0.1"));
        entry.undo(&host.system, &Snapshot::Null, &mut |_| ()).unwrap();
        assert_round_trip(&host, &moved);
        assert_eq!(host.read("/etc/hosts"), "127.0.0.1 localhost\n10.9.9.9 apiserver.cluster.local\n");
    }

    #[test]
    fn a_name_with_two_addresses_has_two_lines() {
        let host = FakeHost::new();
        host.write("/etc/hosts", "127.0.0.1 localhost\n");
        let one = HostsEntry::new("db", [10, 0, 0, 1]);
        let two = HostsEntry { more: vec![[10, 0, 0, 2].into(), "fd00::2".parse().unwrap()], ..one.clone() };
        one.apply(&host.system, &mut |_| ()).unwrap();
        assert_eq!(two.check(&host.system).unwrap(), State::differs("10.0.0.1", "10.0.0.1, 10.0.0.2, fd00::2"));
        assert_round_trip(&host, &two);
        two.apply(&host.system, &mut |_| ()).unwrap();
        assert_eq!(host.read("/etc/hosts").lines().filter(|line| line.ends_with(" db # sealift")).count(), 3);
        one.undo(&host.system, &serde_json::json!([]), &mut |_| ()).unwrap();
        assert_eq!(host.read("/etc/hosts"), "127.0.0.1 localhost\n");
    }

    #[test]
    fn lines_of_others_are_kept_byte_by_byte_also_those_written_meanwhile() {
        let host = FakeHost::new();
        let entry = HostsEntry::new("api", [10, 0, 0, 1]);
        for text in ["127.0.0.1\tlocalhost\r\n# theirs\r\n", "127.0.0.1 localhost\n\n10.0.0.9  x # no newline at the end"] {
            host.write("/etc/hosts", text);
            let snapshot = entry.snapshot(&host.system).unwrap();
            entry.apply(&host.system, &mut |_| ()).unwrap();
            assert_eq!(entry.check(&host.system).unwrap(), State::Present);
            let others = host.read("/etc/hosts").replace("localhost", "localhost written-meanwhile");
            host.write("/etc/hosts", &others);
            entry.undo(&host.system, &snapshot, &mut |_| ()).unwrap();
            assert_eq!(host.read("/etc/hosts"), text.replace("localhost", "localhost written-meanwhile"));
        }
    }
}
