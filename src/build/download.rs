//! Files from URLs: fetched once, kept in the build's memory by their digest, asked for again only to see whether they changed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::Descriptor;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use url::Url;

use super::instruction_cache::InstructionCache;
use super::options::Pull;
use crate::atomic_file;
use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::events::Context;
use crate::image::{Blob, Content, Digest, Reference};
use crate::registry::client::{Client, HttpFile, Validators, redacted_url};
use crate::store::Store;

/// A file on a server.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remote {
    /// Where it is.
    pub url: Url,
    /// What its content must be.
    pub checksum: Option<Digest>,
}

/// A file that was fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Where it is on this machine.
    pub path: PathBuf,
    /// Its bytes.
    pub size: u64,
    /// Their digest.
    pub digest: Digest,
}

/// Files by where they come from.
pub type Downloaded = BTreeMap<Remote, Fetched>;

/// What is remembered of a URL.
#[derive(Debug, Serialize, Deserialize)]
struct Seen {
    digest: Digest,
    version: Validators,
}

/// The directory of downloads in a store; safe to delete.
#[derive(Debug, Clone)]
pub struct Downloads {
    dir: PathBuf,
    store: Store,
}

/// The media types of a chart's archive in a registry (Helm, and its first releases).
const CHART_LAYERS: [&str; 2] = ["application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip"];

impl Downloads {
    /// Those of a store.
    pub fn of(store: &Store) -> Self {
        Downloads { dir: store.root().join("build/downloads"), store: store.clone() }
    }

    /// Brings a file, if it is not here in the version that the server has now. With a checksum the server is asked only when
    /// nothing here has it, with [`Pull::Never`] only for what was never fetched.
    pub async fn bring(&self, remote: &Remote, cache: &InstructionCache, client: &Client, pull: Pull, ctx: &Context) -> Result<Fetched> {
        fs_err::create_dir_all(&self.dir)?;
        if let Some(checksum) = remote.checksum
            && let Some(here) = self.here(&checksum, cache, ctx)?
        {
            return Ok(here);
        }
        let last = self.last(&remote.url, cache, ctx)?;
        let fetched = match (pull, last) {
            (Pull::Never, Some((here, _))) => here,
            (_, last) => {
                let known = last.as_ref().filter(|_| !cache.is_write_only()).map(|(_, version)| version.clone()).unwrap_or_default();
                match (self.ask(&remote.url, &known, client, ctx).await, last) {
                    (Ok(Some(fetched)), _) => fetched,
                    (Ok(None), Some((here, _))) => here,
                    (Ok(None), None) => {
                        let message = format!("{}: 304 not modified, but nothing was asked about", redacted_url(&remote.url));
                        return Err(Failure::failed(message).into());
                    }
                    (Err(error), Some((here, _))) if kind_of(&error) == Kind::Network => away(error, here, pull, ctx)?,
                    (Err(error), _) => return Err(error),
                }
            }
        };
        self.check(remote, &fetched, cache, ctx)?;
        Ok(fetched)
    }

    /// Asks a server or registry for a file; `None` if it still has the known version.
    async fn ask(&self, url: &Url, known: &Validators, client: &Client, ctx: &Context) -> Result<Option<Fetched>> {
        let (downloads, place) = (self.clone(), url.clone());
        if url.scheme() == "oci" {
            let (root, name) = self.pull(url, client, ctx).await?;
            return spawn_blocking(move || downloads.chart(&place, &root, &name)).await?.map(Some);
        }
        match client.fetch(url, known, &self.dir, ctx).await? {
            Some(file) => spawn_blocking(move || downloads.keep(&place, file)).await?.map(Some),
            None => Ok(None),
        }
    }

    /// What a URL gave last, if it is still here, and what the server called it.
    fn last(&self, url: &Url, cache: &InstructionCache, ctx: &Context) -> Result<Option<(Fetched, Validators)>> {
        let Some(seen) = self.seen(url) else { return Ok(None) };
        Ok(self.here(&seen.digest, cache, ctx)?.map(|here| (here, seen.version)))
    }

    async fn pull(&self, url: &Url, client: &Client, ctx: &Context) -> Result<(Descriptor, Reference)> {
        let name: Reference = url.as_str().trim_start_matches("oci://").parse()?;
        let (root, _) = client.pull(&name, &[], &self.store, ctx).await?;
        Ok((root, name))
    }

    /// The archive of a Helm chart that was pulled.
    fn chart(&self, url: &Url, root: &Descriptor, name: &Reference) -> Result<Fetched> {
        let no_chart = || {
            Failure::failed(format!("{} is no Helm chart", name.familiar()))
                .hint("push charts with `helm push`; container images go into a cluster image with IMAGES")
        };
        let Content::Manifest(manifest) = self.store.read_manifest(root)? else { return Err(no_chart().into()) };
        let is_chart = |layer: &&Descriptor| CHART_LAYERS.contains(&layer.media_type().to_string().as_str());
        let blob = Blob::try_from(manifest.layers().iter().find(is_chart).with_context(no_chart)?)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        std::io::copy(&mut self.store.reader(&blob)?, &mut file)?;
        self.keep(url, HttpFile { file, blob, validators: Validators::default() })
    }

    /// The file with this content, if it is here and still has it.
    fn here(&self, digest: &Digest, cache: &InstructionCache, ctx: &Context) -> Result<Option<Fetched>> {
        let path = self.dir.join(digest.hex());
        let Ok(metadata) = path.metadata() else { return Ok(None) };
        let same = cache.files.digest(&path, ctx)? == *digest;
        Ok(same.then_some(Fetched { path, size: metadata.len(), digest: *digest }))
    }

    fn seen(&self, url: &Url) -> Option<Seen> {
        serde_json::from_slice(&std::fs::read(self.memory(url)).ok()?).ok()
    }

    fn keep(&self, url: &Url, file: HttpFile) -> Result<Fetched> {
        let path = self.dir.join(file.blob.digest.hex());
        file.file.as_file().sync_all()?;
        file.file.persist(&path).map_err(|error| error.error).with_context(|| path.display().to_string())?;
        let seen = Seen { digest: file.blob.digest, version: file.validators };
        atomic_file::write(&self.memory(url), &serde_json::to_vec(&seen)?, 0o644)?;
        Ok(Fetched { path, size: file.blob.size, digest: file.blob.digest })
    }

    fn memory(&self, url: &Url) -> PathBuf {
        self.dir.join(format!("{}.json", Digest::of(url.as_str().as_bytes()).hex()))
    }

    fn check(&self, remote: &Remote, fetched: &Fetched, cache: &InstructionCache, ctx: &Context) -> Result<()> {
        let Some(checksum) = remote.checksum else { return Ok(()) };
        let found = cache.files.digest(&fetched.path, ctx)?;
        ensure!(
            found == checksum,
            Failure::verification(format!("{} has the checksum {found}, not {checksum}", redacted_url(&remote.url)))
                .hint("the file changed, or was changed on the way; take the new checksum only if you know why it is another")
        );
        Ok(())
    }
}

/// What to do where the server cannot be asked, and what it gave before is here.
fn away(error: anyhow::Error, here: Fetched, pull: Pull, ctx: &Context) -> Result<Fetched> {
    if pull == Pull::Newer {
        ctx.warn(format!("{error:#}; what was fetched before is taken"));
        return Ok(here);
    }
    let mut failure = Failure::network("the server cannot be asked whether the file is still the same");
    failure.hints = hints_of(&error).to_vec();
    Err(error.context(failure.hint("what was fetched before is here: `--pull never` takes it")))
}

/// The name that a file keeps: the last part of its URL's path, if it has one.
pub fn file_name(url: &Url) -> Option<PathBuf> {
    let last = url.path_segments()?.next_back()?;
    let name = percent_encoding::percent_decode_str(last).decode_utf8().ok()?;
    let plain = !name.is_empty() && !matches!(&*name, "." | "..") && !name.contains(['/', '\0']);
    plain.then(|| PathBuf::from(&*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_called_as_their_urls_end() {
        for (url, expected) in [
            ("https://example.com/a/b.tgz?x=1", Some("b.tgz")),
            ("https://example.com/a%20b", Some("a b")),
            ("https://example.com/a%2Fb", None),
            ("https://example.com/", None),
            ("https://example.com/%2e%2e", None),
        ] {
            assert_eq!(file_name(&url.parse().unwrap()), expected.map(PathBuf::from), "{url}");
        }
    }
}
