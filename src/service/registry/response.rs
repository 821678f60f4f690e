//! HTTP responses: errors in the format of the specification, manifests, and blobs as streams.

use std::io::SeekFrom;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use crate::image::{Blob, Digest};

/// The buffer size for reading blobs, in bytes; the default of 4 KiB costs most of the throughput.
const BUFFER: usize = 512 * 1024;

/// A header that docker's clients look for.
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// A response with a JSON body.
pub fn json(status: StatusCode, media_type: &str, document: &Value) -> Response<Body> {
    bytes(status, media_type, document.to_string().into_bytes())
}

/// An error response (OCI distribution specification, "error codes").
pub fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let mut response = json(status, "application/json", &json!({"errors": [{"code": code, "message": message}]}));
    response.extensions_mut().insert(ErrorResponse(message.to_owned()));
    response
}

/// A response without a body, with these headers.
pub fn empty(status: StatusCode, headers: &[(&'static str, String)]) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    for (name, value) in headers {
        set_header(&mut response, name, value);
    }
    response
}

/// Sets a header; an invalid value is ignored.
pub fn set_header(response: &mut Response<Body>, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

/// The response to a push: 201 with location and digest.
pub fn created(location: String, digest: &Digest) -> Response<Body> {
    empty(StatusCode::CREATED, &[("location", location), ("docker-content-digest", digest.to_string())])
}

/// The response to an invalid digest: 400.
pub fn invalid_digest() -> Response<Body> {
    error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "invalid digest: expected sha256: and 64 hex digits, or sha512: and 128")
}

/// The message of an error response, for the log.
#[derive(Debug, Clone)]
pub struct ErrorResponse(pub String);

/// A response with a manifest; for HEAD only its headers.
pub fn manifest(method: &Method, media_type: &str, blob: &Blob, content: Vec<u8>) -> Response<Body> {
    let mut response = bytes(StatusCode::OK, media_type, content);
    set_digest(&mut response, blob);
    if method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

fn bytes(status: StatusCode, media_type: &str, content: Vec<u8>) -> Response<Body> {
    let built = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, media_type)
        .header(header::CONTENT_LENGTH, content.len())
        .header(API_VERSION, "registry/2.0")
        .body(Body::from(content));
    built.unwrap_or_else(|_| Response::new(Body::empty()))
}

/// Sets the digest and ETag headers.
fn set_digest(response: &mut Response<Body>, blob: &Blob) {
    let digest = blob.digest.to_string();
    if let (Ok(digest), Ok(tag)) = (digest.parse(), format!("\"{digest}\"").parse()) {
        response.headers_mut().insert(CONTENT_DIGEST, digest);
        response.headers_mut().insert(header::ETAG, tag);
    }
}

/// A response with a blob or the requested range of it, streamed from its file.
pub async fn blob(method: &Method, headers: &HeaderMap, blob: &Blob, mut file: tokio::fs::File) -> std::io::Result<Response<Body>> {
    let requested = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, first, length) = match range(requested, blob.size) {
        Range::Whole => (StatusCode::OK, 0, blob.size),
        Range::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Range::Beyond => {
            let mut response = error(StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_INVALID", "the range is outside of the blob");
            if let Ok(value) = format!("bytes */{}", blob.size).parse() {
                response.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            return Ok(response);
        }
    };
    let mut builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, length)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(API_VERSION, "registry/2.0");
    if status == StatusCode::PARTIAL_CONTENT {
        builder = builder.header(header::CONTENT_RANGE, format!("bytes {first}-{}/{}", first + length - 1, blob.size));
    }
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        file.seek(SeekFrom::Start(first)).await?;
        Body::from_stream(ReaderStream::with_capacity(file.take(length), BUFFER))
    };
    let mut response = builder.body(body).map_err(std::io::Error::other)?;
    set_digest(&mut response, blob);
    Ok(response)
}

/// The requested part of a blob.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { first: u64, last: u64 },
    Beyond,
}

/// Parses a `Range` header (RFC 9110 section 14.2). Anything but a single byte range is ignored, as the RFC allows. A range that ends
/// before it begins is refused, as the RFC allows too and the OCI conformance tests require.
fn range(header: Option<&str>, size: u64) -> Range {
    let Some((first, last)) = header.and_then(|text| text.trim().strip_prefix("bytes=")).and_then(|text| text.split_once('-')) else {
        return Range::Whole;
    };
    let end = size.saturating_sub(1);
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), _) if first >= size => Range::Beyond,
        (Ok(first), Ok(last)) if last < first => Range::Beyond,
        (Ok(first), Ok(last)) => Range::Part { first, last: last.min(end) },
        (Ok(first), Err(_)) if last.trim().is_empty() => Range::Part { first, last: end },
        (Err(_), Ok(0)) if first.trim().is_empty() => Range::Beyond,
        (Err(_), Ok(count)) if first.trim().is_empty() && size > 0 => Range::Part { first: size.saturating_sub(count), last: end },
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_blob() {
        let part = |first, last| Range::Part { first, last };
        for (header, size, expected) in [
            (None, 10, Range::Whole),
            (Some("bytes=0-9"), 10, part(0, 9)),
            (Some("bytes=4-"), 10, part(4, 9)),
            (Some("bytes=4-100"), 10, part(4, 9)),
            (Some("bytes=-3"), 10, part(7, 9)),
            (Some("bytes=-30"), 10, part(0, 9)),
            (Some("bytes=-0"), 10, Range::Beyond),
            (Some("bytes=10-"), 10, Range::Beyond),
            (Some("bytes=0-"), 0, Range::Beyond),
            (Some("bytes=5-4"), 10, Range::Beyond),
            (Some("bytes=0-1,4-5"), 10, Range::Whole),
            (Some("lines=0-1"), 10, Range::Whole),
            (Some("bytes=x"), 10, Range::Whole),
        ] {
            assert_eq!(range(header, size), expected, "{header:?} of {size}");
        }
    }
}
