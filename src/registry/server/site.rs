//! The registry's answers.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Result;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Method, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use url::form_urlencoded;

use super::access::Access;
use super::names::{Found, Names};
use super::reply;
use super::route::Route;
use crate::events::Job;
use crate::image::{Blob, Digest};
use crate::store::Store;

/// A registry over a store.
pub struct Site {
    /// What it serves.
    pub store: Store,
    /// Who may use it; anybody if `None`.
    pub access: Option<Access>,
    /// Its own names (`sea.hub:5000`): images asked for under them may be named otherwise in the store.
    pub own_names: Vec<String>,
    /// Where it tells about errors.
    pub job: Job,
    /// The names, as long as the store does not change.
    pub names: Mutex<Option<(Stamp, Arc<Names>)>>,
}

/// Changes when names may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    index: Option<(SystemTime, u64)>,
    blobs: Option<SystemTime>,
}

impl Site {
    /// Answers a request, and says a line about it when it is refused.
    pub async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (request, _) = request.into_parts();
        let response = match self.route(&request).await {
            Ok(response) => response,
            Err(error) => reply::error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &format!("{error:#}")),
        };
        let status = response.status();
        if status.is_server_error() || (status.is_client_error() && status != StatusCode::UNAUTHORIZED) {
            let reason = response.extensions().get::<reply::Reason>().map_or("", |reason| reason.0.as_str());
            self.job.warn(format!("{} {}: {} {reason}", request.method, request.uri, status.as_u16()));
        }
        response
    }

    async fn route(self: &Arc<Self>, request: &Parts) -> Result<Response<Body>> {
        if let Some(refused) = self.refused(request).await? {
            return Ok(refused);
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            return Ok(reply::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only"));
        }
        let site = self.clone();
        let query = request.uri.query().unwrap_or_default().to_owned();
        match Route::parse(request.uri.path()) {
            Some(Route::Version) => Ok(reply::document(StatusCode::OK, "application/json", &json!({}))),
            Some(Route::Blob { digest }) => self.blob(request, &digest).await,
            Some(Route::Referrers) => Ok(no_referrers()),
            Some(Route::Manifest { repository, version }) => {
                let method = request.method.clone();
                spawn_blocking(move || site.manifest(&method, &repository, &version, &query)).await?
            }
            Some(Route::Tags { repository }) => spawn_blocking(move || site.tags(&repository, &query)).await?,
            Some(Route::Catalog) => spawn_blocking(move || site.catalog(&query)).await?,
            None => Ok(reply::error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such endpoint")),
        }
    }

    /// The refusal of a request without a user's password.
    async fn refused(self: &Arc<Self>, request: &Parts) -> Result<Option<Response<Body>>> {
        if self.access.is_none() {
            return Ok(None);
        }
        let header = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let site = self.clone();
        let allowed = spawn_blocking(move || site.access.as_ref().is_none_or(|access| access.allows(header.as_deref()))).await?;
        if allowed {
            return Ok(None);
        }
        let mut response = reply::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        let challenge = header::HeaderValue::from_static("Basic realm=\"sealift\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        Ok(Some(response))
    }

    fn manifest(&self, method: &Method, repository: &str, version: &str, query: &str) -> Result<Response<Body>> {
        let unknown = |message: String| Ok(reply::error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", &message));
        let (digest, media_type) = if version.contains(':') {
            let Ok(digest) = version.parse::<Digest>() else {
                return Ok(reply::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "want sha256: and 64 hex digits"));
            };
            (digest, None)
        } else {
            match self.names()?.find(self.namespace(query).as_deref(), repository, version) {
                Found::One(descriptor) => (Digest::try_from(descriptor.digest())?, Some(descriptor.media_type().to_string())),
                Found::Nothing => return unknown(format!("no such image: {repository}:{version}")),
                Found::Several(all) => return unknown(format!("{repository}:{version} may be {}: say which", all.join(" or "))),
            }
        };
        let Some(size) = self.store.size_of(&digest).filter(|size| *size <= 4 << 20) else {
            return unknown(format!("no such manifest: {repository}@{digest}"));
        };
        let blob = Blob { digest, size };
        let bytes = self.store.read(&blob)?;
        match media_type.or_else(|| media_type_of(&bytes)) {
            Some(media_type) => Ok(reply::manifest(method, &media_type, &blob, bytes)),
            None => unknown(format!("{digest} is a blob, not a manifest")),
        }
    }

    async fn blob(&self, request: &Parts, digest: &str) -> Result<Response<Body>> {
        let Ok(digest) = digest.parse::<Digest>() else {
            return Ok(reply::error(StatusCode::BAD_REQUEST, "DIGEST_INVALID", "want sha256: and 64 hex digits"));
        };
        let path = self.blob_path(&digest);
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

    fn tags(&self, repository: &str, query: &str) -> Result<Response<Body>> {
        match self.names()?.tags(self.namespace(query).as_deref(), repository) {
            Some(tags) => {
                let document = json!({"name": repository, "tags": page(tags, query)});
                Ok(reply::document(StatusCode::OK, "application/json", &document))
            }
            None => Ok(reply::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &format!("no such repository: {repository}"))),
        }
    }

    fn catalog(&self, query: &str) -> Result<Response<Body>> {
        let document = json!({"repositories": page(self.names()?.repositories(), query)});
        Ok(reply::document(StatusCode::OK, "application/json", &document))
    }

    /// The registry that the client wants the image from, by containerd's `ns`; none when that is this registry itself.
    fn namespace(&self, query: &str) -> Option<String> {
        parameter(query, "ns").filter(|namespace| !namespace.is_empty() && !self.own_names.contains(namespace))
    }

    /// The names of the store as it is now.
    fn names(&self) -> Result<Arc<Names>> {
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, names)) = &*known
            && *stamp == self.stamp(names.incomplete)
        {
            return Ok(names.clone());
        }
        // the stamp is taken before reading: what changes meanwhile is read again next time
        let (with_blobs, without) = (self.stamp(true), self.stamp(false));
        let names = Arc::new(Names::read(&self.store)?);
        *known = Some((if names.incomplete { with_blobs } else { without }, names.clone()));
        Ok(names)
    }

    fn stamp(&self, with_blobs: bool) -> Stamp {
        let index = std::fs::metadata(self.store.root().join("index.json")).ok();
        let index = index.and_then(|metadata| Some((metadata.modified().ok()?, std::os::unix::fs::MetadataExt::ino(&metadata))));
        let blobs = with_blobs.then(|| std::fs::metadata(self.store.root().join("blobs/sha256")).and_then(|metadata| metadata.modified()));
        Stamp { index, blobs: blobs.and_then(Result::ok) }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.store.root().join("blobs/sha256").join(digest.hex())
    }
}

/// The media type of a manifest or index by its own words, or else by its fields; `None` if it is neither.
fn media_type_of(bytes: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(bytes).ok()?;
    let (manifests, layers) = (document["manifests"].is_array(), document["layers"].is_array());
    match document["mediaType"].as_str() {
        Some(media_type) if manifests || layers => Some(media_type.to_owned()),
        _ if manifests => Some("application/vnd.oci.image.index.v1+json".to_owned()),
        _ if layers => Some("application/vnd.oci.image.manifest.v1+json".to_owned()),
        _ => None,
    }
}

fn no_referrers() -> Response<Body> {
    let media_type = "application/vnd.oci.image.index.v1+json";
    reply::document(StatusCode::OK, media_type, &json!({"schemaVersion": 2, "mediaType": media_type, "manifests": []}))
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

/// What `n` and `last` ask for of a sorted list.
fn page(mut all: Vec<String>, query: &str) -> Vec<String> {
    if let Some(last) = parameter(query, "last") {
        all.retain(|item| *item > last);
    }
    if let Some(count) = parameter(query, "n").and_then(|text| text.parse().ok()) {
        all.truncate(count);
    }
    all
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

    #[test]
    fn lists_are_paged() {
        let all = || ["a", "b", "c"].map(str::to_owned).to_vec();
        for (query, expected) in [("", "abc"), ("n=2", "ab"), ("n=1&last=a", "b"), ("last=c", ""), ("n=x", "abc"), ("n=0", "")] {
            assert_eq!(page(all(), query).concat(), expected, "{query}");
        }
    }
}
