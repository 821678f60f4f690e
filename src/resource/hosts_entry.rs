//! A name in `/etc/hosts`.

use std::net::IpAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::text_lines::{self, Place};
use super::{Reconcile, Snapshot, State, System};

const FILE: &str = "/etc/hosts";
const MARK: &str = "# sealift";

/// A name in `/etc/hosts`, on a marked line before all others, so that it wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostsEntry {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
}

impl HostsEntry {
    fn line(&self) -> String {
        format!("{} {} {MARK}", self.address, self.name)
    }

    fn is_ours(&self, line: &str) -> bool {
        line.ends_with(MARK) && line.split_whitespace().nth(1) == Some(&self.name)
    }

    fn set(&self, system: &System, line: Option<&str>) -> Result<()> {
        let text = system.text(FILE)?;
        let new = text_lines::set(&text, |line| self.is_ours(line), line, Place::First);
        if new == text { Ok(()) } else { system.write_text(FILE, &new) }
    }
}

impl Reconcile for HostsEntry {
    fn title(&self) -> String {
        format!("hosts entry {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        let text = system.text(FILE)?;
        Ok(match text_lines::find(&text, |line| self.is_ours(line)) {
            None => State::Absent,
            Some(line) if line == self.line() => State::Present,
            Some(line) => State::differs(line.split_whitespace().next().unwrap_or_default(), self.address.to_string()),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let text = system.text(FILE)?;
        Ok(serde_json::to_value(text_lines::find(&text, |line| self.is_ours(line)))?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        self.set(system, Some(&self.line()))
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        self.set(system, before.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn entries_win_over_what_is_there_and_are_taken_back() {
        let lab = Lab::new();
        lab.write("/etc/hosts", "127.0.0.1 localhost\n10.9.9.9 apiserver.cluster.local\n");
        let entry = HostsEntry { name: "apiserver.cluster.local".into(), address: [10, 0, 0, 1].into() };
        let moved = HostsEntry { address: [127, 0, 0, 1].into(), ..entry.clone() };
        entry.apply(&lab.system, &mut |_| ()).unwrap();
        assert!(lab.read("/etc/hosts").starts_with("10.0.0.1 apiserver.cluster.local # sealift\n127.0.0.1 localhost\n"));
        assert_eq!(moved.check(&lab.system).unwrap(), State::differs("10.0.0.1", "127.0.0.1"));
        entry.undo(&lab.system, &Snapshot::Null, &mut |_| ()).unwrap();
        round(&lab, &moved);
        assert_eq!(lab.read("/etc/hosts"), "127.0.0.1 localhost\n10.9.9.9 apiserver.cluster.local\n");
    }
}
