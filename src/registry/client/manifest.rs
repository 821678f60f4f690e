//! Gets and puts manifests and indexes (OCI distribution specification, "pulling manifests", "pushing manifests").

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use reqwest::{Response, StatusCode};

use super::error::transport_error;
use super::idle_timeout::{IDLE, IdleTimeout};
use super::session::Session;
use super::transfer::{DigestMismatch, retry_on_mismatch};
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Content, Digest, content_of};
use crate::layer::is_image;
use crate::retry::{Policy, retry};

/// The size limit for manifests in bytes, the same as that of registries.
const MAX_SIZE: usize = 4 << 20;

const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";

/// A parsed manifest or index.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Its descriptor.
    pub descriptor: Descriptor,
    /// Its bytes, unchanged: the digest is computed over them.
    pub bytes: Vec<u8>,
    /// Its parsed content.
    pub content: Content,
}

impl Manifest {
    /// Parses a manifest or index; other media types are an error.
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

/// Gets the manifest of a tag or digest; `None` if the registry does not have it. With `expected`, its digest must be that one.
pub async fn get(session: &Session, version: &str, expected: Option<Digest>, ctx: &Context) -> Result<Option<Manifest>> {
    let what = format!("pull {}: manifest {version}", session.repository());
    retry_on_mismatch(ctx, || retry(Policy::default(), ctx, &what, |_| get_once(session, version, expected, &what))).await
}

async fn get_once(session: &Session, version: &str, expected: Option<Digest>, what: &str) -> Result<Option<Manifest>> {
    let url = session.url(&format!("manifests/{version}"));
    let response = session.send(what, |http| http.get(&url).header(ACCEPT, ACCEPTED)).await?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        _ => return Err(session.error_from(response, what).await),
    }
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (content_type, digest_header) = (header(CONTENT_TYPE.as_str()), header("docker-content-digest"));
    let bytes = read_body(response, session, what).await?;
    let expected_digest = expected.or_else(|| digest_header.and_then(|text| text.parse::<Digest>().ok()));
    let actual = expected_digest.map_or_else(|| Blob::of(&bytes), |expected_digest| Blob::with_algorithm_of(&expected_digest, &bytes));
    if let Some(expected_digest) = expected_digest.filter(|expected_digest| *expected_digest != actual.digest) {
        let message =
            format!("manifest {expected_digest} from {} is damaged: its content has digest {}", session.repository(), actual.digest);
        let failure =
            Failure::verification(message).hint("the copy in the registry is damaged, or a proxy changes the bytes: push the image again");
        return Err(anyhow::Error::from(DigestMismatch("another digest".to_owned())).context(failure));
    }
    let descriptor = descriptor_for(media_type(content_type.as_deref(), &bytes), actual)?;
    Manifest::new(descriptor, bytes).map(Some).with_context(|| what.to_owned())
}

/// Gets the descriptor of a tag or digest, by a HEAD request if its headers suffice; `None` if the registry does not have it.
pub async fn head(session: &Session, version: &str, ctx: &Context) -> Result<Option<Descriptor>> {
    let what = format!("look up {}: manifest {version}", session.repository());
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
            Ok(Some(descriptor_for(media_type(Some(content_type), b""), Blob { digest, size })?))
        }
        _ => Ok(get_once(session, version, None, what).await?.map(|manifest| manifest.descriptor)),
    }
}

/// Puts a manifest under a tag or its digest; returns whether the registry lists it as a referrer (header `OCI-Subject`).
pub async fn put(session: &Session, version: &str, manifest: &Manifest, ctx: &Context) -> Result<bool> {
    let what = format!("push {}: manifest {version}", session.repository());
    retry(Policy::default(), ctx, &what, |_| put_once(session, version, manifest, &what)).await
}

async fn put_once(session: &Session, version: &str, manifest: &Manifest, what: &str) -> Result<bool> {
    let url = session.url(&format!("manifests/{version}"));
    let media_type = manifest.descriptor.media_type().to_string();
    let response = session.send(what, |http| http.put(&url).header(CONTENT_TYPE, &media_type).body(manifest.bytes.clone())).await?;
    let status = response.status();
    if !status.is_success() {
        let error = session.error_from(response, what).await;
        // docker-registry reads its link files while another client's push rewrites them, and then calls the digest invalid
        let transient = status == StatusCode::BAD_REQUEST && error.to_string().contains(": digest invalid");
        return Err(match () {
            () if transient => Failure::network(error.to_string()).into(),
            () if may_refuse_artifacts(status, &error.to_string()) && is_artifact(&manifest.content) => refuses_artifacts(&error).into(),
            () => error,
        });
    }
    Ok(response.headers().contains_key("oci-subject"))
}

/// Whether a manifest is of an artifact: a workloads manifest, a signature, an SBOM.
fn is_artifact(content: &Content) -> bool {
    match content {
        Content::Manifest(manifest) => manifest.artifact_type().is_some() || !is_image(manifest),
        Content::Index(index) => index.artifact_type().is_some(),
        Content::Leaf => false,
    }
}

/// Whether a registry may answer so because it does not know the kind of manifest, and not because it misses something.
fn may_refuse_artifacts(status: StatusCode, message: &str) -> bool {
    let misses = ["blob unknown", "name unknown"].iter().any(|what| message.contains(what));
    matches!(status.as_u16(), 400 | 404 | 405 | 406 | 415 | 422) && !misses
}

/// The error for a registry that takes images and no other manifests.
fn refuses_artifacts(error: &anyhow::Error) -> Failure {
    let failure =
        Failure::failed(format!("{error}; the registry may not take OCI artifacts: older versions of Harbor, Nexus and Quay do not"));
    failure
        .hint("carry the image in a file instead: `sealift save -o FILE NAME`, and `sealift load -i FILE` where it is needed")
        .hint("or use another registry, such as `sealift registry serve --writable`")
}

/// Reads the body of a response, at most 4 MiB.
pub async fn read_body(mut response: Response, session: &Session, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let idle = IdleTimeout::new(IDLE);
    while let Some(chunk) = idle.wait_for(what, response.chunk()).await?.map_err(|error| transport_error(error, session.host()))? {
        idle.reset();
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_SIZE {
            return Err(Failure::failed(format!("{what}: the response is too large, limit {} MiB", MAX_SIZE >> 20)).into());
        }
    }
    Ok(bytes)
}

/// The media type: by the header, else by the field `mediaType`, else by the content.
fn media_type(header: Option<&str>, bytes: &[u8]) -> MediaType {
    let header = header.and_then(|text| text.split(';').next()).map(str::trim).filter(|text| text.contains("vnd."));
    let manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
    match header.or(manifest["mediaType"].as_str()) {
        Some(text) => MediaType::from(text),
        None if manifest["manifests"].is_array() => MediaType::ImageIndex,
        None => MediaType::ImageManifest,
    }
}

/// Builds a descriptor.
pub fn descriptor_for(media_type: MediaType, blob: Blob) -> Result<Descriptor> {
    Ok(DescriptorBuilder::default().media_type(media_type).digest(blob.digest).size(blob.size).build()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_kind_is_told_from_something_that_is_missing() {
        for (status, message, expected) in [
            (400, "manifest invalid: manifest invalid (400)", true),
            (404, "404 not found", true),
            (415, "415 unsupported media type", true),
            (400, "manifest blob unknown: blob unknown to registry (400)", false),
            (404, "name unknown: repository name not known to registry (404)", false),
            (413, "413 payload too large", false),
            (409, "conflict (409)", false),
        ] {
            assert_eq!(may_refuse_artifacts(StatusCode::from_u16(status).unwrap(), message), expected, "{status} {message}");
        }
    }
}
