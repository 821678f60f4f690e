//! Downloads of ADD and APP: kept in the build cache by their digests, and requested again only to see whether they changed.

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
    /// Its URL.
    pub url: Url,
    /// The digest that it must have.
    pub checksum: Option<Digest>,
}

/// A downloaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadedFile {
    /// Its path on this machine.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its content.
    pub digest: Digest,
}

/// The downloaded files.
pub type Downloaded = BTreeMap<Remote, DownloadedFile>;

/// The last download of a URL, as a file in the cache.
#[derive(Debug, Serialize, Deserialize)]
struct DownloadRecord {
    digest: Digest,
    #[serde(rename = "version")]
    validators: Validators,
}

/// The downloads in a store's build cache.
#[derive(Debug, Clone)]
pub struct Downloads {
    dir: PathBuf,
    store: Store,
}

/// The media types of a chart's archive in a registry (Helm, and its first releases).
const CHART_LAYERS: [&str; 2] = ["application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip"];

impl Downloads {
    /// The downloads of a store.
    pub fn new(store: &Store) -> Self {
        Downloads { dir: store.root().join("build/downloads"), store: store.clone() }
    }

    /// Downloads a file, unless the cache has the version that the server has now.
    ///
    /// A file with the right checksum is used without a request. With [`Pull::Never`] so is the last download of the URL.
    ///
    /// # Errors
    /// Of kind `Network` if the server is unreachable; of kind `Verification` if the checksum is another.
    pub async fn fetch(
        &self,
        remote: &Remote,
        cache: &InstructionCache,
        client: &Client,
        pull: Pull,
        ctx: &Context,
    ) -> Result<DownloadedFile> {
        fs_err::create_dir_all(&self.dir)?;
        if let Some(checksum) = remote.checksum
            && let Some(cached) = self.cached(&checksum, cache, ctx)?
        {
            return Ok(cached);
        }
        let last = self.last(&remote.url, cache, ctx)?;
        let fetched = match (pull, last) {
            (Pull::Never, Some((cached, _))) => cached,
            (_, last) => {
                let known = last.as_ref().filter(|_| !cache.is_write_only()).map(|(_, validators)| validators.clone()).unwrap_or_default();
                match (self.request(&remote.url, &known, client, ctx).await, last) {
                    (Ok(Some(fetched)), _) => fetched,
                    (Ok(None), Some((cached, _))) => cached,
                    (Ok(None), None) => {
                        let message =
                            format!("{}: the server answered 304 Not Modified to an unconditional request", redacted_url(&remote.url));
                        return Err(Failure::failed(message).hint("check the proxy or cache in front of the server").into());
                    }
                    (Err(error), Some((cached, _))) if kind_of(&error) == Kind::Network => unreachable_server(error, cached, pull, ctx)?,
                    (Err(error), _) => return Err(error),
                }
            }
        };
        self.check(remote, &fetched, cache, ctx)?;
        Ok(fetched)
    }

    /// Requests a file from a server or registry; `None` if it still has the known version.
    async fn request(&self, url: &Url, known: &Validators, client: &Client, ctx: &Context) -> Result<Option<DownloadedFile>> {
        let (downloads, location) = (self.clone(), url.clone());
        if url.scheme() == "oci" {
            let (root, name) = self.pull(url, client, ctx).await?;
            return spawn_blocking(move || downloads.chart(&location, &root, &name)).await?.map(Some);
        }
        match client.fetch(url, known, &self.dir, ctx).await? {
            Some(file) => spawn_blocking(move || downloads.keep(&location, file)).await?.map(Some),
            None => Ok(None),
        }
    }

    /// The last download of a URL if the cache still has it, and its validators (ETag, Last-Modified).
    fn last(&self, url: &Url, cache: &InstructionCache, ctx: &Context) -> Result<Option<(DownloadedFile, Validators)>> {
        let Some(record) = self.record(url) else { return Ok(None) };
        Ok(self.cached(&record.digest, cache, ctx)?.map(|cached| (cached, record.validators)))
    }

    async fn pull(&self, url: &Url, client: &Client, ctx: &Context) -> Result<(Descriptor, Reference)> {
        let name: Reference = url.as_str().trim_start_matches("oci://").parse()?;
        let (root, _) = client.pull(&name, &[], &self.store, ctx).await?;
        Ok((root, name))
    }

    /// The archive of a pulled Helm chart.
    fn chart(&self, url: &Url, root: &Descriptor, name: &Reference) -> Result<DownloadedFile> {
        let not_a_chart = || {
            Failure::failed(format!("{} is not a Helm chart", name.familiar()))
                .hint("push a chart with `helm push`; add a container image with `IMAGES`")
        };
        let Content::Manifest(manifest) = self.store.read_manifest(root)? else { return Err(not_a_chart().into()) };
        let is_chart = |layer: &&Descriptor| CHART_LAYERS.contains(&layer.media_type().to_string().as_str());
        let blob = Blob::try_from(manifest.layers().iter().find(is_chart).with_context(not_a_chart)?)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        std::io::copy(&mut self.store.reader(&blob)?, &mut file)?;
        self.keep(url, HttpFile { file, blob, validators: Validators::default() })
    }

    /// The cached file with this digest, if its content is still the same.
    fn cached(&self, digest: &Digest, cache: &InstructionCache, ctx: &Context) -> Result<Option<DownloadedFile>> {
        let path = self.dir.join(digest.hex());
        let Ok(metadata) = path.metadata() else { return Ok(None) };
        let same = cache.files.digest(&path, ctx)? == *digest;
        Ok(same.then_some(DownloadedFile { path, size: metadata.len(), digest: *digest }))
    }

    fn record(&self, url: &Url) -> Option<DownloadRecord> {
        serde_json::from_slice(&std::fs::read(self.record_path(url)).ok()?).ok()
    }

    fn keep(&self, url: &Url, file: HttpFile) -> Result<DownloadedFile> {
        let path = self.dir.join(file.blob.digest.hex());
        file.file.as_file().sync_all()?;
        file.file.persist(&path).map_err(|error| error.error).with_context(|| path.display().to_string())?;
        let record = DownloadRecord { digest: file.blob.digest, validators: file.validators };
        atomic_file::write(&self.record_path(url), &serde_json::to_vec(&record)?, 0o644)?;
        Ok(DownloadedFile { path, size: file.blob.size, digest: file.blob.digest })
    }

    fn record_path(&self, url: &Url) -> PathBuf {
        self.dir.join(format!("{}.json", Digest::of(url.as_str().as_bytes()).hex()))
    }

    fn check(&self, remote: &Remote, fetched: &DownloadedFile, cache: &InstructionCache, ctx: &Context) -> Result<()> {
        let Some(checksum) = remote.checksum else { return Ok(()) };
        let found = cache.files.digest(&fetched.path, ctx)?;
        ensure!(
            found == checksum,
            Failure::verification(format!("{}: checksum is {found}, expected {checksum}", redacted_url(&remote.url)))
                .hint("the file changed on the server or on the way; use the new checksum only if you know why it changed")
        );
        Ok(())
    }
}

/// Uses the cached file if the server is unreachable and `--pull newer` allows it.
fn unreachable_server(error: anyhow::Error, cached: DownloadedFile, pull: Pull, ctx: &Context) -> Result<DownloadedFile> {
    if pull == Pull::Newer {
        ctx.warn(format!("{error:#}; using the last download of the file"));
        return Ok(cached);
    }
    let mut failure = Failure::network("cannot check whether the file changed: the server is unreachable");
    failure.hints = hints_of(&error).to_vec();
    Err(error.context(failure.hint("`--pull never` uses the last download of the file")))
}

/// The name of a downloaded file: the last component of its URL's path, if it is a valid file name.
pub fn file_name(url: &Url) -> Option<PathBuf> {
    let last = url.path_segments()?.next_back()?;
    let name = percent_encoding::percent_decode_str(last).decode_utf8().ok()?;
    let is_valid = !name.is_empty() && !matches!(&*name, "." | "..") && !name.contains(['/', '\0']);
    is_valid.then(|| PathBuf::from(&*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_are_named_as_their_urls_end() {
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
