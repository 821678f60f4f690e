//! Uploads one blob from the store. Skips it if the repository has it, mounts it if another repository has it, and resumes an
//! interrupted upload if the registry still has it (OCI distribution specification, "pushing blobs").

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response, StatusCode};
use url::Url;

use super::error::ConnectionClosed;
use super::idle_timeout::{IDLE, IdleTimeout, RESPONSE};
use super::session::Session;
use super::transfer::{DigestMismatch, Meter, retry_on_mismatch};
use super::upload_body::UploadBody;
use crate::atomic_file;
use crate::error::{Failure, Kind, kind_of};
use crate::events::Context;
use crate::image::{Blob, Digest};
use crate::retry::{Policy, retry_while_progressing};
use crate::store::Store;

/// Blobs up to this size in bytes are sent in one request; resuming them is not worth it.
const SINGLE_REQUEST: u64 = 1 << 20;

/// The result of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadOutcome {
    /// The repository had the blob already.
    Exists,
    /// The blob was mounted from another repository.
    Mounted,
    /// The blob was sent.
    Pushed,
}

/// The upload of one blob.
pub struct Upload<'a> {
    /// The repository to push to.
    pub session: &'a Session,
    /// The blob.
    pub blob: Blob,
    /// The store to read it from.
    pub store: &'a Store,
    /// Another repository of the registry to mount it from.
    pub mount: Option<String>,
}

/// An upload session at the registry.
struct OpenUpload {
    url: Url,
    offset: u64,
    /// The minimum size of all chunks but the last, in bytes (`OCI-Chunk-Min-Length`).
    min_chunk: u64,
}

impl Upload<'_> {
    /// Uploads the blob; returns the result and the transferred bytes, those of failed attempts included.
    pub async fn run(&self, ctx: &Context) -> Result<(UploadOutcome, u64)> {
        let meter = Arc::new(Meter::new(ctx, "push", &self.blob));
        let what = format!("push {}: blob {}", self.session.repository(), self.blob.digest);
        let outcome = retry_on_mismatch(ctx, || {
            retry_while_progressing(Policy::default(), ctx, &what, || meter.confirmed(), |_| self.attempt(&meter, &what))
        })
        .await?;
        match outcome {
            UploadOutcome::Exists => meter.unchanged(),
            UploadOutcome::Mounted => meter.done("mounted"),
            UploadOutcome::Pushed => meter.done(""),
        }
        Ok((outcome, meter.moved_bytes()))
    }

    async fn attempt(&self, meter: &Arc<Meter>, what: &str) -> Result<UploadOutcome> {
        if self.exists(what).await? {
            self.discard_session();
            return Ok(UploadOutcome::Exists);
        }
        let mut upload = match self.resume(what).await? {
            Some(upload) => upload,
            None => match self.start(what).await? {
                Some(upload) => upload,
                None => return Ok(UploadOutcome::Mounted),
            },
        };
        meter.advance_to(upload.offset);
        meter.confirm(upload.offset);
        let mut source = UploadBody::open(self.store, self.blob, upload.offset);
        if self.blob.size > SINGLE_REQUEST && self.session.chunks.is_supported() {
            while upload.offset < self.blob.size {
                self.save_session(&upload.url)?;
                upload = self.send_chunk(upload, &mut source, meter, what).await?;
                meter.confirm(upload.offset);
            }
            self.save_session(&upload.url)?;
        }
        self.finish(upload, source, meter, what).await?;
        self.discard_session();
        Ok(UploadOutcome::Pushed)
    }

    async fn exists(&self, what: &str) -> Result<bool> {
        let url = self.session.url(&format!("blobs/{}", self.blob.digest));
        let response = self.session.send(what, |http| http.head(&url)).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.session.error_from(response, what).await),
        }
    }

    /// Starts an upload; `None` if the blob was mounted instead.
    async fn start(&self, what: &str) -> Result<Option<OpenUpload>> {
        let mut url = Url::parse(&self.session.url("blobs/uploads/")).context("registry URL")?;
        if let Some(from) = &self.mount {
            url.query_pairs_mut().append_pair("mount", &self.blob.digest.to_string()).append_pair("from", from);
        }
        let mut sent = self.session.send(what, |http| http.post(url.clone()).header(CONTENT_LENGTH, 0)).await;
        // the user may lack the permission to read the other repository
        if self.mount.is_some() && sent.as_ref().is_err_and(|error| kind_of(error) == Kind::Failed) {
            url.set_query(None);
            sent = self.session.send(what, |http| http.post(url.clone()).header(CONTENT_LENGTH, 0)).await;
        }
        let response = sent?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => {
                Ok(Some(OpenUpload { url: self.session.location(&response)?, offset: 0, min_chunk: min_chunk(&response) }))
            }
            _ => Err(self.session.error_from(response, what).await),
        }
    }

    /// Gets the offset of an upload that an earlier attempt or process started; `None` if there is none to resume.
    async fn resume(&self, what: &str) -> Result<Option<OpenUpload>> {
        let Some(url) = fs_err::read_to_string(self.session_file()).ok().and_then(|text| Url::parse(&text).ok()) else { return Ok(None) };
        let response = self.session.send(what, |http| http.get(url.clone())).await?;
        // 0 and 1 bytes have the same `Range`; resuming at 1 is not worth it
        let offset = received_bytes(&response).filter(|offset| (1..=self.blob.size).contains(offset));
        match (response.status(), offset) {
            (StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED, Some(offset)) => {
                let url = self.session.location(&response).unwrap_or(url);
                Ok(Some(OpenUpload { url, offset, min_chunk: min_chunk(&response) }))
            }
            _ => {
                self.discard_session();
                Ok(None)
            }
        }
    }

    /// Sends the next chunk.
    async fn send_chunk(&self, upload: OpenUpload, source: &mut UploadBody, meter: &Arc<Meter>, what: &str) -> Result<OpenUpload> {
        let chunks = &self.session.chunks;
        let length = chunks.size().max(upload.min_chunk).min(self.blob.size - upload.offset);
        let end = upload.offset + length;
        let request = self.session.http().patch(upload.url).header(CONTENT_RANGE, format!("{}-{}", upload.offset, end - 1));
        let sent = self.send(request, upload.offset, end, source, meter, what).await;
        let response = sent.inspect_err(|error| {
            // a proxy that refuses long bodies may just close the connection
            if error.downcast_ref::<ConnectionClosed>().is_some() {
                chunks.shrink(length);
            }
        })?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::NO_CONTENT => {}
            StatusCode::PAYLOAD_TOO_LARGE if chunks.shrink(length) => {
                return Err(Failure::network(format!("{what}: the registry refuses chunks of {length} bytes")).into());
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                chunks.set_unsupported();
                self.discard_session();
                return Err(Failure::network(format!("{what}: the registry does not accept chunked uploads")).into());
            }
            // the next attempt asks for the offset
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Failure::network(format!("{what}: the registry cannot resume at byte {}", upload.offset)).into());
            }
            _ => return Err(self.rejected(response, what).await),
        }
        let url = self.session.location(&response)?;
        match received_bytes(&response) {
            Some(offset) if offset != end && end > 1 => {
                self.save_session(&url)?;
                Err(Failure::network(format!("{what}: the registry received {offset} of {end} bytes")).into())
            }
            _ => Ok(OpenUpload { url, offset: end, min_chunk: upload.min_chunk.max(min_chunk(&response)) }),
        }
    }

    /// Sends the rest, if any, with the digest, which ends the upload.
    async fn finish(&self, upload: OpenUpload, mut source: UploadBody, meter: &Arc<Meter>, what: &str) -> Result<()> {
        let mut url = upload.url;
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let response = if upload.offset == self.blob.size {
            // the blob in the store must be verified before the upload ends
            source.finish().await?;
            self.session.send_within(RESPONSE, what, |http| http.put(url.clone()).header(CONTENT_LENGTH, 0)).await?
        } else {
            let request = self.session.http().put(url);
            let response = self.send(request, upload.offset, self.blob.size, &mut source, meter, what).await?;
            source.finish().await?;
            response
        };
        if response.status() != StatusCode::CREATED && response.status() != StatusCode::NO_CONTENT {
            return Err(self.rejected(response, what).await);
        }
        Ok(())
    }

    async fn send(
        &self,
        request: RequestBuilder,
        from: u64,
        to: u64,
        source: &mut UploadBody,
        meter: &Arc<Meter>,
        what: &str,
    ) -> Result<Response> {
        let idle = IdleTimeout::new(IDLE + Duration::from_secs(30));
        let body = source.body(from, to - from, meter, &idle);
        let sent_bytes = body.counter();
        let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, to - from).body(body.stream);
        let sent = self.session.send_once(what, request, &idle).await;
        meter.add_moved(sent_bytes.load(Ordering::Relaxed));
        match sent {
            Ok(response) => Ok(response),
            // an error of the local disk is the cause of the broken connection
            Err(error) => Err(source.failure().await.unwrap_or(error)),
        }
    }

    /// The error if the registry rejects the upload; it is of kind `Network` if a new upload of this blob may succeed.
    async fn rejected(&self, response: Response, what: &str) -> anyhow::Error {
        self.discard_session();
        let status = response.status();
        let error = self.session.error_from(response, what).await;
        match status.as_u16() {
            400 if error.to_string().contains("digest") => anyhow::Error::from(DigestMismatch(format!("{error:#}"))).context(
                Failure::verification(format!("{what}: the registry received different bytes"))
                    .hint("a proxy in front of the registry changes the bytes: connect without it"),
            ),
            400 | 404 | 409 | 416 => error.context(Failure::network(what.to_owned())),
            _ => error,
        }
    }

    /// The file with the URL of the upload, so that another process can resume it.
    fn session_file(&self) -> PathBuf {
        let key = Digest::of(format!("{} {}", self.session.repository(), self.blob.digest).as_bytes());
        self.store.root().join("uploads").join(key.hex())
    }

    fn save_session(&self, url: &Url) -> Result<()> {
        atomic_file::write(&self.session_file(), url.as_str().as_bytes(), 0o600)
    }

    fn discard_session(&self) {
        std::fs::remove_file(self.session_file()).ok();
    }
}

/// The minimum chunk size that a registry requires, in bytes.
fn min_chunk(response: &Response) -> u64 {
    let header = response.headers().get("oci-chunk-min-length").and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The bytes that a registry has received, from `Range: 0-N`. `0-0` stands for 0 or 1 bytes and counts as 0.
fn received_bytes(response: &Response) -> Option<u64> {
    let range = response.headers().get("range")?.to_str().ok()?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
