//! Resource limits of login sessions: `limits.conf(5)`.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::text_lines::{self, Position};
use super::{Reconcile, Snapshot, State, System};

const FILE: &str = "/etc/security/limits.d/95-sealift.conf";

/// A soft and hard limit for all users and root. It applies to new sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The limited resource: `nofile`, `nproc`, `memlock`.
    pub item: String,
    /// The limit, a number or `unlimited`.
    pub value: String,
}

impl Limit {
    /// Limits `item` to `value`.
    pub fn new(item: impl Into<String>, value: impl ToString) -> Self {
        Limit { item: item.into(), value: value.to_string() }
    }

    // `*` does not include root
    fn lines(&self) -> [(&'static str, String); 2] {
        ["*", "root"].map(|domain| (domain, format!("{domain} - {} {}", self.item, self.value)))
    }

    fn is_for(&self, line: &str, domain: &str) -> bool {
        let mut words = line.split_whitespace();
        words.next() == Some(domain) && words.nth(1) == Some(&self.item)
    }
}

impl Reconcile for Limit {
    fn title(&self) -> String {
        format!("limit {}={}", self.item, self.value)
    }

    fn check(&self, system: &System) -> Result<State> {
        let text = system.read_text(FILE)?;
        for (domain, desired) in self.lines() {
            match text_lines::find(&text, |line| self.is_for(line, domain)) {
                None => return Ok(State::Absent),
                Some(actual) if actual != desired => return Ok(State::differs(actual, desired)),
                Some(_) => {}
            }
        }
        Ok(State::Present)
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let text = system.read_text(FILE)?;
        let found = self.lines().map(|(domain, _)| text_lines::find(&text, |line| self.is_for(line, domain)).map(str::to_owned));
        Ok(serde_json::to_value(found)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let set = |text: String, (domain, line): (&str, String)| {
            text_lines::set(&text, |old| self.is_for(old, domain), Some(&line), Position::Last)
        };
        system.write_text(FILE, &self.lines().into_iter().fold(system.read_text(FILE)?, set))
    }

    fn undo(&self, system: &System, previous: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let previous = <[Option<String>; 2]>::deserialize(previous)?;
        let mut text = system.read_text(FILE)?;
        for ((domain, _), line) in self.lines().iter().zip(previous) {
            text = text_lines::set(&text, |old| self.is_for(old, domain), line.as_deref(), Position::Last);
        }
        system.write_text(FILE, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn limits_are_for_all_users_and_root() {
        let host = FakeHost::new();
        let limit = Limit::new("nofile", 1048576);
        Limit::new("nproc", 65536).apply(&host.system, &mut |_| ()).unwrap();
        limit.apply(&host.system, &mut |_| ()).unwrap();
        assert_eq!(host.read(FILE), "* - nproc 65536\nroot - nproc 65536\n* - nofile 1048576\nroot - nofile 1048576\n");
        limit.undo(&host.system, &serde_json::json!([null, null]), &mut |_| ()).unwrap();
        assert_round_trip(&host, &limit);
        assert_eq!(host.read(FILE), "* - nproc 65536\nroot - nproc 65536\n");
    }
}
