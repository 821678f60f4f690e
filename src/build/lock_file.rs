//! The lock file: what the names in a Kubefile stood for when it was written, so that a later build takes the same.
//!
//! ```json
//! {
//!   "comment": "…",
//!   "version": 1,
//!   "images": {"docker.io/library/kubernetes:v1.20.2": "sha256:…"},
//!   "containers": {"docker.io/library/nginx:1.25": "sha256:…"},
//!   "files": {"https://example.com/tool": "sha256:…"}
//! }
//! ```

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::error::{Failure, hints_of, kind_of};
use crate::image::{Digest, Reference};
use crate::registry::client::redacted_url;

/// Digests by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockFile {
    /// For readers; who writes another one keeps it.
    #[serde(default = "about")]
    comment: String,
    version: u32,
    /// What FROM and COPY --from name.
    #[serde(default)]
    images: BTreeMap<Reference, Digest>,
    /// The container images that come along.
    #[serde(default)]
    containers: BTreeMap<Reference, Digest>,
    /// What URLs gave, without passwords and queries.
    #[serde(default)]
    files: BTreeMap<String, Digest>,
    /// What the file is called, and its text.
    #[serde(skip)]
    read: (String, String),
}

fn about() -> String {
    "Written by `sealift build --lock`; `sealift build --locked` takes exactly this.".to_owned()
}

impl Default for LockFile {
    fn default() -> Self {
        LockFile {
            comment: about(),
            version: LockFile::VERSION,
            images: BTreeMap::new(),
            containers: BTreeMap::new(),
            files: BTreeMap::new(),
            read: Default::default(),
        }
    }
}

impl LockFile {
    const VERSION: u32 = 1;

    /// Reads a lock file; `file` is what it is called in messages.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let broken = || Failure::usage(format!("{file} is no lock file")).hint("write it anew with `sealift build --lock`");
        let lock: LockFile = serde_json::from_str(text).with_context(broken)?;
        let is_known = lock.version == LockFile::VERSION;
        ensure!(is_known, Failure::usage(format!("{file} is a lock file of version {}, not {}", lock.version, LockFile::VERSION)));
        Ok(LockFile { read: (file.to_owned(), text.to_owned()), ..lock })
    }

    /// With the comment of the file that it replaces.
    pub fn in_place_of(self, before: LockFile) -> Self {
        LockFile { comment: before.comment, ..self }
    }

    /// Says which line of the lock file asks for what did not come, if one does.
    pub fn blame(&self, key: &str, error: anyhow::Error) -> anyhow::Error {
        let (file, text) = &self.read;
        let entry = text.lines().enumerate().find(|(_, line)| line.trim_start().starts_with(&format!("\"{key}\":")));
        let Some((number, line)) = entry else { return error };
        let mut failure = Failure::new(kind_of(&error), format!("{file}:{}: {}", number + 1, line.trim().trim_end_matches(',')));
        failure.hints = hints_of(&error).to_vec();
        error.context(failure.hint("if the change is meant, write the lock file anew with `sealift build --lock`"))
    }

    /// The text of a lock file, the same for the same content.
    pub fn text(&self) -> Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// An image of FROM or COPY --from, by its digest.
    pub fn image(&self, name: &Reference) -> Result<Reference> {
        let digest = self.images.get(name).copied().or(name.digest());
        digest.map(|digest| name.with_digest(digest)).ok_or_else(|| missing(&[format!("image {}", name.familiar())]).into())
    }

    /// The digests of container images. All that are not in the lock are told at once.
    pub fn containers<'a>(&self, names: impl Iterator<Item = &'a Reference>) -> Result<BTreeMap<Reference, Digest>> {
        let (mut found, mut lacking) = (BTreeMap::new(), Vec::new());
        for name in names {
            match self.containers.get(name).copied().or(name.digest()) {
                Some(digest) => drop(found.insert(name.clone(), digest)),
                None => lacking.push(format!("container image {}", name.familiar())),
            }
        }
        ensure!(lacking.is_empty(), missing(&lacking));
        Ok(found)
    }

    /// The checksum of what a URL gives.
    pub fn file(&self, url: &Url) -> Result<Digest> {
        self.files.get(&redacted_url(url)).copied().ok_or_else(|| missing(&[redacted_url(url)]).into())
    }

    /// Notes what FROM or COPY --from named.
    pub fn add_image(&mut self, name: &Reference, digest: Digest) {
        self.images.insert(name.clone(), digest);
    }

    /// Notes a container image.
    pub fn add_container(&mut self, name: &Reference, digest: Digest) {
        self.containers.insert(name.clone(), digest);
    }

    /// Notes what a URL gave.
    pub fn add_file(&mut self, url: &Url, digest: Digest) {
        self.files.insert(redacted_url(url), digest);
    }

    /// Adds what another platform took.
    pub fn merge(&mut self, other: LockFile) {
        self.images.extend(other.images);
        self.containers.extend(other.containers);
        self.files.extend(other.files);
    }
}

fn missing(what: &[String]) -> Failure {
    let verb = if what.len() == 1 { "is" } else { "are" };
    Failure::failed(format!("{} {verb} not in the lock file", what.join(", "))).hint("write the lock file anew with `sealift build --lock`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_the_rest_is_refused() {
        let (digest, url) = (Digest::of(b"x"), Url::parse("https://me:secret@example.com/a?token=b").unwrap());
        let mut lock = LockFile::default();
        lock.add_image(&"base:1".parse().unwrap(), digest);
        lock.add_container(&"nginx:1".parse().unwrap(), digest);
        lock.add_file(&url, digest);
        let text = lock.text().unwrap();
        assert!(!text.contains("secret") && !text.contains("token"), "{text}");
        let read = LockFile::parse("Kubefile.lock", &text).unwrap();
        assert_eq!(read.text().unwrap(), text);
        assert_eq!(read.image(&"base:1".parse().unwrap()).unwrap().digest(), Some(digest));
        assert_eq!(read.file(&url).unwrap(), digest);
        let names: Vec<Reference> = ["nginx:1", "redis:7", "etcd:3"].iter().map(|name| name.parse().unwrap()).collect();
        let refused = read.containers(names.iter()).unwrap_err().to_string();
        assert_eq!(refused, "container image redis:7, container image etcd:3 are not in the lock file");
        assert!(read.image(&"other:1".parse().unwrap()).is_err() && read.file(&"https://example.com/b".parse().unwrap()).is_err());
    }

    #[test]
    fn errors_name_the_line_and_comments_stay() {
        let mut lock = LockFile::default();
        lock.add_image(&"base:1".parse().unwrap(), Digest::of(b"x"));
        let text = lock.text().unwrap().replace(&about(), "Ask Ann before you change this.");
        let read = LockFile::parse("dir/Kubefile.lock", &text).unwrap();
        let error = read.blame("docker.io/library/base:1", Failure::network("404").into());
        assert!(format!("{error:#}").starts_with("dir/Kubefile.lock:5: \"docker.io/library/base:1\": \"sha256:"), "{error:#}");
        assert!(kind_of(&error) == crate::error::Kind::Network && hints_of(&error)[0].contains("--lock"));
        assert_eq!(read.blame("other", Failure::failed("x").into()).to_string(), "x");
        assert_eq!(lock.in_place_of(read).text().unwrap(), text);
    }

    #[test]
    fn what_is_no_lock_file_is_refused() {
        for (text, part) in [("", "no lock file"), ("{\"version\": 2}", "version 2"), ("{\"version\": 1, \"imgaes\": {}}", "no lock file")]
        {
            let error = LockFile::parse("Kubefile.lock", text).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }
}
