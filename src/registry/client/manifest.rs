//! Manifests and indexes in a registry.

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Response, StatusCode};

use super::error::unanswered;
use super::idle_timeout::{IDLE, IdleTimeout};
use super::session::Session;
use super::transfer::{Mismatch, once_more};
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Content, Digest, content_of};
use crate::retry::{Policy, retry};

/// Larger manifests are refused, here and by registries.
const LARGEST: usize = 4 << 20;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or an index, read.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// What names it.
    pub descriptor: Descriptor,
    /// Its bytes, as they were.
    pub bytes: Vec<u8>,
    /// What is in it.
    pub content: Content,
}

impl Manifest {
    /// Reads a document.
    pub fn new(descriptor: Descriptor, bytes: Vec<u8>) -> Result<Manifest> {
        let content = content_of(descriptor.media_type(), &bytes).with_context(|| descriptor.digest().to_string())?;
        if matches!(content, Content::Leaf) {
            let media_type = descriptor.media_type();
            return Err(
                Failure::failed(format!("{}: `{media_type}` is not the media type of a manifest or index", descriptor.digest())).into()
            );
        }
        Ok(Manifest { descriptor, bytes, content })
    }
}

/// Gets what a tag or digest points at; `None` if the registry does not have it. With `expected`, it must be just that.
pub async fn get(session: &Session, version: &str, expected: Option<Digest>, ctx: &Context) -> Result<Option<Manifest>> {
    let what = format!("pull {}: manifest {version}", session.place());
    once_more(ctx, || retry(Policy::default(), ctx, &what, |_| get_once(session, version, expected, &what))).await
}

async fn get_once(session: &Session, version: &str, expected: Option<Digest>, what: &str) -> Result<Option<Manifest>> {
    let url = session.url(&format!("manifests/{version}"));
    let response = session.send(what, |http| http.get(&url).header(ACCEPT, ACCEPTED)).await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(session.refuse(response, what).await),
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (content_type, promised) = (header(CONTENT_TYPE.as_str()), header("docker-content-digest"));
    let bytes = body(response, session, what).await?;
    let want = expected.or_else(|| promised.and_then(|text| text.parse::<Digest>().ok()));
    let got = want.map_or_else(|| Blob::of(&bytes), |want| Blob::like(&want, &bytes));
    if let Some(want) = want.filter(|want| *want != got.digest) {
        let message = format!("manifest {want} from {} is damaged: its content has digest {}", session.place(), got.digest);
        let failure =
            Failure::verification(message).hint("the copy in the registry is damaged, or a proxy changes the bytes: push the image again");
        return Err(anyhow::Error::from(Mismatch("another digest".to_owned())).context(failure));
    }
    let descriptor = describe(media_type(content_type.as_deref(), &bytes), got)?;
    Manifest::new(descriptor, bytes).map(Some).with_context(|| what.to_owned())
}

/// The descriptor of what a tag or digest points at, without its bytes where the registry tells enough; `None` if it has no such.
pub async fn head(session: &Session, version: &str, ctx: &Context) -> Result<Option<Descriptor>> {
    let what = format!("look up {}: manifest {version}", session.place());
    retry(Policy::default(), ctx, &what, |_| head_once(session, version, &what)).await
}

async fn head_once(session: &Session, version: &str, what: &str) -> Result<Option<Descriptor>> {
    let url = session.url(&format!("manifests/{version}"));
    let response = session.send(what, |http| http.head(&url).header(ACCEPT, ACCEPTED)).await?;
    if response.status() == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let digest = header("docker-content-digest").and_then(|text| text.parse::<Digest>().ok());
    let size = header(CONTENT_LENGTH.as_str()).and_then(|text| text.parse::<u64>().ok());
    match (response.status(), digest, size, header(CONTENT_TYPE.as_str())) {
        (StatusCode::OK, Some(digest), Some(size), Some(content_type)) if content_type.contains("vnd.") => {
            Ok(Some(describe(media_type(Some(content_type), b""), Blob { digest, size })?))
        }
        _ => Ok(get_once(session, version, None, what).await?.map(|document| document.descriptor)),
    }
}

/// Puts a document under a tag or its digest; whether the registry says (`OCI-Subject`) that it has listed it as a referrer.
pub async fn put(session: &Session, version: &str, document: &Manifest, ctx: &Context) -> Result<bool> {
    let what = format!("push {}: manifest {version}", session.place());
    retry(Policy::default(), ctx, &what, |_| put_once(session, version, document, &what)).await
}

async fn put_once(session: &Session, version: &str, document: &Manifest, what: &str) -> Result<bool> {
    let url = session.url(&format!("manifests/{version}"));
    let media_type = document.descriptor.media_type().to_string();
    let response = session.send(what, |http| http.put(&url).header(CONTENT_TYPE, &media_type).body(document.bytes.clone())).await?;
    if !response.status().is_success() {
        return Err(session.refuse(response, what).await);
    }
    Ok(response.headers().contains_key("oci-subject"))
}

/// The bytes of a small answer.
pub async fn body(mut response: Response, session: &Session, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let pulse = IdleTimeout::new(IDLE);
    while let Some(chunk) = pulse.watch(what, response.chunk()).await?.map_err(|error| unanswered(error, session.host()))? {
        pulse.beat();
        bytes.extend_from_slice(&chunk);
        if bytes.len() > LARGEST {
            return Err(Failure::failed(format!("{what}: the response is too large, limit {} MiB", LARGEST >> 20)).into());
        }
    }
    Ok(bytes)
}

/// The media type by the header, or where that says nothing, by the document itself.
fn media_type(header: Option<&str>, bytes: &[u8]) -> MediaType {
    let header = header.and_then(|text| text.split(';').next()).map(str::trim).filter(|text| text.contains("vnd."));
    let document: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    match header.or(document["mediaType"].as_str()) {
        Some(text) => MediaType::from(text),
        None if document["manifests"].is_array() => MediaType::ImageIndex,
        None => MediaType::ImageManifest,
    }
}

/// The descriptor of a document.
pub fn describe(media_type: MediaType, blob: Blob) -> Result<Descriptor> {
    Ok(DescriptorBuilder::default().media_type(media_type).digest(blob.digest).size(blob.size).build()?)
}
