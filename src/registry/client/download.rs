//! Downloads one blob into the store by ranges, resuming where the last attempt ended.

use anyhow::{Context as _, Result};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::error::transport_error;
use super::idle_timeout::{IDLE, IdleTimeout};
use super::session::Session;
use super::transfer::{DigestMismatch, Meter, retry_on_mismatch};
use crate::error::{Failure, Kind, kind_of};
use crate::events::Context;
use crate::image::Blob;
use crate::registry::sink::Sink;
use crate::retry::{Policy, retry_while_progressing};
use crate::store::{Ingest, Store};

/// The bytes that all downloads together may have in flight, and lose when the process is killed: 8 MiB, less the headers and
/// manifests that are requested again.
const AT_RISK: u64 = (8 << 20) - (256 << 10);
/// The minimum size of a range in bytes; smaller requests cost too much time.
const MIN_RANGE: u64 = 1 << 20;
/// Buffers in the queue between network and disk; they are lost when the process is killed.
const QUEUE_LENGTH: usize = 2;

/// The bytes that each download requests at a time from a near registry, if `at_once` of these blobs are downloaded together.
pub fn range_size(blobs: &[Blob], at_once: usize) -> u64 {
    let at_once = blobs.iter().filter(|blob| blob.size > MIN_RANGE).count().clamp(1, at_once);
    (AT_RISK / at_once as u64).max(MIN_RANGE)
}

/// Downloads a blob in ranges of `range_size` bytes; returns the transferred bytes.
pub async fn download(session: &Session, blob: Blob, range_size: u64, store: &Store, ctx: &Context) -> Result<u64> {
    let meter = Meter::new(ctx, "pull", &blob);
    let download = Download { session, blob, store, range_size, meter: &meter, ingest: Mutex::default() };
    let what = format!("pull {}: blob {}", session.repository(), blob.digest);
    retry_on_mismatch(ctx, || {
        retry_while_progressing(Policy::default(), ctx, &what, || meter.confirmed(), |_| download.attempt(ctx, &what))
    })
    .await?;
    meter.done("");
    Ok(meter.moved_bytes())
}

struct Download<'a> {
    session: &'a Session,
    blob: Blob,
    store: &'a Store,
    /// The initial size of a range in bytes.
    range_size: u64,
    meter: &'a Meter,
    /// The file of an earlier attempt, kept open: to open it again means to hash it again.
    ingest: Mutex<Option<Ingest>>,
}

/// A response, and the offset of the byte after its last.
struct RangeResponse {
    response: Response,
    end: u64,
}

impl Download<'_> {
    /// Downloads what is missing, range by range. With a near registry, socket buffers fill faster than the disk can write, so
    /// ranges stay small; with a far one, buffers are empty but each request costs a round trip, so ranges grow.
    async fn attempt(&self, ctx: &Context, what: &str) -> Result<()> {
        let (store, blob, open) = (self.store.clone(), self.blob, self.ingest.lock().await.take());
        let mut ingest = match open {
            Some(ingest) => ingest,
            None => spawn_blocking(move || store.ingest(&blob)).await??,
        };
        let mut range_size = self.range_size;
        while ingest.offset() < self.blob.size {
            ctx.check()?;
            let response = self.request(&mut ingest, range_size, what).await?;
            range_size = if self.session.is_near() { self.range_size } else { range_size.saturating_mul(2) };
            ingest = self.receive(response, ingest, what).await?;
        }
        let committed = spawn_blocking(move || ingest.commit()).await?;
        committed.map_err(|error| match kind_of(&error) {
            Kind::Verification => self.mismatch(format!("{error:#}")),
            _ => error.context(what.to_owned()),
        })
    }

    /// Requests the next range, with its end since some registries refuse open ranges, or a small blob without a range.
    async fn request(&self, ingest: &mut Ingest, range_size: u64, what: &str) -> Result<RangeResponse> {
        let offset = ingest.offset();
        let end = offset.saturating_add(range_size).min(self.blob.size);
        let whole = offset == 0 && end == self.blob.size;
        let url = self.session.url(&format!("blobs/{}", self.blob.digest));
        let range = format!("bytes={offset}-{}", end.saturating_sub(1));
        let response = self.session.send(what, |http| if whole { http.get(&url) } else { http.get(&url).header(RANGE, &range) }).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if content_range(&response) == Some((offset, end)) => Ok(RangeResponse { response, end }),
            StatusCode::OK => {
                if offset > 0 {
                    ingest.restart()?;
                }
                Ok(RangeResponse { response, end: self.blob.size })
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                ingest.restart()?;
                Err(Failure::network(format!("{what}: the registry cannot resume at byte {offset}")).into())
            }
            StatusCode::NOT_FOUND => Err(Failure::failed(format!("{what}: not found (404)"))
                .hint("the image in the registry is incomplete: push it again")
                .into()),
            _ => Err(self.session.error_from(response, what).await),
        }
    }

    /// Writes the response to the disk while reading it from the network.
    async fn receive(&self, response: RangeResponse, ingest: Ingest, what: &str) -> Result<Ingest> {
        let RangeResponse { mut response, end } = response;
        let mut offset = ingest.offset();
        self.meter.advance_to(offset);
        let sink = Sink::new(ingest, QUEUE_LENGTH);
        let idle = IdleTimeout::new(IDLE);
        let mut received: Result<()> = Ok(());
        loop {
            match idle.wait_for(what, response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    idle.reset();
                    offset += bytes.len() as u64;
                    self.meter.add_moved(bytes.len() as u64);
                    if offset > end || !sink.send(bytes).await {
                        break;
                    }
                    self.meter.advance_to(offset);
                    self.meter.confirm(offset);
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    received = Err(transport_error(error, self.session.host()).context(Failure::network(what)));
                    break;
                }
                Err(timeout) => {
                    received = Err(timeout);
                    break;
                }
            }
        }
        let mut ingest = sink.finish().await.context("the local store")?;
        if let Err(error) = received {
            *self.ingest.lock().await = Some(ingest);
            return Err(error);
        }
        if offset > end {
            ingest.restart()?;
            return Err(self.mismatch(format!("more than {end} bytes")));
        }
        if offset < end {
            *self.ingest.lock().await = Some(ingest);
            return Err(Failure::network(format!("{what}: the response ended after {offset} of {end} bytes")).into());
        }
        Ok(ingest)
    }

    /// The error for a blob that does not match its digest, with the registry that sent it.
    fn mismatch(&self, why: String) -> anyhow::Error {
        let failure = Failure::verification(format!("blob {} from {} is damaged", self.blob.digest, self.session.repository()))
            .hint("the copy in the registry is damaged, or a proxy changes the bytes: push the image again");
        anyhow::Error::from(DigestMismatch(why)).context(failure)
    }
}

/// The offsets of the first byte of a partial response, and of the byte after its last (`Content-Range`).
fn content_range(response: &Response) -> Option<(u64, u64)> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (first, last) = range.split('/').next()?.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?.checked_add(1)?))
}
