//! Limits of login sessions, `limits.conf(5)`.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::text_lines::{self, Place};
use super::{Reconcile, Snapshot, State, System};

const FILE: &str = "/etc/security/limits.d/95-sealift.conf";

/// A soft and hard limit of all users and of root, for sessions to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What is limited: `nofile`, `nproc`, `memlock`.
    pub item: String,
    /// The limit, or `unlimited`.
    pub value: String,
}

impl Limit {
    /// The limit of `item`.
    pub fn new(item: impl Into<String>, value: impl ToString) -> Self {
        Limit { item: item.into(), value: value.to_string() }
    }

    // `*` does not mean root
    fn lines(&self) -> [(&'static str, String); 2] {
        ["*", "root"].map(|who| (who, format!("{who} - {} {}", self.item, self.value)))
    }

    fn is_for(&self, line: &str, who: &str) -> bool {
        let mut words = line.split_whitespace();
        words.next() == Some(who) && words.nth(1) == Some(&self.item)
    }
}

impl Reconcile for Limit {
    fn title(&self) -> String {
        format!("limit {}={}", self.item, self.value)
    }

    fn check(&self, system: &System) -> Result<State> {
        let text = system.text(FILE)?;
        for (who, shall) in self.lines() {
            match text_lines::find(&text, |line| self.is_for(line, who)) {
                None => return Ok(State::Absent),
                Some(is) if is != shall => return Ok(State::differs(is, shall)),
                Some(_) => {}
            }
        }
        Ok(State::Present)
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let text = system.text(FILE)?;
        let found = self.lines().map(|(who, _)| text_lines::find(&text, |line| self.is_for(line, who)).map(str::to_owned));
        Ok(serde_json::to_value(found)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let set = |text: String, (who, line): (&str, String)| text_lines::set(&text, |old| self.is_for(old, who), Some(&line), Place::Last);
        system.write_text(FILE, &self.lines().into_iter().fold(system.text(FILE)?, set))
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let before = <[Option<String>; 2]>::deserialize(before)?;
        let mut text = system.text(FILE)?;
        for ((who, _), line) in self.lines().iter().zip(before) {
            text = text_lines::set(&text, |old| self.is_for(old, who), line.as_deref(), Place::Last);
        }
        system.write_text(FILE, &text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn limits_are_for_all_users_and_root() {
        let lab = Lab::new();
        let limit = Limit::new("nofile", 1048576);
        Limit::new("nproc", 65536).apply(&lab.system, &mut |_| ()).unwrap();
        limit.apply(&lab.system, &mut |_| ()).unwrap();
        assert_eq!(lab.read(FILE), "* - nproc 65536\nroot - nproc 65536\n* - nofile 1048576\nroot - nofile 1048576\n");
        limit.undo(&lab.system, &serde_json::json!([null, null]), &mut |_| ()).unwrap();
        round(&lab, &limit);
        assert_eq!(lab.read(FILE), "* - nproc 65536\nroot - nproc 65536\n");
    }
}
