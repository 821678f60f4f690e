//! An htpasswd file: a user and the bcrypt hash of its password, as registries read it.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::{Content, Reconcile, Snapshot, State, System};

/// The cost of bcrypt: 2 to the power of this many rounds.
const COST: u32 = 10;

/// An htpasswd file with exactly one user. Only the bcrypt hash of the password is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Htpasswd {
    /// Its absolute path.
    pub path: PathBuf,
    /// The user name.
    pub user: String,
    /// The password. Never in the undo ledger.
    pub password: Content,
}

impl Htpasswd {
    /// Whether a file has this user with this password, and nobody else.
    fn matches(&self, text: &str) -> bool {
        let mut lines = text.lines();
        let hash = lines.next().and_then(|line| line.strip_prefix(&self.user)?.strip_prefix(':'));
        lines.next().is_none() && hash.is_some_and(|hash| bcrypt::verify(self.password.bytes(), hash).unwrap_or(false))
    }
}

impl Reconcile for Htpasswd {
    fn title(&self) -> String {
        format!("user {} in {}", self.user, self.path.display())
    }

    fn check(&self, system: &System) -> Result<State> {
        let path = system.path(&self.path);
        Ok(match backup::metadata(&path)? {
            None => State::Absent,
            Some(meta) if meta.is_file() && self.matches(&String::from_utf8_lossy(&fs_err::read(&path)?)) => State::Present,
            Some(_) => State::differs("another user or password", "the configured one"),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Backup::of(system, &self.path)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let line = format!("{}:{}\n", self.user, bcrypt::hash(self.password.bytes(), COST)?);
        backup::write_file(&system.path(&self.path), line.as_bytes(), FileMode::of_current_user(0o600))
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Backup::deserialize(snapshot)?.restore(system, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn the_file_has_the_hash_and_another_password_is_drift() {
        let host = FakeHost::new();
        let htpasswd = Htpasswd { path: "/etc/registry/htpasswd".into(), user: "ann".into(), password: "secret".into() };
        assert_round_trip(&host, &htpasswd);
        htpasswd.apply(&host.system, &mut |_| ()).unwrap();
        let text = host.read("/etc/registry/htpasswd");
        assert!(text.starts_with("ann:$2") && !text.contains("secret"), "{text}");
        for other in [
            Htpasswd { password: "other".into(), ..htpasswd.clone() },
            Htpasswd { user: "bob".into(), ..htpasswd.clone() },
            Htpasswd { user: "an".into(), ..htpasswd },
        ] {
            assert_ne!(other.check(&host.system).unwrap(), State::Present, "{other:?}");
            assert!(!format!("{other:?}").contains("secret"));
        }
    }
}
