//! Downloads one blob into the store, piece by piece, from where the last try ended.

use anyhow::{Context as _, Result};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::error::unanswered;
use super::idle_timeout::{IDLE, IdleTimeout};
use super::session::Session;
use super::transfer::{Meter, Mismatch, once_more};
use crate::error::{Failure, Kind, kind_of};
use crate::events::Context;
use crate::image::Blob;
use crate::registry::sink::Sink;
use crate::retry::{Policy, retry_stuck};
use crate::store::{Ingest, Store};

/// What all downloads together may have under way and lose when the process is killed, in bytes: 8 MiB with what goes around it,
/// headers and documents that are asked for again.
const AT_RISK: u64 = (8 << 20) - (256 << 10);
/// A smaller piece would cost more time than it is worth.
const SMALLEST: u64 = 1 << 20;
/// Pieces that wait between network and disk; what waits is lost when the process is killed.
const WAITING: usize = 2;

/// Bytes that each of these downloads, so many at once, asks for at a time where the registry is near.
pub fn piece(blobs: &[Blob], at_once: usize) -> u64 {
    let at_once = blobs.iter().filter(|blob| blob.size > SMALLEST).count().clamp(1, at_once);
    (AT_RISK / at_once as u64).max(SMALLEST)
}

/// Downloads a blob in pieces of so many bytes; the bytes that went over the wire.
pub async fn download(session: &Session, blob: Blob, piece: u64, store: &Store, ctx: &Context) -> Result<u64> {
    let meter = Meter::new(ctx, "pull", &blob);
    let fetch = Download { session, blob, store, piece, meter: &meter, open: Mutex::default() };
    let what = format!("pull {}: blob {}", session.place(), blob.digest);
    once_more(ctx, || retry_stuck(Policy::default(), ctx, &what, || meter.kept(), |_| fetch.attempt(ctx, &what))).await?;
    meter.done("");
    Ok(meter.moved_bytes())
}

struct Download<'a> {
    session: &'a Session,
    blob: Blob,
    store: &'a Store,
    /// Bytes asked for at once.
    piece: u64,
    meter: &'a Meter,
    /// What an earlier try left open: opening it anew would mean to read it all.
    open: Mutex<Option<Ingest>>,
}

/// An answer, and the byte before which it ends.
struct Answer {
    response: Response,
    end: u64,
}

impl Download<'_> {
    /// Gets what is missing, piece by piece. Where a registry is near, sockets' buffers fill faster than the disk takes it, so
    /// pieces are small; where it is far, buffers are empty but each question costs time, so pieces grow.
    async fn attempt(&self, ctx: &Context, what: &str) -> Result<()> {
        let (store, blob, open) = (self.store.clone(), self.blob, self.open.lock().await.take());
        let mut ingest = match open {
            Some(ingest) => ingest,
            None => spawn_blocking(move || store.ingest(&blob)).await??,
        };
        let mut piece = self.piece;
        while ingest.offset() < self.blob.size {
            ctx.check()?;
            let answer = self.request(&mut ingest, piece, what).await?;
            piece = if self.session.is_near() { self.piece } else { piece.saturating_mul(2) };
            ingest = self.receive(answer, ingest, what).await?;
        }
        let committed = spawn_blocking(move || ingest.commit()).await?;
        committed.map_err(|error| match kind_of(&error) {
            Kind::Verification => self.mismatch(format!("{error:#}")),
            _ => error.context(what.to_owned()),
        })
    }

    /// Asks for the next piece with a closed range, since some registries refuse open ones, or for a small blob as a whole.
    async fn request(&self, ingest: &mut Ingest, piece: u64, what: &str) -> Result<Answer> {
        let offset = ingest.offset();
        let end = offset.saturating_add(piece).min(self.blob.size);
        let whole = offset == 0 && end == self.blob.size;
        let url = self.session.url(&format!("blobs/{}", self.blob.digest));
        let range = format!("bytes={offset}-{}", end.saturating_sub(1));
        let response = self.session.send(what, |http| if whole { http.get(&url) } else { http.get(&url).header(RANGE, &range) }).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if part(&response) == Some((offset, end)) => Ok(Answer { response, end }),
            StatusCode::OK => {
                if offset > 0 {
                    ingest.restart()?;
                }
                Ok(Answer { response, end: self.blob.size })
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                ingest.restart()?;
                Err(Failure::network(format!("{what}: the registry cannot resume at byte {offset}")).into())
            }
            StatusCode::NOT_FOUND => Err(Failure::failed(format!("{what}: not found (404)"))
                .hint("the image in the registry is incomplete: push it again")
                .into()),
            _ => Err(self.session.refuse(response, what).await),
        }
    }

    /// Writes the answer to the disk beside reading it from the network.
    async fn receive(&self, answer: Answer, ingest: Ingest, what: &str) -> Result<Ingest> {
        let Answer { mut response, end } = answer;
        let mut place = ingest.offset();
        self.meter.reach(place);
        let sink = Sink::new(ingest, WAITING);
        let pulse = IdleTimeout::new(IDLE);
        let mut received: Result<()> = Ok(());
        loop {
            match pulse.watch(what, response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    pulse.beat();
                    place += bytes.len() as u64;
                    self.meter.moved(bytes.len() as u64);
                    if place > end || !sink.put(bytes).await {
                        break;
                    }
                    self.meter.reach(place);
                    self.meter.keep(place);
                }
                Ok(Ok(None)) => break,
                Ok(Err(error)) => {
                    received = Err(unanswered(error, self.session.host()).context(Failure::network(what)));
                    break;
                }
                Err(silence) => {
                    received = Err(silence);
                    break;
                }
            }
        }
        let mut ingest = sink.end().await.context("the local store")?;
        if let Err(error) = received {
            *self.open.lock().await = Some(ingest);
            return Err(error);
        }
        if place > end {
            ingest.restart()?;
            return Err(self.mismatch(format!("more than {end} bytes")));
        }
        if place < end {
            *self.open.lock().await = Some(ingest);
            return Err(Failure::network(format!("{what}: the response ended after {place} of {end} bytes")).into());
        }
        Ok(ingest)
    }

    /// A blob whose bytes do not fit its digest is named, with the registry that it came from.
    fn mismatch(&self, why: String) -> anyhow::Error {
        let failure = Failure::verification(format!("blob {} from {} is damaged", self.blob.digest, self.session.place()))
            .hint("the copy in the registry is damaged, or a proxy changes the bytes: push the image again");
        anyhow::Error::from(Mismatch(why)).context(failure)
    }
}

/// The first byte of a partial answer, and the one after its last.
fn part(response: &Response) -> Option<(u64, u64)> {
    let range = response.headers().get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (first, last) = range.split('/').next()?.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse::<u64>().ok()?.checked_add(1)?))
}
