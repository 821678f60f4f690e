//! Uploading blobs: at once, streamed or in chunks, and gone on with after either end died.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_RANGE};
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use futures_util::StreamExt as _;
use tokio::task::spawn_blocking;

use super::response;
use super::state::{State, parameter, query};
use crate::error::{Kind, kind_of};
use crate::image::Digest;
use crate::registry::sink::Sink;
use crate::store::Upload;

/// How long a client may be silent in the middle of a body.
const IDLE: Duration = Duration::from_secs(60);
/// An upload that nobody touched for so long is closed; it is opened again, and counted again, when somebody goes on with it.
const OPEN: Duration = Duration::from_secs(600);
/// Pieces that wait for the disk.
const QUEUE: usize = 8;

/// The uploads under way that are open, by id: opening one means to read what is there.
#[derive(Debug, Default)]
pub struct Uploads {
    open: Mutex<HashMap<String, Slot>>,
}

/// The place of an upload, held by whoever works on it.
type Place = Arc<tokio::sync::Mutex<Option<Upload>>>;

#[derive(Debug)]
struct Slot {
    place: Place,
    used: Instant,
}

impl Uploads {
    fn place(&self, id: &str) -> Place {
        let mut open = self.open();
        open.retain(|_, slot| Arc::strong_count(&slot.place) > 1 || slot.used.elapsed() < OPEN);
        let slot = open.entry(id.to_owned()).or_insert_with(|| Slot { place: Place::default(), used: Instant::now() });
        slot.used = Instant::now();
        slot.place.clone()
    }

    fn remove(&self, id: &str) {
        self.open().remove(id);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins an upload; or mounts a blob that another repository has; or takes it whole, when the digest is told at once.
    pub async fn begin(self: &Arc<Self>, request: &Parts, body: Body, repository: &str) -> Result<Response<Body>> {
        let mount = parameter(query(request), "mount").and_then(|text| text.parse::<Digest>().ok());
        if let Some(digest) = mount
            && self.hold_if_there(digest).await?
        {
            return Ok(response::created(format!("/v2/{repository}/blobs/{digest}"), &digest));
        }
        let digest = parameter(query(request), "digest");
        if digest.as_ref().is_some_and(|text| text.parse::<Digest>().is_err()) {
            return Ok(response::bad_digest());
        }
        let site = self.clone();
        let begun = spawn_blocking(move || {
            let _in_use = site.store.lock_shared()?;
            let (id, upload) = site.store.begin_upload()?;
            site.pending.add(&id)?;
            anyhow::Ok((id, upload))
        });
        let (id, upload) = begun.await??;
        if let Some(digest) = digest {
            let closed = self.close(upload, body, repository, &digest).await;
            self.pending.done([id.as_str()]);
            return closed;
        }
        let state = state(StatusCode::ACCEPTED, repository, &id, &upload);
        *self.uploads.place(&id).lock().await = Some(upload);
        Ok(state)
    }

    /// Goes on with an upload: tells how far it is (GET), takes more of it (PATCH), ends it (PUT), gives it up (DELETE).
    pub async fn upload(self: &Arc<Self>, request: &Parts, body: Body, repository: &str, id: &str) -> Result<Response<Body>> {
        let place = self.uploads.place(id);
        let mut held = place.lock().await;
        let Some(upload) = self.opened(held.take(), id).await? else {
            self.uploads.remove(id);
            self.pending.done([id]);
            return Ok(response::error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "no such upload: start a new one"));
        };
        self.hold(id).await?;
        let digest = parameter(query(request), "digest").filter(|text| text.parse::<Digest>().is_ok());
        let (left, answer) = match (&request.method, misplaced(request, upload.offset()), digest) {
            (&Method::PATCH | &Method::PUT, Some(status), _) => {
                let refused = state(status, repository, id, &upload);
                (Some(upload), refused)
            }
            (&Method::PATCH, None, _) => {
                let (upload, refused) = receive(body, upload).await?;
                let taken = refused.unwrap_or_else(|| state(StatusCode::ACCEPTED, repository, id, &upload));
                (Some(upload), taken)
            }
            (&Method::PUT, None, None) => (Some(upload), response::bad_digest()),
            (&Method::PUT, None, Some(digest)) => (None, self.close(upload, body, repository, &digest).await?),
            (&Method::DELETE, ..) => {
                spawn_blocking(move || upload.cancel()).await??;
                (None, response::bare(StatusCode::NO_CONTENT, &[]))
            }
            _ => {
                let told = state(StatusCode::NO_CONTENT, repository, id, &upload);
                (Some(upload), told)
            }
        };
        if left.is_none() {
            self.uploads.remove(id);
            self.pending.done([id]);
        }
        *held = left;
        Ok(answer)
    }

    /// The upload that is held open, or else the one that is on the disk.
    async fn opened(&self, held: Option<Upload>, id: &str) -> Result<Option<Upload>> {
        if held.is_some() {
            return Ok(held);
        }
        let (store, id) = (self.store.clone(), id.to_owned());
        spawn_blocking(move || store.upload(&id)).await?
    }

    /// Takes the rest of a blob and puts it in its place.
    async fn close(self: &Arc<Self>, upload: Upload, body: Body, repository: &str, digest: &str) -> Result<Response<Body>> {
        let digest: Digest = digest.parse()?;
        let (upload, refused) = receive(body, upload).await?;
        if let Some(refused) = refused {
            return Ok(refused);
        }
        self.hold(digest).await?;
        match spawn_blocking(move || upload.commit(&digest)).await? {
            Ok(_) => Ok(response::created(format!("/v2/{repository}/blobs/{digest}"), &digest)),
            Err(error) => {
                self.pending.done([digest.to_string().as_str()]);
                match kind_of(&error) {
                    Kind::Verification => Ok(response::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &format!("{error:#}"))),
                    _ => Err(error),
                }
            }
        }
    }
}

/// Writes a body to the end of an upload. When the client goes away or falls silent, what came is kept, and a refusal is given.
async fn receive(body: Body, upload: Upload) -> Result<(Upload, Option<Response<Body>>)> {
    let mut pieces = body.into_data_stream();
    let sink = Sink::new(upload, QUEUE);
    let refused = loop {
        let refuse = |status, message| Some(response::error(status, "BLOB_UPLOAD_INVALID", message));
        match tokio::time::timeout(IDLE, pieces.next()).await {
            Ok(Some(Ok(bytes))) => {
                if !sink.put(bytes).await {
                    break None;
                }
            }
            Ok(None) => break None,
            Ok(Some(Err(_))) => break refuse(StatusCode::BAD_REQUEST, "the request body ended early"),
            Err(_) => break refuse(StatusCode::REQUEST_TIMEOUT, "no data for 60 s"),
        }
    };
    Ok((sink.end().await.context("the registry's store")?, refused))
}

/// How far an upload is. Nothing and one byte are both `0-0`, as docker's registry has it.
fn state(status: StatusCode, repository: &str, id: &str, upload: &Upload) -> Response<Body> {
    let headers = [
        ("location", format!("/v2/{repository}/blobs/uploads/{id}")),
        ("range", format!("0-{}", upload.offset().saturating_sub(1))),
        ("docker-upload-uuid", id.to_owned()),
    ];
    response::bare(status, &headers)
}

/// The status that refuses a chunk which does not begin where the upload ends, or which is not as long as it says.
fn misplaced(request: &Parts, offset: u64) -> Option<StatusCode> {
    let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
    let range = header(CONTENT_RANGE)?;
    let Some((first, last)) = chunk(range) else { return Some(StatusCode::BAD_REQUEST) };
    let length = header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    match length {
        _ if first != offset => Some(StatusCode::RANGE_NOT_SATISFIABLE),
        Some(length) if last < first || length != last - first + 1 => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

/// The first and last byte in a `Content-Range`: `0-99` as the OCI specification writes it, or `bytes 0-99/100` as HTTP does.
fn chunk(range: &str) -> Option<(u64, u64)> {
    let range = range.trim().strip_prefix("bytes").unwrap_or(range).trim_start_matches([' ', '=']);
    let (first, last) = range.split('/').next()?.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_read_as_oci_and_as_http_write_them() {
        for (range, expected) in [
            ("0-99", Some((0, 99))),
            ("bytes 5-9/100", Some((5, 9))),
            ("bytes=5-9", Some((5, 9))),
            ("bytes 5-9/*", Some((5, 9))),
            ("5", None),
            ("-5", None),
            ("5-", None),
            ("", None),
        ] {
            assert_eq!(chunk(range), expected, "{range}");
        }
    }

    #[test]
    fn a_chunk_must_begin_where_the_upload_ends() {
        for (range, length, expected) in [
            (Some("10-19"), "10", None),
            (Some("0-9"), "10", Some(416)),
            (Some("20-29"), "10", Some(416)),
            (Some("10-19"), "11", Some(400)),
            (Some("10-9"), "0", Some(400)),
            (Some("x"), "10", Some(400)),
            (None, "10", None),
        ] {
            let mut request = axum::http::Request::builder().header(CONTENT_LENGTH, length);
            if let Some(range) = range {
                request = request.header(CONTENT_RANGE, range);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(misplaced(&parts, 10).map(|status| status.as_u16()), expected, "{range:?} {length}");
        }
    }
}
