//! A file.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::directory::compare_rights;
use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;

/// A file with its content and rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its content. Never printed when others may not read the file.
    pub content: Content,
    /// Permission bits and owner.
    #[serde(flatten)]
    pub rights: FileMode,
}

impl File {
    /// The file `path` of root with these permission bits.
    pub fn new(path: impl Into<PathBuf>, content: impl Into<Content>, mode: u32) -> Self {
        File { path: path.into(), content: content.into(), rights: FileMode { mode, uid: 0, gid: 0 } }
    }

    fn compare_content(&self, is: &[u8]) -> Option<State> {
        if is == self.content.0 {
            return None;
        }
        let public = self.rights.mode & 0o004 != 0;
        let lines = public.then(|| first_difference(is, &self.content.0)).flatten();
        let sizes = || State::differs(format!("{} bytes", is.len()), format!("{} other bytes", self.content.0.len()));
        Some(lines.unwrap_or_else(sizes))
    }
}

impl Reconcile for File {
    fn title(&self) -> String {
        format!("file {}", self.path.display())
    }

    fn check(&self, system: &System) -> Result<State> {
        let place = system.path(&self.path);
        Ok(match backup::meta(&place)? {
            None => State::Absent,
            Some(meta) if !meta.is_file() => State::differs("not a file", "a file"),
            Some(meta) => {
                self.compare_content(&fs_err::read(&place)?).or_else(|| compare_rights(&meta, self.rights)).unwrap_or(State::Present)
            }
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Backup::of(system, &self.path)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let place = system.path(&self.path);
        if backup::meta(&place)?.is_some_and(|meta| meta.is_dir()) {
            backup::remove(&place)?;
        }
        backup::put_file(&place, &self.content.0, self.rights)
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Backup::deserialize(before)?.restore(system, &self.path)
    }
}

/// The first lines of two texts that differ.
fn first_difference(is: &[u8], shall: &[u8]) -> Option<State> {
    let (is, shall) = (std::str::from_utf8(is).ok()?, std::str::from_utf8(shall).ok()?);
    let (mut old, mut new) = (is.lines(), shall.lines());
    for number in 1.. {
        let (old, new) = match (old.next(), new.next()) {
            (None, None) => return None,
            (old, new) if old == new => continue,
            (old, new) => (old, new),
        };
        let show = |line: Option<&str>| match line {
            Some(line) => format!("line {number}: {}", line.chars().take(60).collect::<String>()),
            None => format!("no line {number}"),
        };
        return Some(State::differs(show(old), show(new)));
    }
    None
}

/// What is in a file. Does not print itself.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Content(Vec<u8>);

impl Content {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// How a content is written in JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Written {
    Text(String),
    Base64(String),
}

impl From<Content> for Written {
    fn from(content: Content) -> Self {
        String::from_utf8(content.0).map_or_else(|bytes| Written::Base64(STANDARD.encode(bytes.as_bytes())), Written::Text)
    }
}

impl TryFrom<Written> for Content {
    type Error = Failure;

    fn try_from(written: Written) -> Result<Self, Failure> {
        match written {
            Written::Text(text) => Ok(Content(text.into_bytes())),
            Written::Base64(text) => STANDARD.decode(text).map(Content).map_err(|error| Failure::failed(format!("content: {error}"))),
        }
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Content(text.as_bytes().to_vec())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Content(text.into_bytes())
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content(bytes)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn files_are_written_compared_and_taken_back() {
        let lab = Lab::new();
        lab.write("/etc/x.conf", "a\nb\n");
        let file = lab.owned_file(File::new("/etc/x.conf", "a\nc\n", 0o644));
        assert_eq!(file.check(&lab.system).unwrap(), State::differs("line 2: b", "line 2: c"));
        round(&lab, &file);
        assert_eq!(lab.read("/etc/x.conf"), "a\nb\n");
    }

    #[test]
    fn private_contents_are_not_shown() {
        let lab = Lab::new();
        lab.write("/etc/key", "old secret");
        let file = lab.owned_file(File::new("/etc/key", "new secret", 0o600));
        let state = format!("{:?} {file:?}", file.check(&lab.system).unwrap());
        assert!(!state.contains("secret"), "{state}");
    }

    #[test]
    fn bytes_survive_json() {
        for content in [Content::from("text"), Content::from(vec![0xff, 0xfe])] {
            assert_eq!(serde_json::from_str::<Content>(&serde_json::to_string(&content).unwrap()).unwrap(), content);
        }
    }
}
