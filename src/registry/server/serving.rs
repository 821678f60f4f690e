//! Pulling: manifests and blobs.

use anyhow::Result;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};
use serde_json::Value;

use super::names::Found;
use super::reply;
use super::site::Site;
use crate::image::{Blob, Digest};
use crate::store::MAX_DOCUMENT;

impl Site {
    /// A manifest or index, by tag or digest.
    pub fn manifest(&self, method: &Method, repository: &str, version: &str, query: &str) -> Result<Response<Body>> {
        let unknown = |message: String| Ok(reply::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &message));
        let (digest, media_type) = if version.contains(':') {
            let Ok(digest) = version.parse::<Digest>() else { return Ok(reply::bad_digest()) };
            (digest, None)
        } else {
            match self.names()?.find(self.namespace(query).as_deref(), repository, version) {
                Found::One(descriptor) => (Digest::try_from(descriptor.digest())?, Some(descriptor.media_type().to_string())),
                Found::Nothing => return unknown(format!("no such image: {repository}:{version}")),
                Found::Several(all) => return unknown(format!("{repository}:{version} may be {}: say which", all.join(" or "))),
            }
        };
        let Some(size) = self.store.size_of(&digest).filter(|size| *size <= MAX_DOCUMENT) else {
            return unknown(format!("no such manifest: {repository}@{digest}"));
        };
        let blob = Blob { digest, size };
        let bytes = self.store.read(&blob)?;
        match media_type.or_else(|| media_type_of(&bytes)) {
            Some(media_type) => Ok(reply::manifest(method, &media_type, &blob, bytes)),
            None => unknown(format!("{digest} is a blob, not a manifest")),
        }
    }

    /// A blob or a range of it.
    pub async fn blob(&self, request: &Parts, digest: &str) -> Result<Response<Body>> {
        let Ok(digest) = digest.parse::<Digest>() else { return Ok(reply::bad_digest()) };
        let path = self.store.blob_path(&digest);
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(reply::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", &format!("no such blob: {digest}")));
            }
            Err(error) => return Err(anyhow::Error::from(error).context(path.display().to_string())),
        };
        let blob = Blob { digest, size: file.metadata().await?.len() };
        Ok(reply::blob(&request.method, &request.headers, &blob, file).await?)
    }
}

/// The media type of a manifest or index by its own words, or else by its fields; `None` if it is neither.
pub fn media_type_of(bytes: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let (manifests, layers) = (document["manifests"].is_array(), document["layers"].is_array());
    match document["mediaType"].as_str() {
        Some(media_type) if manifests || layers => Some(media_type.to_owned()),
        _ if manifests => Some("application/vnd.oci.image.index.v1+json".to_owned()),
        _ if layers => Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_the_documents_own_or_told_by_its_fields() {
        for (text, expected) in [
            (
                r#"{"mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}"#,
                "application/vnd.docker.distribution.manifest.v2+json",
            ),
            (r#"{"manifests": []}"#, "application/vnd.oci.image.index.v1+json"),
            (r#"{"layers": []}"#, "application/vnd.oci.image.manifest.v1+json"),
            (r#"{"mediaType": "text/x"}"#, ""),
            ("[]", ""),
            ("x", ""),
        ] {
            assert_eq!(media_type_of(text.as_bytes()).unwrap_or_default(), expected, "{text}");
        }
    }
}
