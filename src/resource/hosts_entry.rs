//! A name in `/etc/hosts`: `hosts(5)`.

use std::net::IpAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::text_lines::{self, Position};
use super::{Reconcile, Snapshot, State, System};

const FILE: &str = "/etc/hosts";
const MARKER: &str = "# sealift";

/// A name in `/etc/hosts`, on a marked line before all others, because the first match wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsEntry {
    /// The host name: `apiserver.cluster.local`.
    pub name: String,
    /// The address that it resolves to.
    pub address: IpAddr,
}

impl HostsEntry {
    fn line(&self) -> String {
        format!("{} {} {MARKER}", self.address, self.name)
    }

    fn is_entry(&self, line: &str) -> bool {
        line.ends_with(MARKER) && line.split_whitespace().nth(1) == Some(&self.name)
    }

    fn set(&self, system: &System, line: Option<&str>) -> Result<()> {
        let text = system.read_text(FILE)?;
        let new = text_lines::set(&text, |line| self.is_entry(line), line, Position::First);
        if new == text { Ok(()) } else { system.write_text(FILE, &new) }
    }
}

impl Reconcile for HostsEntry {
    fn title(&self) -> String {
        format!("hosts entry {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        let text = system.read_text(FILE)?;
        Ok(match text_lines::find(&text, |line| self.is_entry(line)) {
            None => State::Absent,
            Some(line) if line == self.line() => State::Present,
            Some(line) => State::differs(line.split_whitespace().next().unwrap_or_default(), self.address.to_string()),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let text = system.read_text(FILE)?;
        Ok(serde_json::to_value(text_lines::find(&text, |line| self.is_entry(line)))?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        self.set(system, Some(&self.line()))
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        self.set(system, snapshot.as_str())
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
        let entry = HostsEntry { name: "apiserver.cluster.local".into(), address: [10, 0, 0, 1].into() };
        let moved = HostsEntry { address: [127, 0, 0, 1].into(), ..entry.clone() };
        entry.apply(&host.system, &mut |_| ()).unwrap();
        assert!(host.read("/etc/hosts").starts_with("10.0.0.1 apiserver.cluster.local # sealift\n127.0.0.1 localhost\n"));
        assert_eq!(moved.check(&host.system).unwrap(), State::differs("10.0.0.1", "127.0.0.1"));
        entry.undo(&host.system, &Snapshot::Null, &mut |_| ()).unwrap();
        assert_round_trip(&host, &moved);
        assert_eq!(host.read("/etc/hosts"), "127.0.0.1 localhost\n10.9.9.9 apiserver.cluster.local\n");
    }
}
