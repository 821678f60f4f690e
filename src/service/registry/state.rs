//! The state of the registry server, and the dispatch of requests: authorization, then the endpoint.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use anyhow::Result;
use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde_json::json;
use tokio::task::spawn_blocking;
use url::form_urlencoded;

use super::auth::{Action, Auth};
use super::repositories::Repositories;
use super::response;
use super::route::{Endpoint, Route};
use super::upload_guard::UploadGuard;
use super::uploads::Uploads;
use crate::error::{Kind, kind_of};
use crate::events::Context;
use crate::image::{Algorithm, Digest};
use crate::store::Store;

/// The state of the registry server.
pub struct State {
    /// The store that it serves.
    pub store: Store,
    /// Who may use it; everybody if `None`.
    pub auth: Option<Auth>,
    /// Its own names (`sea.hub:5000`). A request for one of them (`?ns=`) matches images of any registry. Pushed images are tagged
    /// under the first.
    pub hostnames: Vec<String>,
    /// Whether it accepts pushes.
    pub writable: bool,
    /// Whether it accepts deletes.
    pub allow_delete: bool,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Receives warnings about refused requests.
    pub ctx: Context,
    /// The repositories, cached until the store changes.
    pub repositories: Mutex<Option<(StoreStamp, Arc<Repositories>)>>,
    /// The open uploads.
    pub uploads: Uploads,
    /// Protects pushed blobs that no manifest lists yet from `prune`.
    pub upload_guard: UploadGuard,
    /// Held while manifests are put or anything is deleted: the blobs of a manifest must not be deleted meanwhile.
    pub write_lock: Mutex<()>,
}

/// Changes when the repositories may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStamp {
    index: Option<(SystemTime, u64)>,
    blobs: [Option<SystemTime>; 2],
}

impl State {
    /// Handles a request, and warns about it if it fails.
    pub async fn respond(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (request, body) = request.into_parts();
        let response = match self.route(&request, body).await {
            Ok(response) => response,
            Err(error) if kind_of(&error) == Kind::Network => {
                response::error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &format!("{error:#}"))
            }
            Err(error) => response::error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &format!("{error:#}")),
        };
        let status = response.status();
        // clients that push ask for existing blobs first: a 404 is normal
        if self.writable && request.method == Method::HEAD && status == StatusCode::NOT_FOUND {
            return response;
        }
        if status.is_server_error() || (status.is_client_error() && status != StatusCode::UNAUTHORIZED) {
            let reason = response.extensions().get::<response::ErrorResponse>().map_or("", |reason| reason.0.as_str());
            self.ctx.warn(format!("{} {}: {} {reason}", request.method, request.uri, status.as_u16()));
        }
        response
    }

    async fn route(self: &Arc<Self>, request: &Parts, body: Body) -> Result<Response<Body>> {
        let Some(route) = Route::parse(request.uri.path()) else {
            return Ok(response::error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such endpoint"));
        };
        if route == Route::Token {
            return match request.method {
                Method::GET => self.token(request).await,
                // clients that try OAuth2 (POST) fall back to GET
                _ => Ok(unsupported("request tokens with GET")),
            };
        }
        if let Some(refused) = self.check_access(request, &route).await? {
            return Ok(refused);
        }
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let (state, query) = (self.clone(), query(request).to_owned());
        match route {
            Route::Version if reads => Ok(response::json(StatusCode::OK, "application/json", &json!({}))),
            Route::Catalog if reads => spawn_blocking(move || state.catalog(&query)).await?,
            Route::Repository { repository, endpoint } if reads => self.read(request, &repository, endpoint).await,
            Route::Repository { repository, endpoint } => self.write(request, body, &repository, endpoint).await,
            _ => Ok(unsupported("this endpoint is read-only")),
        }
    }

    async fn read(self: &Arc<Self>, request: &Parts, repository: &str, endpoint: Endpoint) -> Result<Response<Body>> {
        let (state, repository, query) = (self.clone(), repository.to_owned(), query(request).to_owned());
        match endpoint {
            Endpoint::Blob(digest) => {
                // clients that push skip the blobs that exist: they must not be pruned now
                if self.writable
                    && request.method == Method::HEAD
                    && let Ok(cache) = digest.parse()
                {
                    self.protect_if_present(cache).await?;
                }
                self.blob(request, &digest).await
            }
            Endpoint::Manifest(version) => {
                let method = request.method.clone();
                spawn_blocking(move || state.manifest(&method, &repository, &version, &query)).await?
            }
            Endpoint::Tags => spawn_blocking(move || state.tags(&repository, &query)).await?,
            Endpoint::Referrers(subject) => spawn_blocking(move || state.referrers(&repository, &subject, &query)).await?,
            Endpoint::Upload(id) if self.writable => self.upload(request, Body::empty(), &repository, &id).await,
            Endpoint::Upload(_) | Endpoint::Uploads => Ok(unsupported("this endpoint cannot be read")),
        }
    }

    /// Protects an upload or blob from `prune` until a manifest lists it.
    pub async fn protect(self: &Arc<Self>, what: impl ToString) -> Result<()> {
        let (state, what) = (self.clone(), what.to_string());
        spawn_blocking(move || state.upload_guard.add(what)).await?
    }

    /// As [`State::protect`] for a blob, if it exists; returns whether it does.
    pub async fn protect_if_present(self: &Arc<Self>, digest: Digest) -> Result<bool> {
        if self.store.size_of(&digest).is_none() {
            return Ok(false);
        }
        self.protect(digest).await?;
        // prune may have deleted it meanwhile
        Ok(self.store.size_of(&digest).is_some())
    }

    async fn write(self: &Arc<Self>, request: &Parts, body: Body, repository: &str, endpoint: Endpoint) -> Result<Response<Body>> {
        let (state, repository) = (self.clone(), repository.to_owned());
        let deletes = request.method == Method::DELETE && !matches!(endpoint, Endpoint::Upload(_));
        if !self.writable {
            return Ok(unsupported("this registry is read-only: start it with `--writable`"));
        }
        if deletes && !self.allow_delete {
            return Ok(unsupported("deletes are disabled: start the registry with `--allow-delete`"));
        }
        match (&request.method, endpoint) {
            (&Method::POST, Endpoint::Uploads) => self.start_upload(request, body, &repository).await,
            (&Method::PATCH | &Method::PUT | &Method::DELETE, Endpoint::Upload(id)) => self.upload(request, body, &repository, &id).await,
            (&Method::PUT, Endpoint::Manifest(version)) => self.put_manifest(request, body, repository, version).await,
            (&Method::DELETE, Endpoint::Manifest(version)) => spawn_blocking(move || state.delete_manifest(&repository, &version)).await?,
            (&Method::DELETE, Endpoint::Blob(digest)) => spawn_blocking(move || state.delete_blob(&digest)).await?,
            (method, _) => Ok(unsupported(&format!("{method} is not allowed at this endpoint"))),
        }
    }

    /// Checks the permission for a request; returns the 401 response if it is denied.
    async fn check_access(self: &Arc<Self>, request: &Parts, route: &Route) -> Result<Option<Response<Body>>> {
        if self.auth.is_none() {
            return Ok(None);
        }
        let (state, route, header) = (self.clone(), route.clone(), authorization(request));
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let check = move || {
            let action = action_of(&route, reads);
            let allowed = state.auth.as_ref().is_none_or(|auth| auth.allows(header.as_deref(), &action));
            if allowed { None } else { Some(action.scope()) }
        };
        Ok(spawn_blocking(check).await?.map(|scope| self.challenge(request, scope)))
    }

    /// The 401 response, with how to authenticate.
    fn challenge(&self, request: &Parts, scope: Option<String>) -> Response<Body> {
        let mut response = response::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        let host = request.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let challenge = match self.auth.as_ref().is_some_and(|auth| auth.tokens.is_some()) {
            true => {
                let scope = scope.map_or_else(String::new, |scope| format!(",scope=\"{scope}\""));
                format!("Bearer realm=\"{}://{host}/token\",service=\"{host}\"{scope}", self.scheme)
            }
            false => "Basic realm=\"sealift\"".to_owned(),
        };
        response::set_header(&mut response, "www-authenticate", &challenge);
        response
    }

    /// Issues a token to a user, and to anonymous clients if they may pull.
    async fn token(self: &Arc<Self>, request: &Parts) -> Result<Response<Body>> {
        let (state, header, query) = (self.clone(), authorization(request), query(request).to_owned());
        let issued = spawn_blocking(move || {
            let auth = state.auth.as_ref()?;
            let tokens = auth.tokens.as_ref()?;
            match header {
                Some(header) => Some(auth.authenticates(&header).then(|| tokens.issue(&query, true))),
                None => Some(auth.anonymous_pull.then(|| tokens.issue(&query, false))),
            }
        });
        Ok(match issued.await? {
            Some(Some(token)) => token,
            Some(None) => {
                let mut refused = response::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "incorrect user name or password");
                refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"sealift\""));
                refused
            }
            None => response::error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such endpoint"),
        })
    }

    /// The original registry of the requested image (containerd's `ns`); `None` if it is this registry.
    pub fn namespace(&self, query: &str) -> Option<String> {
        parameter(query, "ns").filter(|namespace| !namespace.is_empty() && !self.hostnames.contains(namespace))
    }

    /// The repositories of the store as it is now.
    pub fn repositories(&self) -> Result<Arc<Repositories>> {
        let mut cache = self.repositories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, repositories)) = &*cache
            && *stamp == self.stamp(repositories.incomplete)
        {
            return Ok(repositories.clone());
        }
        // the stamp is taken before reading, so that changes meanwhile are read the next time
        let (with_blobs, without) = (self.stamp(true), self.stamp(false));
        let repositories = Arc::new(Repositories::read(&self.store, self.hostnames.first().map(String::as_str))?);
        *cache = Some((if repositories.incomplete { with_blobs } else { without }, repositories.clone()));
        Ok(repositories)
    }

    fn stamp(&self, with_blobs: bool) -> StoreStamp {
        let index = std::fs::metadata(self.store.root().join("index.json")).ok();
        let index = index.and_then(|metadata| Some((metadata.modified().ok()?, std::os::unix::fs::MetadataExt::ino(&metadata))));
        let changed =
            |algorithm: Algorithm| std::fs::metadata(self.store.root().join("blobs").join(algorithm.name())).ok()?.modified().ok();
        StoreStamp { index, blobs: if with_blobs { Algorithm::ALL.map(changed) } else { Default::default() } }
    }
}

/// The action of a route.
fn action_of(route: &Route, reads: bool) -> Action<'_> {
    match route {
        Route::Repository { endpoint: Endpoint::Upload(_), repository } => Action::Push(repository),
        Route::Repository { repository, .. } if reads => Action::Pull(repository),
        Route::Repository { repository, .. } => Action::Push(repository),
        Route::Catalog => Action::Catalog,
        Route::Version | Route::Token => Action::Authenticate,
    }
}

/// The response to an unsupported operation: 405.
pub fn unsupported(message: &str) -> Response<Body> {
    response::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
}

/// The query string of a request.
pub fn query(request: &Parts) -> &str {
    request.uri.query().unwrap_or_default()
}

/// The first value of a query parameter, decoded.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn authorization(request: &Parts) -> Option<String> {
    request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
