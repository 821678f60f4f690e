//! Uploads one blob from the store: not at all where the registry has it, mounted where another repository has it, and
//! from where the last try ended where the registry allows it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{RequestBuilder, Response, StatusCode};
use url::Url;

use super::error::ConnectionClosed;
use super::idle_timeout::{ANSWER, IDLE, IdleTimeout};
use super::session::Session;
use super::transfer::{Meter, Mismatch, once_more};
use super::upload_body::UploadBody;
use crate::atomic_file;
use crate::error::{Failure, Kind, kind_of};
use crate::events::Context;
use crate::image::{Blob, Digest};
use crate::retry::{Policy, retry_stuck};
use crate::store::Store;

/// Blobs up to this size go in one request; an upload of them is not worth resuming.
const SMALL: u64 = 1 << 20;

/// What became of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The registry had it in this repository.
    Present,
    /// The registry had it in another repository.
    Mounted,
    /// It went over the wire.
    Sent,
}

/// The upload of one blob.
pub struct Upload<'a> {
    /// Where to.
    pub session: &'a Session,
    /// Which blob.
    pub blob: Blob,
    /// Where from.
    pub store: &'a Store,
    /// Another repository of the registry that may have it.
    pub mount: Option<String>,
}

/// An upload that the registry has opened.
struct Opened {
    url: Url,
    offset: u64,
    /// No chunk but the last may be smaller (`OCI-Chunk-Min-Length`).
    least: u64,
}

impl Upload<'_> {
    /// Uploads it; what became of it, and the bytes that went over the wire, those of failed tries included.
    pub async fn run(&self, ctx: &Context) -> Result<(Moved, u64)> {
        let meter = Arc::new(Meter::new(ctx, "push", &self.blob));
        let what = format!("push {}: blob {}", self.session.place(), self.blob.digest);
        let moved = once_more(ctx, || retry_stuck(Policy::default(), ctx, &what, || meter.kept(), |_| self.attempt(&meter, &what))).await?;
        match moved {
            Moved::Present => meter.unchanged(),
            Moved::Mounted => meter.done("mounted"),
            Moved::Sent => meter.done(""),
        }
        Ok((moved, meter.moved_bytes()))
    }

    async fn attempt(&self, meter: &Arc<Meter>, what: &str) -> Result<Moved> {
        if self.is_there(what).await? {
            self.discard_session();
            return Ok(Moved::Present);
        }
        let mut opened = match self.resume(what).await? {
            Some(opened) => opened,
            None => match self.open(what).await? {
                Some(opened) => opened,
                None => return Ok(Moved::Mounted),
            },
        };
        meter.reach(opened.offset);
        meter.keep(opened.offset);
        let mut source = UploadBody::open(self.store, self.blob, opened.offset);
        if self.blob.size > SMALL && self.session.chunks.are_taken() {
            while opened.offset < self.blob.size {
                self.remember(&opened.url)?;
                opened = self.patch(opened, &mut source, meter, what).await?;
                meter.keep(opened.offset);
            }
            self.remember(&opened.url)?;
        }
        self.close(opened, source, meter, what).await?;
        self.discard_session();
        Ok(Moved::Sent)
    }

    async fn is_there(&self, what: &str) -> Result<bool> {
        let url = self.session.url(&format!("blobs/{}", self.blob.digest));
        let response = self.session.send(what, |http| http.head(&url)).await?;
        match response.status() {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.session.refuse(response, what).await),
        }
    }

    /// Opens an upload; `None` when the blob could be mounted instead.
    async fn open(&self, what: &str) -> Result<Option<Opened>> {
        let mut url = Url::parse(&self.session.url("blobs/uploads/")).context("registry URL")?;
        if let Some(from) = &self.mount {
            url.query_pairs_mut().append_pair("mount", &self.blob.digest.to_string()).append_pair("from", from);
        }
        let mut sent = self.session.send(what, |http| http.post(url.clone()).header(CONTENT_LENGTH, 0)).await;
        // whoever may push here may be forbidden to read there
        if self.mount.is_some() && sent.as_ref().is_err_and(|error| kind_of(error) == Kind::Failed) {
            url.set_query(None);
            sent = self.session.send(what, |http| http.post(url.clone()).header(CONTENT_LENGTH, 0)).await;
        }
        let response = sent?;
        match response.status() {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => Ok(Some(Opened { url: self.session.location(&response)?, offset: 0, least: least(&response) })),
            _ => Err(self.session.refuse(response, what).await),
        }
    }

    /// Asks how far an upload came that an earlier try, or an earlier process, has begun.
    async fn resume(&self, what: &str) -> Result<Option<Opened>> {
        let Some(url) = fs_err::read_to_string(self.journal()).ok().and_then(|text| Url::parse(&text).ok()) else { return Ok(None) };
        let response = self.session.send(what, |http| http.get(url.clone())).await?;
        // nothing and one byte read alike: one byte is not worth to know
        let offset = received(&response).filter(|offset| (1..=self.blob.size).contains(offset));
        match (response.status(), offset) {
            (StatusCode::NO_CONTENT | StatusCode::OK | StatusCode::ACCEPTED, Some(offset)) => {
                let url = self.session.location(&response).unwrap_or(url);
                Ok(Some(Opened { url, offset, least: least(&response) }))
            }
            _ => {
                self.discard_session();
                Ok(None)
            }
        }
    }

    /// Sends the next chunk.
    async fn patch(&self, opened: Opened, source: &mut UploadBody, meter: &Arc<Meter>, what: &str) -> Result<Opened> {
        let chunks = &self.session.chunks;
        let length = chunks.size().max(opened.least).min(self.blob.size - opened.offset);
        let end = opened.offset + length;
        let request = self.session.http().patch(opened.url).header(CONTENT_RANGE, format!("{}-{}", opened.offset, end - 1));
        let sent = self.send(request, opened.offset, end, source, meter, what).await;
        let response = sent.inspect_err(|error| {
            // a proxy that refuses long bodies may just hang up
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
                chunks.give_up();
                self.discard_session();
                return Err(Failure::network(format!("{what}: the registry does not accept chunked uploads")).into());
            }
            // the next try asks how far the upload is
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(Failure::network(format!("{what}: the registry cannot resume at byte {}", opened.offset)).into());
            }
            _ => return Err(self.given_up(response, what).await),
        }
        let url = self.session.location(&response)?;
        match received(&response) {
            Some(offset) if offset != end && end > 1 => {
                self.remember(&url)?;
                Err(Failure::network(format!("{what}: the registry received {offset} of {end} bytes")).into())
            }
            _ => Ok(Opened { url, offset: end, least: opened.least.max(least(&response)) }),
        }
    }

    /// Sends what is left, if anything, and says the digest.
    async fn close(&self, opened: Opened, mut source: UploadBody, meter: &Arc<Meter>, what: &str) -> Result<()> {
        let mut url = opened.url;
        url.query_pairs_mut().append_pair("digest", &self.blob.digest.to_string());
        let response = if opened.offset == self.blob.size {
            // the store's copy is known to be good before the registry is told that this is all
            source.finish().await?;
            self.session.send_within(ANSWER, what, |http| http.put(url.clone()).header(CONTENT_LENGTH, 0)).await?
        } else {
            let request = self.session.http().put(url);
            let response = self.send(request, opened.offset, self.blob.size, &mut source, meter, what).await?;
            source.finish().await?;
            response
        };
        if response.status() != StatusCode::CREATED && response.status() != StatusCode::NO_CONTENT {
            return Err(self.given_up(response, what).await);
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
        let pulse = IdleTimeout::new(IDLE + Duration::from_secs(30));
        let body = source.body(from, to - from, meter, &pulse);
        let taken = body.counter();
        let request = request.header(CONTENT_TYPE, "application/octet-stream").header(CONTENT_LENGTH, to - from).body(body.stream);
        let sent = self.session.send_once(what, request, &pulse).await;
        meter.moved(taken.load(Ordering::Relaxed));
        match sent {
            Ok(response) => Ok(response),
            // what the local disk says explains more than the connection that it broke
            Err(error) => Err(source.failure().await.unwrap_or(error)),
        }
    }

    /// The failure when the registry no longer wants this upload: it is begun anew, this blob alone.
    async fn given_up(&self, response: Response, what: &str) -> anyhow::Error {
        self.discard_session();
        let status = response.status();
        let error = self.session.refuse(response, what).await;
        match status.as_u16() {
            400 if error.to_string().contains("digest") => anyhow::Error::from(Mismatch(format!("{error:#}"))).context(
                Failure::verification(format!("{what}: the registry received different bytes"))
                    .hint("a proxy in front of the registry changes the bytes: connect without it"),
            ),
            400 | 404 | 409 | 416 => error.context(Failure::network(what.to_owned())),
            _ => error,
        }
    }

    /// Where the URL of the open upload is kept, so that another process can go on with it.
    fn journal(&self) -> PathBuf {
        let key = Digest::of(format!("{} {}", self.session.place(), self.blob.digest).as_bytes());
        self.store.root().join("uploads").join(key.hex())
    }

    fn remember(&self, url: &Url) -> Result<()> {
        atomic_file::write(&self.journal(), url.as_str().as_bytes(), 0o600)
    }

    fn discard_session(&self) {
        std::fs::remove_file(self.journal()).ok();
    }
}

/// The least length of chunks that a registry asks for.
fn least(response: &Response) -> u64 {
    let header = response.headers().get("oci-chunk-min-length").and_then(|value| value.to_str().ok());
    header.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// How many bytes a registry has, by the `Range: 0-N` of its answer. Both nothing and one byte read as `0-0`: that is nothing.
fn received(response: &Response) -> Option<u64> {
    let range = response.headers().get("range")?.to_str().ok()?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
