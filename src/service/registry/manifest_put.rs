//! Puts and deletes manifests, and deletes blobs.

use std::sync::PoisonError;

use anyhow::Result;
use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use bytes::Bytes;
use oci_spec::image::{Descriptor, MediaType};
use serde_json::Value;
use tokio::task::spawn_blocking;
use url::form_urlencoded;

use super::pushed::name_pushed;
use super::response;
use super::state::{State, query, unsupported};
use crate::image::{Algorithm, Blob, Content, Digest, Reference, children, content_of, media_type_of, subject_of};
use crate::store::MAX_MANIFEST_SIZE;

/// A manifest or index of a request, parsed.
struct PushedManifest {
    descriptor: Descriptor,
    bytes: Bytes,
    content: Content,
    subject: Option<Digest>,
}

impl State {
    /// Puts a manifest or index under a tag, or under its digest and the tags in the query (`?tag=`).
    pub async fn put_manifest(
        self: &std::sync::Arc<Self>,
        request: &Parts,
        body: Body,
        repository: String,
        version: String,
    ) -> Result<Response<Body>> {
        let limit = usize::try_from(MAX_MANIFEST_SIZE)?;
        let Ok(bytes) = to_bytes(body, limit).await else {
            return Ok(response::error(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "the manifest is too large: limit 4 MiB"));
        };
        let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.and_then(|text| text.split(';').next()).map(|text| text.trim().to_owned());
        let tags = form_urlencoded::parse(query(request).as_bytes()).filter(|(key, _)| key == "tag").map(|(_, tag)| tag.into_owned());
        let (state, tags) = (self.clone(), tags.collect::<Vec<_>>());
        spawn_blocking(move || {
            let algorithm = version.parse::<Digest>().map_or(Algorithm::Sha256, |digest| digest.algorithm());
            let manifest = match read(content_type.as_deref(), bytes, algorithm) {
                Ok(manifest) => manifest,
                Err(refused) => return Ok(*refused),
            };
            state.store_manifest(&repository, &version, tags, &manifest)
        })
        .await?
    }

    fn store_manifest(&self, repository: &str, version: &str, mut tags: Vec<String>, manifest: &PushedManifest) -> Result<Response<Body>> {
        let digest = Digest::try_from(manifest.descriptor.digest())?;
        let by_digest = version.contains(':');
        if by_digest && version != digest.to_string() {
            let message = format!("the manifest has digest {digest}, expected {version}");
            return Ok(response::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &message));
        }
        if !by_digest {
            tags.push(version.to_owned());
        }
        let references: Result<Vec<Reference>> = tags.iter().map(|tag| self.reference(repository, &format!(":{tag}"))).collect();
        let (Ok(mut references), Ok(bare)) = (references, self.reference(repository, &format!("@{digest}"))) else {
            return Ok(response::error(StatusCode::BAD_REQUEST, "NAME_INVALID", "invalid repository or tag"));
        };
        let _changing = self.write_lock.lock().unwrap_or_else(PoisonError::into_inner);
        let _in_use = self.store.lock_shared()?;
        if let Some(missing) = self.missing_blob(manifest)? {
            return Ok(response::error(
                StatusCode::NOT_FOUND,
                "MANIFEST_BLOB_UNKNOWN",
                &format!("blob {missing} of the manifest is not in this registry"),
            ));
        }
        self.store.put_verified(&Blob::try_from(&manifest.descriptor)?, &manifest.bytes)?;
        // a manifest without a tag is referenced by its digest, so that `prune` keeps it
        if by_digest {
            references.push(bare);
        }
        for name in &references {
            name_pushed(&self.store, name, &manifest.descriptor, &manifest.content)?;
        }
        self.untag_children(repository, manifest)?;
        let references: Vec<String> = children(&manifest.content).iter().map(|child| child.digest().to_string()).collect();
        self.upload_guard.done(references.iter().map(String::as_str));
        let mut response = response::created(format!("/v2/{repository}/manifests/{digest}"), &digest);
        if let Some(subject) = &manifest.subject {
            response::set_header(&mut response, "oci-subject", &subject.to_string());
        }
        if by_digest && !tags.is_empty() {
            response::set_header(&mut response, "oci-tag", &tags.join(", "));
        }
        Ok(response)
    }

    /// The first missing blob of a manifest. Manifests of an index may be missing: those of platforms that were not pushed.
    fn missing_blob(&self, manifest: &PushedManifest) -> Result<Option<Digest>> {
        if !matches!(manifest.content, Content::Manifest(_)) {
            return Ok(None);
        }
        for child in children(&manifest.content) {
            let blob = Blob::try_from(&child)?;
            // layers with URLs (foreign layers) are not pushed
            if child.urls().as_ref().is_none_or(Vec::is_empty) && !self.store.has(&blob) {
                return Ok(Some(blob.digest));
            }
        }
        Ok(None)
    }

    /// Removes the references by digest to the manifests of an index, which the index keeps now, except to referrers.
    fn untag_children(&self, repository: &str, manifest: &PushedManifest) -> Result<()> {
        let Content::Index(index) = &manifest.content else { return Ok(()) };
        for entry in index.manifests() {
            let Ok(digest) = Digest::try_from(entry.digest()) else { continue };
            let is_referrer = self.store.read_manifest(entry).is_ok_and(|content| matches!(subject_of(&content), Ok(Some(_))));
            if !is_referrer {
                self.store.untag(&self.reference(repository, &format!("@{digest}"))?)?;
            }
        }
        Ok(())
    }

    /// Deletes a tag, or a manifest with all its tags in the repository.
    pub fn delete_manifest(&self, repository: &str, version: &str) -> Result<Response<Body>> {
        let unknown = || response::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &format!("no such image: {repository} {version}"));
        let _changing = self.write_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if !version.contains(':') {
            let Ok(name) = self.reference(repository, &format!(":{version}")) else { return Ok(unknown()) };
            return Ok(if self.store.untag(&name)? { response::empty(StatusCode::ACCEPTED, &[]) } else { unknown() });
        }
        let Ok(digest) = version.parse::<Digest>() else { return Ok(response::invalid_digest()) };
        let Some(size) = self.store.size_of(&digest).filter(|size| *size <= MAX_MANIFEST_SIZE) else { return Ok(unknown()) };
        if media_type_of(&self.store.read(&Blob { digest, size })?).is_none() {
            return Ok(unknown());
        }
        let Ok(own) = self.reference(repository, "") else { return Ok(unknown()) };
        let mut untagged = false;
        for (name, descriptor) in self.store.all_refs()? {
            let is_in_repository = name.registry() == own.registry() && name.repository() == own.repository();
            if is_in_repository && Digest::try_from(descriptor.digest())? == digest {
                untagged |= self.store.untag(&name)?;
            }
        }
        let removed = self.upload_guard.remove(&digest)?;
        if removed || untagged { Ok(response::empty(StatusCode::ACCEPTED, &[])) } else { Ok(still_used()) }
    }

    /// Deletes a blob that no image uses.
    pub fn delete_blob(&self, digest: &str) -> Result<Response<Body>> {
        let Ok(digest) = digest.parse::<Digest>() else { return Ok(response::invalid_digest()) };
        let _changing = self.write_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.size_of(&digest).is_none() {
            return Ok(response::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", &format!("no such blob: {digest}")));
        }
        if self.upload_guard.remove(&digest)? { Ok(response::empty(StatusCode::ACCEPTED, &[])) } else { Ok(still_used()) }
    }

    /// The reference in the store for an image pushed to a repository; `rest` is `:TAG` or `@DIGEST`.
    fn reference(&self, repository: &str, rest: &str) -> Result<Reference> {
        let hostname = self.hostnames.first().map_or("localhost", String::as_str);
        format!("{hostname}/{repository}{rest}").parse()
    }
}

fn still_used() -> Response<Body> {
    unsupported("a tagged image still uses it")
}

/// Parses a manifest or index; the error is the response.
fn read(content_type: Option<&str>, bytes: Bytes, algorithm: Algorithm) -> Result<PushedManifest, Box<Response<Body>>> {
    let invalid = |message: String| Box::new(response::error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", &message));
    let json: Value = serde_json::from_slice(&bytes).map_err(|error| invalid(format!("not JSON: {error}")))?;
    if json["schemaVersion"] != 2 {
        return Err(invalid(format!("schemaVersion {}, expected 2", json["schemaVersion"])));
    }
    let own_type = media_type_of(&bytes);
    let declared = content_type.filter(|text| text.contains("vnd."));
    if let (Some(declared), Some(own_type)) = (declared, json["mediaType"].as_str())
        && declared != own_type
    {
        return Err(invalid(format!("Content-Type `{declared}` does not match mediaType `{own_type}`")));
    }
    let media_type = declared.map(str::to_owned).or(own_type).ok_or_else(|| invalid("not a manifest or index".to_owned()))?;
    let media_type = MediaType::from(media_type.as_str());
    let content = content_of(&media_type, &bytes).map_err(|error| invalid(format!("{error:#}")))?;
    if matches!(content, Content::Leaf) {
        return Err(invalid(format!("`{media_type}` is not the media type of a manifest or index")));
    }
    let subject = subject_of(&content).map_err(|error| invalid(format!("subject: {error:#}")))?;
    for child in children(&content) {
        Blob::try_from(&child).map_err(|error| invalid(format!("{error:#}")))?;
    }
    let descriptor = Descriptor::new(media_type, bytes.len() as u64, algorithm.digest(&bytes));
    Ok(PushedManifest { descriptor, bytes, content, subject })
}
