//! Receives blobs: monolithic, streamed or chunked uploads, which resume after the client or the server was killed (OCI distribution
//! specification, "pushing blobs").

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
use super::upload_guard::UploadGuard;
use crate::error::{Kind, kind_of};
use crate::image::Digest;
use crate::registry::sink::Sink;
use crate::store::Upload;

/// The idle timeout within a request body.
const IDLE: Duration = Duration::from_secs(60);
/// An upload without requests for this time is closed. Resuming it opens and hashes its file again.
const MAX_IDLE_OPEN: Duration = Duration::from_secs(600);
/// The number of buffers in the queue to the disk.
const QUEUE: usize = 8;

/// The open uploads, by id: kept open, because opening one means hashing its file.
#[derive(Debug, Default)]
pub struct Uploads {
    open: Mutex<HashMap<String, OpenUpload>>,
}

/// An upload, locked by the request that writes to it.
type SharedUpload = Arc<tokio::sync::Mutex<Option<Upload>>>;

#[derive(Debug)]
struct OpenUpload {
    upload: SharedUpload,
    used: Instant,
}

impl Uploads {
    fn shared(&self, id: &str) -> SharedUpload {
        let mut open = self.open();
        open.retain(|_, slot| Arc::strong_count(&slot.upload) > 1 || slot.used.elapsed() < MAX_IDLE_OPEN);
        let slot = open.entry(id.to_owned()).or_insert_with(|| OpenUpload { upload: SharedUpload::default(), used: Instant::now() });
        slot.used = Instant::now();
        slot.upload.clone()
    }

    fn remove(&self, id: &str) {
        self.open().remove(id);
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, OpenUpload>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Starts an upload, mounts an existing blob (`?mount=`), or receives a whole blob (`?digest=`).
    pub async fn start_upload(self: &Arc<Self>, request: &Parts, body: Body, repository: &str) -> Result<Response<Body>> {
        let mount = parameter(query(request), "mount").and_then(|text| text.parse::<Digest>().ok());
        if let Some(digest) = mount
            && self.protect_if_present(digest).await?
        {
            return Ok(response::created(format!("/v2/{repository}/blobs/{digest}"), &digest));
        }
        let digest = parameter(query(request), "digest");
        if digest.as_ref().is_some_and(|text| text.parse::<Digest>().is_err()) {
            return Ok(response::invalid_digest());
        }
        let state = self.clone();
        let started = spawn_blocking(move || {
            let _in_use = state.store.lock_shared()?;
            let (id, upload) = state.store.start_upload()?;
            state.upload_guard.add(&id)?;
            anyhow::Ok((id, upload))
        });
        let (id, upload) = started.await??;
        if let Some(digest) = digest {
            let closed = self.finish(upload, body, repository, &digest).await;
            self.upload_guard.done([id.as_str()]);
            return closed;
        }
        let state = upload_status(StatusCode::ACCEPTED, repository, &id, &upload);
        *self.uploads.shared(&id).lock().await = Some(upload);
        Ok(state)
    }

    /// Handles a request to an upload: status (GET), next chunk (PATCH), end (PUT), cancel (DELETE).
    pub async fn upload(self: &Arc<Self>, request: &Parts, body: Body, repository: &str, id: &str) -> Result<Response<Body>> {
        let shared = self.uploads.shared(id);
        let mut open = shared.lock().await;
        let Some(upload) = self.open_or_resume(open.take(), id).await? else {
            self.uploads.remove(id);
            self.upload_guard.done([id]);
            return Ok(response::error(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "no such upload: start a new one"));
        };
        self.protect(id).await?;
        let digest = parameter(query(request), "digest").filter(|text| text.parse::<Digest>().is_ok());
        let (remaining, answer) = match (&request.method, range_error(request, upload.offset()), digest) {
            (&Method::PATCH | &Method::PUT, Some(status), _) => {
                let refused = upload_status(status, repository, id, &upload);
                (Some(upload), refused)
            }
            (&Method::PATCH, None, _) => {
                let (upload, refused) = write_body(body, upload, &self.upload_guard).await?;
                let taken = refused.unwrap_or_else(|| upload_status(StatusCode::ACCEPTED, repository, id, &upload));
                (Some(upload), taken)
            }
            (&Method::PUT, None, None) => (Some(upload), response::invalid_digest()),
            (&Method::PUT, None, Some(digest)) => (None, self.finish(upload, body, repository, &digest).await?),
            (&Method::DELETE, ..) => {
                spawn_blocking(move || upload.cancel()).await??;
                (None, response::empty(StatusCode::NO_CONTENT, &[]))
            }
            _ => {
                let status = upload_status(StatusCode::NO_CONTENT, repository, id, &upload);
                (Some(upload), status)
            }
        };
        if remaining.is_none() {
            self.uploads.remove(id);
            self.upload_guard.done([id]);
        }
        *open = remaining;
        Ok(answer)
    }

    /// The open upload, else the one on the disk.
    async fn open_or_resume(&self, open: Option<Upload>, id: &str) -> Result<Option<Upload>> {
        if open.is_some() {
            return Ok(open);
        }
        let (store, id) = (self.store.clone(), id.to_owned());
        spawn_blocking(move || store.resume_upload(&id)).await?
    }

    /// Receives the rest of a blob, verifies it and commits it.
    async fn finish(self: &Arc<Self>, upload: Upload, body: Body, repository: &str, digest: &str) -> Result<Response<Body>> {
        let digest: Digest = digest.parse()?;
        let (upload, refused) = write_body(body, upload, &self.upload_guard).await?;
        if let Some(refused) = refused {
            return Ok(refused);
        }
        self.protect(digest).await?;
        match spawn_blocking(move || upload.commit(&digest)).await? {
            Ok(_) => Ok(response::created(format!("/v2/{repository}/blobs/{digest}"), &digest)),
            Err(error) => {
                self.upload_guard.done([digest.to_string().as_str()]);
                match kind_of(&error) {
                    Kind::Verification => Ok(response::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &format!("{error:#}"))),
                    _ => Err(error),
                }
            }
        }
    }
}

/// Appends a request body to an upload. If the client disconnects or stalls, the bytes received are kept, with an error response.
async fn write_body(body: Body, upload: Upload, guard: &UploadGuard) -> Result<(Upload, Option<Response<Body>>)> {
    let mut stream = body.into_data_stream();
    let sink = Sink::new(upload, QUEUE);
    let refused = loop {
        let refuse = |status, message| Some(response::error(status, "BLOB_UPLOAD_INVALID", message));
        match tokio::time::timeout(IDLE, stream.next()).await {
            Ok(Some(Ok(bytes))) => {
                guard.touch();
                if !sink.send(bytes).await {
                    break None;
                }
            }
            Ok(None) => break None,
            Ok(Some(Err(_))) => break refuse(StatusCode::BAD_REQUEST, "the request body ended early"),
            Err(_) => break refuse(StatusCode::REQUEST_TIMEOUT, "no data for 60 s"),
        }
    };
    Ok((sink.finish().await.context("the registry's store")?, refused))
}

/// A response with location and offset of an upload. Both 0 and 1 bytes give `0-0`, as in docker-registry.
fn upload_status(status: StatusCode, repository: &str, id: &str, upload: &Upload) -> Response<Body> {
    let headers = [
        ("location", format!("/v2/{repository}/blobs/uploads/{id}")),
        ("range", format!("0-{}", upload.offset().saturating_sub(1))),
        ("docker-upload-uuid", id.to_owned()),
    ];
    response::empty(status, &headers)
}

/// The error status for a chunk that does not start at the offset of the upload, or whose length is not that of its range.
fn range_error(request: &Parts, offset: u64) -> Option<StatusCode> {
    let header = |name| request.headers.get(name).and_then(|value| value.to_str().ok());
    let range = header(CONTENT_RANGE)?;
    let Some((first, last)) = parse_content_range(range) else { return Some(StatusCode::BAD_REQUEST) };
    let length = header(CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    match length {
        _ if first != offset => Some(StatusCode::RANGE_NOT_SATISFIABLE),
        Some(length) if last < first || length != last - first + 1 => Some(StatusCode::BAD_REQUEST),
        _ => None,
    }
}

/// Parses a `Content-Range` into first and last byte: `0-99` as in the OCI specification, or `bytes 0-99/100` as in HTTP.
fn parse_content_range(range: &str) -> Option<(u64, u64)> {
    let range = range.trim().strip_prefix("bytes").unwrap_or(range).trim_start_matches([' ', '=']);
    let (first, last) = range.split('/').next()?.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_of_oci_and_of_http_are_parsed() {
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
            assert_eq!(parse_content_range(range), expected, "{range}");
        }
    }

    #[test]
    fn a_chunk_must_start_at_the_offset_of_the_upload() {
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
            assert_eq!(range_error(&parts, 10).map(|status| status.as_u16()), expected, "{range:?} {length}");
        }
    }
}
