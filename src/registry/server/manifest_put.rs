//! Pushing and deleting: documents under tags and digests.

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

use super::response;
use super::state::{State, query, unsupported};
use crate::image::{Algorithm, Blob, Content, Digest, Reference, children, content_of, media_type_of, subject_of};
use crate::store::MAX_DOCUMENT;

/// A manifest or index that came, read.
struct Document {
    descriptor: Descriptor,
    bytes: Bytes,
    content: Content,
    subject: Option<Digest>,
}

impl State {
    /// Puts a manifest or index under a tag, or under its digest and the tags that the query asks for.
    pub async fn put_manifest(
        self: &std::sync::Arc<Self>,
        request: &Parts,
        body: Body,
        repository: String,
        version: String,
    ) -> Result<Response<Body>> {
        let limit = usize::try_from(MAX_DOCUMENT)?;
        let Ok(bytes) = to_bytes(body, limit).await else {
            return Ok(response::error(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "the manifest is too large: limit 4 MiB"));
        };
        let content_type = request.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.and_then(|text| text.split(';').next()).map(|text| text.trim().to_owned());
        let tags = form_urlencoded::parse(query(request).as_bytes()).filter(|(key, _)| key == "tag").map(|(_, tag)| tag.into_owned());
        let (site, tags) = (self.clone(), tags.collect::<Vec<_>>());
        spawn_blocking(move || {
            let algorithm = version.parse::<Digest>().map_or(Algorithm::Sha256, |digest| digest.algorithm());
            let document = match read(content_type.as_deref(), bytes, algorithm) {
                Ok(document) => document,
                Err(refused) => return Ok(*refused),
            };
            site.put_document(&repository, &version, tags, &document)
        })
        .await?
    }

    fn put_document(&self, repository: &str, version: &str, mut tags: Vec<String>, document: &Document) -> Result<Response<Body>> {
        let digest = Digest::try_from(document.descriptor.digest())?;
        let by_digest = version.contains(':');
        if by_digest && version != digest.to_string() {
            let message = format!("the manifest has digest {digest}, expected {version}");
            return Ok(response::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", &message));
        }
        if !by_digest {
            tags.push(version.to_owned());
        }
        let named: Result<Vec<Reference>> = tags.iter().map(|tag| self.own_name(repository, &format!(":{tag}"))).collect();
        let (Ok(mut named), Ok(bare)) = (named, self.own_name(repository, &format!("@{digest}"))) else {
            return Ok(response::error(StatusCode::BAD_REQUEST, "NAME_INVALID", "invalid repository or tag"));
        };
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let _in_use = self.store.lock_shared()?;
        if let Some(missing) = self.missing(document)? {
            return Ok(response::error(
                StatusCode::NOT_FOUND,
                "MANIFEST_BLOB_UNKNOWN",
                &format!("blob {missing} of the manifest is not in this registry"),
            ));
        }
        self.store.put_known(&Blob::try_from(&document.descriptor)?, &document.bytes)?;
        // what has no tag is kept by its digest
        if by_digest {
            named.push(bare);
        }
        for name in &named {
            self.store.tag(name, &document.descriptor)?;
        }
        self.untag_children(repository, document)?;
        let named: Vec<String> = children(&document.content).iter().map(|child| child.digest().to_string()).collect();
        self.pending.done(named.iter().map(String::as_str));
        let mut response = response::created(format!("/v2/{repository}/manifests/{digest}"), &digest);
        if let Some(subject) = &document.subject {
            response::set(&mut response, "oci-subject", &subject.to_string());
        }
        if by_digest && !tags.is_empty() {
            response::set(&mut response, "oci-tag", &tags.join(", "));
        }
        Ok(response)
    }

    /// What a document names and is not here. Arms of an index may be missing: they are of platforms that nobody copied.
    fn missing(&self, document: &Document) -> Result<Option<Digest>> {
        if !matches!(document.content, Content::Manifest(_)) {
            return Ok(None);
        }
        for child in children(&document.content) {
            let blob = Blob::try_from(&child)?;
            // layers that are got from elsewhere are not pushed
            if child.urls().as_ref().is_none_or(Vec::is_empty) && !self.store.has(&blob) {
                return Ok(Some(blob.digest));
            }
        }
        Ok(None)
    }

    /// What an index names need not be kept by its digest any more, unless it refers to something itself.
    fn untag_children(&self, repository: &str, document: &Document) -> Result<()> {
        let Content::Index(index) = &document.content else { return Ok(()) };
        for arm in index.manifests() {
            let Ok(digest) = Digest::try_from(arm.digest()) else { continue };
            let refers = self.store.document(arm).is_ok_and(|content| matches!(subject_of(&content), Ok(Some(_))));
            if !refers {
                self.store.untag(&self.own_name(repository, &format!("@{digest}"))?)?;
            }
        }
        Ok(())
    }

    /// Deletes a tag, or a manifest with all its tags in the repository.
    pub fn delete_manifest(&self, repository: &str, version: &str) -> Result<Response<Body>> {
        let unknown = || response::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &format!("no such image: {repository} {version}"));
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !version.contains(':') {
            let Ok(name) = self.own_name(repository, &format!(":{version}")) else { return Ok(unknown()) };
            return Ok(if self.store.untag(&name)? { response::bare(StatusCode::ACCEPTED, &[]) } else { unknown() });
        }
        let Ok(digest) = version.parse::<Digest>() else { return Ok(response::bad_digest()) };
        let Some(size) = self.store.size_of(&digest).filter(|size| *size <= MAX_DOCUMENT) else { return Ok(unknown()) };
        if media_type_of(&self.store.read(&Blob { digest, size })?).is_none() {
            return Ok(unknown());
        }
        let Ok(own) = self.own_name(repository, "") else { return Ok(unknown()) };
        let mut untagged = false;
        for (name, descriptor) in self.store.names()? {
            let here = name.registry() == own.registry() && name.repository() == own.repository();
            if here && Digest::try_from(descriptor.digest())? == digest {
                untagged |= self.store.untag(&name)?;
            }
        }
        let gone = self.pending.remove(&digest)?;
        if gone || untagged { Ok(response::bare(StatusCode::ACCEPTED, &[])) } else { Ok(still_used()) }
    }

    /// Deletes a blob that nothing names.
    pub fn delete_blob(&self, digest: &str) -> Result<Response<Body>> {
        let Ok(digest) = digest.parse::<Digest>() else { return Ok(response::bad_digest()) };
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.size_of(&digest).is_none() {
            return Ok(response::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", &format!("no such blob: {digest}")));
        }
        if self.pending.remove(&digest)? { Ok(response::bare(StatusCode::ACCEPTED, &[])) } else { Ok(still_used()) }
    }

    /// The name in the store of what is pushed to a repository; `rest` is `:TAG` or `@DIGEST`.
    fn own_name(&self, repository: &str, rest: &str) -> Result<Reference> {
        let own = self.own_names.first().map_or("localhost", String::as_str);
        format!("{own}/{repository}{rest}").parse()
    }
}

fn still_used() -> Response<Body> {
    unsupported("a tagged image still uses it")
}

/// Reads a manifest or index; or the refusal of what is none.
fn read(content_type: Option<&str>, bytes: Bytes, algorithm: Algorithm) -> Result<Document, Box<Response<Body>>> {
    let invalid = |message: String| Box::new(response::error(StatusCode::BAD_REQUEST, "MANIFEST_INVALID", &message));
    let json: Value = serde_json::from_slice(&bytes).map_err(|error| invalid(format!("not JSON: {error}")))?;
    if json["schemaVersion"] != 2 {
        return Err(invalid(format!("schemaVersion {}, expected 2", json["schemaVersion"])));
    }
    let own = media_type_of(&bytes);
    let told = content_type.filter(|text| text.contains("vnd."));
    if let (Some(told), Some(own)) = (told, json["mediaType"].as_str())
        && told != own
    {
        return Err(invalid(format!("Content-Type `{told}` does not match mediaType `{own}`")));
    }
    let media_type = told.map(str::to_owned).or(own).ok_or_else(|| invalid("not a manifest or index".to_owned()))?;
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
    Ok(Document { descriptor, bytes, content, subject })
}
