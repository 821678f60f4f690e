//! A file with a user and a password's hash, as registries read it.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::{Content, Reconcile, Snapshot, State, System};

/// The work that a hash takes, as `htpasswd -B` has it at most times: 2 to the power of this.
const COST: u32 = 10;

/// An htpasswd file that lets in one user. The password is never written, only its bcrypt hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Htpasswd {
    /// Its absolute path.
    pub path: PathBuf,
    /// The user.
    pub user: String,
    /// The password.
    pub password: Content,
}

impl Htpasswd {
    /// Whether the file lets in this user, and nobody else.
    fn suits(&self, text: &str) -> bool {
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
        let place = system.path(&self.path);
        Ok(match backup::meta(&place)? {
            None => State::Absent,
            Some(meta) if meta.is_file() && self.suits(&String::from_utf8_lossy(&fs_err::read(&place)?)) => State::Present,
            Some(_) => State::differs("another user or password", "this one"),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Backup::of(system, &self.path)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let line = format!("{}:{}\n", self.user, bcrypt::hash(self.password.bytes(), COST)?);
        backup::put_file(&system.path(&self.path), line.as_bytes(), FileMode::own(0o600))
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Backup::deserialize(before)?.restore(system, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn the_file_has_the_hash_and_another_password_is_another_file() {
        let lab = Lab::new();
        let htpasswd = Htpasswd { path: "/etc/registry/htpasswd".into(), user: "ann".into(), password: "secret".into() };
        round(&lab, &htpasswd);
        htpasswd.apply(&lab.system, &mut |_| ()).unwrap();
        let text = lab.read("/etc/registry/htpasswd");
        assert!(text.starts_with("ann:$2") && !text.contains("secret"), "{text}");
        for other in [
            Htpasswd { password: "other".into(), ..htpasswd.clone() },
            Htpasswd { user: "bob".into(), ..htpasswd.clone() },
            Htpasswd { user: "an".into(), ..htpasswd },
        ] {
            assert_ne!(other.check(&lab.system).unwrap(), State::Present, "{other:?}");
            assert!(!format!("{other:?}").contains("secret"));
        }
    }
}
