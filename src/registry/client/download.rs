//! Downloads one blob into the store, from where the last try ended.

use anyhow::{Context as _, Result, ensure};
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Response, StatusCode};
use tokio::task::spawn_blocking;

use super::pulse::{IDLE, Pulse};
use super::refusal::unanswered;
use super::session::Session;
use super::transfer::{Meter, Mismatch, QUEUE, once_more};
use crate::error::{Failure, Kind, kind_of};
use crate::events::Job;
use crate::image::Blob;
use crate::registry::sink::Sink;
use crate::retry::{Policy, retry};
use crate::store::{Ingest, Store};

/// Downloads a blob; the bytes that went over the wire.
pub async fn download(session: &Session, blob: Blob, store: &Store, job: &Job) -> Result<u64> {
    let meter = Meter::new(job, "pull", &blob);
    let fetch = Download { session, blob, store, meter: &meter };
    let what = format!("pull {}: blob {}", session.place(), blob.digest);
    once_more(job, || retry(Policy::default(), job, &what, |_| fetch.attempt(&what))).await?;
    meter.done("");
    Ok(meter.moved_bytes())
}

struct Download<'a> {
    session: &'a Session,
    blob: Blob,
    store: &'a Store,
    meter: &'a Meter,
}

impl Download<'_> {
    async fn attempt(&self, what: &str) -> Result<()> {
        let (store, blob) = (self.store.clone(), self.blob);
        let mut ingest = spawn_blocking(move || store.ingest(&blob)).await??;
        if ingest.offset() < self.blob.size {
            let response = self.request(&mut ingest, what).await?;
            ingest = self.receive(response, ingest, what).await?;
        }
        let committed = spawn_blocking(move || ingest.commit()).await?;
        committed.map_err(|error| match kind_of(&error) {
            Kind::Verification => self.mismatch(format!("{error:#}")),
            _ => error.context(what.to_owned()),
        })
    }

    /// Asks for the bytes that are missing, with a closed range: some registries refuse open ones.
    async fn request(&self, ingest: &mut Ingest, what: &str) -> Result<Response> {
        let offset = ingest.offset();
        let url = self.session.url(&format!("blobs/{}", self.blob.digest));
        let range = format!("bytes={offset}-{}", self.blob.size.saturating_sub(1));
        let response =
            self.session.send(what, |http| if offset == 0 { http.get(&url) } else { http.get(&url).header(RANGE, &range) }).await?;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&response, offset) => Ok(response),
            StatusCode::OK => {
                if offset > 0 {
                    ingest.restart()?;
                }
                Ok(response)
            }
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                ingest.restart()?;
                Err(Failure::network(format!("{what}: the registry cannot go on from byte {offset}")).into())
            }
            StatusCode::NOT_FOUND => Err(Failure::failed(format!("{what}: not there (404)"))
                .hint("the registry has lost a part of the image: push it there again")
                .into()),
            _ => Err(self.session.refuse(response, what).await),
        }
    }

    /// Writes the answer to the disk beside reading it from the network.
    async fn receive(&self, mut response: Response, ingest: Ingest, what: &str) -> Result<Ingest> {
        let mut place = ingest.offset();
        self.meter.reach(place);
        let sink = Sink::new(ingest, QUEUE * 2);
        let pulse = Pulse::new(IDLE);
        let mut received: Result<()> = Ok(());
        loop {
            match pulse.watch(what, response.chunk()).await {
                Ok(Ok(Some(bytes))) => {
                    pulse.beat();
                    place += bytes.len() as u64;
                    self.meter.moved(bytes.len() as u64);
                    if place > self.blob.size || !sink.put(bytes).await {
                        break;
                    }
                    self.meter.reach(place);
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
        received?;
        if place > self.blob.size {
            ingest.restart()?;
            return Err(self.mismatch(format!("it is longer than {} bytes", self.blob.size)));
        }
        ensure!(place == self.blob.size, Failure::network(format!("{what}: the answer ended after {place} of {} bytes", self.blob.size)));
        Ok(ingest)
    }

    /// A blob whose bytes do not fit its digest is named, with the registry that it came from.
    fn mismatch(&self, why: String) -> anyhow::Error {
        let failure = Failure::verification(format!("blob {} from {} is broken", self.blob.digest, self.session.place()))
            .hint("the registry's copy is broken, or what is between changes bytes: push the image there again");
        anyhow::Error::from(Mismatch(why)).context(failure)
    }
}

fn begins_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = range.and_then(|text| text.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse::<u64>().ok());
    first == Some(offset)
}
