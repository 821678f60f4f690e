//! Serves manifests and blobs.

use anyhow::Result;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Response, StatusCode};

use super::repositories::Lookup;
use super::response;
use super::state::State;
use crate::image::{Blob, Digest, media_type_of};
use crate::store::MAX_MANIFEST_SIZE;

impl State {
    /// Serves a manifest or index, by tag or digest.
    pub fn manifest(&self, method: &Method, repository: &str, version: &str, query: &str) -> Result<Response<Body>> {
        let unknown = |message: String| Ok(response::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &message));
        let (digest, media_type) = if version.contains(':') {
            let Ok(digest) = version.parse::<Digest>() else { return Ok(response::invalid_digest()) };
            (digest, None)
        } else {
            match self.repositories()?.find(self.namespace(query).as_deref(), repository, version) {
                Lookup::Found(descriptor) => (Digest::try_from(descriptor.digest())?, Some(descriptor.media_type().to_string())),
                Lookup::NotFound => return unknown(format!("no such image: {repository}:{version}")),
                Lookup::Ambiguous(all) => return unknown(format!("{repository}:{version} is ambiguous: use {}", all.join(" or "))),
            }
        };
        let Some(size) = self.store.size_of(&digest).filter(|size| *size <= MAX_MANIFEST_SIZE) else {
            return unknown(format!("no such manifest: {repository}@{digest}"));
        };
        let blob = Blob { digest, size };
        let bytes = self.store.read(&blob)?;
        match media_type.or_else(|| media_type_of(&bytes)) {
            Some(media_type) => Ok(response::manifest(method, &media_type, &blob, bytes)),
            None => unknown(format!("{digest} is a blob, not a manifest")),
        }
    }

    /// Serves a blob or a range of it.
    pub async fn blob(&self, request: &Parts, digest: &str) -> Result<Response<Body>> {
        let Ok(digest) = digest.parse::<Digest>() else { return Ok(response::invalid_digest()) };
        let path = self.store.blob_path(&digest);
        let file = match tokio::fs::File::open(&path).await {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(response::error(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", &format!("no such blob: {digest}")));
            }
            Err(error) => return Err(anyhow::Error::from(error).context(path.display().to_string())),
        };
        let blob = Blob { digest, size: file.metadata().await?.len() };
        Ok(response::blob(&request.method, &request.headers, &blob, file).await?)
    }
}
