//! A file with its content, owner and permissions.

use std::fmt;
use std::path::PathBuf;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::directory::compare_permissions;
use super::{Reconcile, Snapshot, State, System};
use crate::error::Failure;

/// A file with its content, owner and permissions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its content. Never printed unless everybody may read the file.
    pub content: Content,
    /// Its permission bits and owner.
    #[serde(flatten)]
    pub permissions: FileMode,
}

impl File {
    /// A file owned by root, with the permission bits `mode`.
    pub fn new(path: impl Into<PathBuf>, content: impl Into<Content>, mode: u32) -> Self {
        File { path: path.into(), content: content.into(), permissions: FileMode { mode, uid: 0, gid: 0 } }
    }

    fn compare_content(&self, actual: &[u8]) -> Option<State> {
        if actual == self.content.0 {
            return None;
        }
        let public = self.permissions.mode & 0o004 != 0;
        let lines = public.then(|| first_difference(actual, &self.content.0)).flatten();
        let sizes = || State::differs(format!("other content, {} bytes", actual.len()), format!("{} bytes", self.content.0.len()));
        Some(lines.unwrap_or_else(sizes))
    }
}

impl Reconcile for File {
    fn title(&self) -> String {
        format!("file {}", self.path.display())
    }

    fn check(&self, system: &System) -> Result<State> {
        let path = system.path(&self.path);
        Ok(match backup::metadata(&path)? {
            None => State::Absent,
            Some(meta) if !meta.is_file() => State::differs("not a regular file", "a regular file"),
            Some(meta) => self
                .compare_content(&fs_err::read(&path)?)
                .or_else(|| compare_permissions(&meta, self.permissions))
                .unwrap_or(State::Present),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Backup::of(system, &self.path)?)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let path = system.path(&self.path);
        if backup::metadata(&path)?.is_some_and(|meta| meta.is_dir()) {
            backup::remove(&path)?;
        }
        backup::write_file(&path, &self.content.0, self.permissions)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Backup::deserialize(snapshot)?.restore(system, &self.path)
    }
}

/// The first lines of two texts that differ. Where one text is longer, that is its next line that is not blank.
fn first_difference(actual: &[u8], desired: &[u8]) -> Option<State> {
    let (actual, desired) = (std::str::from_utf8(actual).ok()?, std::str::from_utf8(desired).ok()?);
    let (mut actual, mut desired) = (actual.lines(), desired.lines());
    let mut blank = None;
    for number in 1.. {
        let (actual_line, desired_line) = match (actual.next(), desired.next()) {
            (None, None) => break,
            (actual_line, desired_line) if actual_line == desired_line => continue,
            lines => lines,
        };
        let describe = |line: Option<&str>| match line {
            Some(line) if line.trim().is_empty() => format!("line {number} blank"),
            Some(line) => format!("line {number}: {}", line.chars().take(60).collect::<String>()),
            None => format!("no line {number}"),
        };
        let difference = State::differs(describe(actual_line), describe(desired_line));
        match (actual_line, desired_line) {
            (Some(line), None) | (None, Some(line)) if line.trim().is_empty() => blank = blank.or(Some(difference)),
            _ => return Some(difference),
        }
    }
    blank
}

/// Bytes of a file. They may be secret: `Debug` prints only how many there are.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "ContentJson", into = "ContentJson")]
pub struct Content(Vec<u8>);

impl Content {
    /// The bytes, unencoded.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A content in JSON: text where it is UTF-8, else base64.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ContentJson {
    Text(String),
    Base64(String),
}

impl From<Content> for ContentJson {
    fn from(content: Content) -> Self {
        String::from_utf8(content.0).map_or_else(|bytes| ContentJson::Base64(STANDARD.encode(bytes.as_bytes())), ContentJson::Text)
    }
}

impl TryFrom<ContentJson> for Content {
    type Error = Failure;

    fn try_from(json: ContentJson) -> Result<Self, Failure> {
        match json {
            ContentJson::Text(text) => Ok(Content(text.into_bytes())),
            ContentJson::Base64(text) => {
                STANDARD.decode(text).map(Content).map_err(|error| Failure::failed(format!("content: invalid base64: {error}")))
            }
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
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn files_are_written_compared_and_restored() {
        let host = FakeHost::new();
        host.write("/etc/x.conf", "a\nb\n");
        let file = host.owned_file(File::new("/etc/x.conf", "a\nc\n", 0o644));
        assert_eq!(file.check(&host.system).unwrap(), State::differs("line 2: b", "line 2: c"));
        assert_round_trip(&host, &file);
        assert_eq!(host.read("/etc/x.conf"), "a\nb\n");
    }

    #[test]
    fn a_difference_says_what_it_is() {
        for (actual, desired, mode, expected) in [
            ("a\n", "a\n\n[host]\n", 0o644, ("no line 3", "line 3: [host]")),
            ("a\n\nb\n", "a\n", 0o644, ("line 3: b", "no line 3")),
            ("a\n", "a\n\n", 0o644, ("no line 2", "line 2 blank")),
            ("a\nb\n", "a\n\n", 0o644, ("line 2: b", "line 2 blank")),
            ("a", "a\n", 0o644, ("other content, 1 bytes", "2 bytes")),
            ("old", "new", 0o600, ("other content, 3 bytes", "3 bytes")),
        ] {
            let state = File::new("/etc/x", desired, mode).compare_content(actual.as_bytes());
            assert_eq!(state, Some(State::differs(expected.0, expected.1)), "{actual:?} {desired:?}");
        }
    }

    #[test]
    fn private_contents_are_not_shown() {
        let host = FakeHost::new();
        host.write("/etc/key", "old secret");
        let file = host.owned_file(File::new("/etc/key", "new secret", 0o600));
        let state = format!("{:?} {file:?}", file.check(&host.system).unwrap());
        assert!(!state.contains("secret"), "{state}");
    }

    #[test]
    fn bytes_survive_json() {
        for content in [Content::from("text"), Content::from(vec![0xff, 0xfe])] {
            assert_eq!(serde_json::from_str::<Content>(&serde_json::to_string(&content).unwrap()).unwrap(), content);
        }
    }
}
