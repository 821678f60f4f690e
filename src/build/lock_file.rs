//! The lock file `Kubefile.lock`: the digests of everything that a build took by name, so that a later build uses the same.
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

/// The digests of images and files, by name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LockFile {
    /// For readers. It is kept when the file is written again.
    #[serde(default = "about")]
    comment: String,
    version: u32,
    /// The images of FROM and COPY --from.
    #[serde(default)]
    images: BTreeMap<Reference, Digest>,
    /// The container images.
    #[serde(default)]
    containers: BTreeMap<Reference, Digest>,
    /// Downloads, by their URLs without passwords and queries.
    #[serde(default)]
    files: BTreeMap<String, Digest>,
    /// The file's name and text, if it was read.
    #[serde(skip)]
    file: (String, String),
}

/// The hint for a lock file that does not fit.
const WRITE_AGAIN: &str = "write the lock file again: `sealift build --lock`";

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
            file: Default::default(),
        }
    }
}

impl LockFile {
    const VERSION: u32 = 1;

    /// Reads a lock file; `file` is its name in messages.
    ///
    /// # Errors
    /// Of kind `Usage` if it is not a lock file, or of another version.
    pub fn parse(file: &str, text: &str) -> Result<Self> {
        let not_a_lock_file = || Failure::usage(format!("{file} is not a lock file")).hint(WRITE_AGAIN);
        let lock: LockFile = serde_json::from_str(text).with_context(not_a_lock_file)?;
        let is_known = lock.version == LockFile::VERSION;
        ensure!(
            is_known,
            Failure::usage(format!("{file} has lock file version {}, expected {}", lock.version, LockFile::VERSION)).hint(WRITE_AGAIN)
        );
        Ok(LockFile { file: (file.to_owned(), text.to_owned()), ..lock })
    }

    /// Takes over the comment of the file that it replaces.
    pub fn replacing(self, before: LockFile) -> Self {
        LockFile { comment: before.comment, ..self }
    }

    /// Says which line of the lock file an error comes from, if `key` has one. Kind and hints stay what they are.
    pub fn at_entry(&self, key: &str, error: anyhow::Error) -> anyhow::Error {
        let (file, text) = &self.file;
        let entry = text.lines().enumerate().find(|(_, line)| line.trim_start().starts_with(&format!("\"{key}\":")));
        let Some((number, line)) = entry else { return error };
        let mut failure = Failure::new(kind_of(&error), format!("{file}:{}: {}", number + 1, line.trim().trim_end_matches(',')));
        failure.hints = hints_of(&error).to_vec();
        error.context(failure.hint("if the change is intended, update the lock file: `sealift build --lock`"))
    }

    /// The text of the file. Equal lock files have equal texts.
    pub fn text(&self) -> Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// The name of an image of FROM or COPY --from, with its digest.
    ///
    /// # Errors
    /// Fails if the lock file does not have it; as do [`Self::containers`] and [`Self::file`].
    pub fn image(&self, name: &Reference) -> Result<Reference> {
        let digest = self.images.get(name).copied().or(name.digest());
        digest.map(|digest| name.with_digest(digest)).ok_or_else(|| missing(&[format!("image {}", name.familiar())]).into())
    }

    /// The digests of container images. The error lists all that are not in the lock file.
    pub fn containers<'a>(&self, names: impl Iterator<Item = &'a Reference>) -> Result<BTreeMap<Reference, Digest>> {
        let (mut found, mut absent) = (BTreeMap::new(), Vec::new());
        for name in names {
            match self.containers.get(name).copied().or(name.digest()) {
                Some(digest) => drop(found.insert(name.clone(), digest)),
                None => absent.push(format!("container image {}", name.familiar())),
            }
        }
        ensure!(absent.is_empty(), missing(&absent));
        Ok(found)
    }

    /// The digest of a download.
    pub fn file(&self, url: &Url) -> Result<Digest> {
        self.files.get(&redacted_url(url)).copied().ok_or_else(|| missing(&[redacted_url(url)]).into())
    }

    /// Adds an image of FROM or COPY --from.
    pub fn add_image(&mut self, name: &Reference, digest: Digest) {
        self.images.insert(name.clone(), digest);
    }

    /// Adds a container image.
    pub fn add_container(&mut self, name: &Reference, digest: Digest) {
        self.containers.insert(name.clone(), digest);
    }

    /// Adds a download.
    pub fn add_file(&mut self, url: &Url, digest: Digest) {
        self.files.insert(redacted_url(url), digest);
    }

    /// Adds the entries of another platform's build.
    pub fn merge(&mut self, other: LockFile) {
        self.images.extend(other.images);
        self.containers.extend(other.containers);
        self.files.extend(other.files);
    }
}

fn missing(what: &[String]) -> Failure {
    let verb = if what.len() == 1 { "is" } else { "are" };
    Failure::failed(format!("{} {verb} not in the lock file", what.join(", "))).hint(WRITE_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_is_read_as_written_and_missing_names_are_refused() {
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
    fn errors_name_the_line_and_comments_are_kept() {
        let mut lock = LockFile::default();
        lock.add_image(&"base:1".parse().unwrap(), Digest::of(b"x"));
        let text = lock.text().unwrap().replace(&about(), "Ask Ann before you change this.");
        let read = LockFile::parse("dir/Kubefile.lock", &text).unwrap();
        let error = read.at_entry("docker.io/library/base:1", Failure::network("404").into());
        assert!(format!("{error:#}").starts_with("dir/Kubefile.lock:5: \"docker.io/library/base:1\": \"sha256:"), "{error:#}");
        assert!(kind_of(&error) == crate::error::Kind::Network && hints_of(&error)[0].contains("--lock"));
        assert_eq!(read.at_entry("other", Failure::failed("x").into()).to_string(), "x");
        assert_eq!(lock.replacing(read).text().unwrap(), text);
    }

    #[test]
    fn other_files_are_refused() {
        for (text, part) in
            [("", "not a lock file"), ("{\"version\": 2}", "version 2"), ("{\"version\": 1, \"imgaes\": {}}", "not a lock file")]
        {
            let error = LockFile::parse("Kubefile.lock", text).unwrap_err();
            assert!(format!("{error:#}").contains(part), "{error:#}");
        }
    }
}
