//! The registry over a store: who may ask what, and who answers.

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
use super::route::{Part, Route};
use super::upload_guard::UploadGuard;
use super::uploads::Uploads;
use crate::error::{Kind, kind_of};
use crate::events::Context;
use crate::image::{Algorithm, Digest};
use crate::store::Store;

/// A registry over a store.
pub struct State {
    /// What it serves.
    pub store: Store,
    /// Who may use it; anybody if `None`.
    pub access: Option<Auth>,
    /// Its own names (`sea.hub:5000`): images asked for under them may be named otherwise in the store. What is pushed is named
    /// under the first.
    pub own_names: Vec<String>,
    /// Whether it takes pushes.
    pub writable: bool,
    /// Whether it deletes.
    pub deletes: bool,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Where it tells about errors.
    pub ctx: Context,
    /// The names, as long as the store does not change.
    pub names: Mutex<Option<(Stamp, Arc<Repositories>)>>,
    /// What is being uploaded.
    pub uploads: Uploads,
    /// What is being pushed and has no name yet.
    pub pending: UploadGuard,
    /// Held while documents are put or something is deleted: what a document names must not go meanwhile.
    pub changing: Mutex<()>,
}

/// Changes when names may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    index: Option<(SystemTime, u64)>,
    blobs: [Option<SystemTime>; 2],
}

impl State {
    /// Answers a request, and says a line about it when it is refused.
    pub async fn answer(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        let (request, body) = request.into_parts();
        let response = match self.route(&request, body).await {
            Ok(response) => response,
            Err(error) if kind_of(&error) == Kind::Network => {
                response::error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", &format!("{error:#}"))
            }
            Err(error) => response::error(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", &format!("{error:#}")),
        };
        let status = response.status();
        // whoever pushes asks first what is there
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
                // clients that try OAuth2 first then ask with GET
                _ => Ok(unsupported("request tokens with GET")),
            };
        }
        if let Some(refused) = self.refused(request, &route).await? {
            return Ok(refused);
        }
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let (site, query) = (self.clone(), query(request).to_owned());
        match route {
            Route::Version if reads => Ok(response::document(StatusCode::OK, "application/json", &json!({}))),
            Route::Catalog if reads => spawn_blocking(move || site.catalog(&query)).await?,
            Route::In { repository, part } if reads => self.read(request, &repository, part).await,
            Route::In { repository, part } => self.write(request, body, &repository, part).await,
            _ => Ok(unsupported("this endpoint is read-only")),
        }
    }

    async fn read(self: &Arc<Self>, request: &Parts, repository: &str, part: Part) -> Result<Response<Body>> {
        let (site, repository, query) = (self.clone(), repository.to_owned(), query(request).to_owned());
        match part {
            Part::Blob(digest) => {
                // whoever pushes asks so, and leaves out what is there
                if self.writable
                    && request.method == Method::HEAD
                    && let Ok(known) = digest.parse()
                {
                    self.hold_if_there(known).await?;
                }
                self.blob(request, &digest).await
            }
            Part::Manifest(version) => {
                let method = request.method.clone();
                spawn_blocking(move || site.manifest(&method, &repository, &version, &query)).await?
            }
            Part::Tags => spawn_blocking(move || site.tags(&repository, &query)).await?,
            Part::Referrers(subject) => spawn_blocking(move || site.referrers(&repository, &subject, &query)).await?,
            Part::Upload(id) if self.writable => self.upload(request, Body::empty(), &repository, &id).await,
            Part::Upload(_) | Part::Uploads => Ok(unsupported("this endpoint cannot be read")),
        }
    }

    /// Keeps what is being pushed from being pruned.
    pub async fn hold(self: &Arc<Self>, what: impl ToString) -> Result<()> {
        let (site, what) = (self.clone(), what.to_string());
        spawn_blocking(move || site.pending.add(what)).await?
    }

    /// As [`Site::hold`], of a blob that is there; whether it is.
    pub async fn hold_if_there(self: &Arc<Self>, digest: Digest) -> Result<bool> {
        if self.store.size_of(&digest).is_none() {
            return Ok(false);
        }
        self.hold(digest).await?;
        // a prune may have been faster
        Ok(self.store.size_of(&digest).is_some())
    }

    async fn write(self: &Arc<Self>, request: &Parts, body: Body, repository: &str, part: Part) -> Result<Response<Body>> {
        let (site, repository) = (self.clone(), repository.to_owned());
        let deletes = request.method == Method::DELETE && !matches!(part, Part::Upload(_));
        if !self.writable {
            return Ok(unsupported("this registry is read-only: start it with `--writable`"));
        }
        if deletes && !self.deletes {
            return Ok(unsupported("deletes are disabled: start the registry with `--allow-delete`"));
        }
        match (&request.method, part) {
            (&Method::POST, Part::Uploads) => self.begin(request, body, &repository).await,
            (&Method::PATCH | &Method::PUT | &Method::DELETE, Part::Upload(id)) => self.upload(request, body, &repository, &id).await,
            (&Method::PUT, Part::Manifest(version)) => self.put_manifest(request, body, repository, version).await,
            (&Method::DELETE, Part::Manifest(version)) => spawn_blocking(move || site.delete_manifest(&repository, &version)).await?,
            (&Method::DELETE, Part::Blob(digest)) => spawn_blocking(move || site.delete_blob(&digest)).await?,
            (method, _) => Ok(unsupported(&format!("{method} is not allowed at this endpoint"))),
        }
    }

    /// The refusal of a request that its sender may not make.
    async fn refused(self: &Arc<Self>, request: &Parts, route: &Route) -> Result<Option<Response<Body>>> {
        if self.access.is_none() {
            return Ok(None);
        }
        let (site, route, header) = (self.clone(), route.clone(), authorization(request));
        let reads = matches!(request.method, Method::GET | Method::HEAD);
        let asked = move || {
            let wish = wish(&route, reads);
            let allowed = site.access.as_ref().is_none_or(|access| access.allows(header.as_deref(), &wish));
            if allowed { None } else { Some(wish.scope()) }
        };
        Ok(spawn_blocking(asked).await?.map(|scope| self.challenge(request, scope)))
    }

    /// Says how to show who one is.
    fn challenge(&self, request: &Parts, scope: Option<String>) -> Response<Body> {
        let mut response = response::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "authentication required");
        let host = request.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let challenge = match self.access.as_ref().is_some_and(|access| access.tokens.is_some()) {
            true => {
                let scope = scope.map_or_else(String::new, |scope| format!(",scope=\"{scope}\""));
                format!("Bearer realm=\"{}://{host}/token\",service=\"{host}\"{scope}", self.scheme)
            }
            false => "Basic realm=\"sealift\"".to_owned(),
        };
        response::set(&mut response, "www-authenticate", &challenge);
        response
    }

    /// Gives out a token to a user, and to others where they may pull.
    async fn token(self: &Arc<Self>, request: &Parts) -> Result<Response<Body>> {
        let (site, header, query) = (self.clone(), authorization(request), query(request).to_owned());
        let given = spawn_blocking(move || {
            let access = site.access.as_ref()?;
            let tokens = access.tokens.as_ref()?;
            match header {
                Some(header) => Some(access.knows(&header).then(|| tokens.give(&query, true))),
                None => Some(access.anonymous_pull.then(|| tokens.give(&query, false))),
            }
        });
        Ok(match given.await? {
            Some(Some(token)) => token,
            Some(None) => {
                let mut refused = response::error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "incorrect user name or password");
                refused.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"sealift\""));
                refused
            }
            None => response::error(StatusCode::NOT_FOUND, "UNSUPPORTED", "no such endpoint"),
        })
    }

    /// The registry that the client wants the image from, by containerd's `ns`; none when that is this registry itself.
    pub fn namespace(&self, query: &str) -> Option<String> {
        parameter(query, "ns").filter(|namespace| !namespace.is_empty() && !self.own_names.contains(namespace))
    }

    /// The names of the store as it is now.
    pub fn names(&self) -> Result<Arc<Repositories>> {
        let mut known = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((stamp, names)) = &*known
            && *stamp == self.stamp(names.incomplete)
        {
            return Ok(names.clone());
        }
        // the stamp is taken before reading: what changes meanwhile is read again next time
        let (with_blobs, without) = (self.stamp(true), self.stamp(false));
        let names = Arc::new(Repositories::read(&self.store, self.own_names.first().map(String::as_str))?);
        *known = Some((if names.incomplete { with_blobs } else { without }, names.clone()));
        Ok(names)
    }

    fn stamp(&self, with_blobs: bool) -> Stamp {
        let index = std::fs::metadata(self.store.root().join("index.json")).ok();
        let index = index.and_then(|metadata| Some((metadata.modified().ok()?, std::os::unix::fs::MetadataExt::ino(&metadata))));
        let changed =
            |algorithm: Algorithm| std::fs::metadata(self.store.root().join("blobs").join(algorithm.name())).ok()?.modified().ok();
        Stamp { index, blobs: if with_blobs { Algorithm::ALL.map(changed) } else { Default::default() } }
    }
}

/// What a request wants to do.
fn wish(route: &Route, reads: bool) -> Action<'_> {
    match route {
        Route::In { part: Part::Upload(_), repository } => Action::Push(repository),
        Route::In { repository, .. } if reads => Action::Pull(repository),
        Route::In { repository, .. } => Action::Push(repository),
        Route::Catalog => Action::Catalog,
        Route::Version | Route::Token => Action::Enter,
    }
}

/// The refusal of what this registry does not do.
pub fn unsupported(message: &str) -> Response<Body> {
    response::error(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
}

/// The query of a request.
pub fn query(request: &Parts) -> &str {
    request.uri.query().unwrap_or_default()
}

/// One parameter of a query.
pub fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn authorization(request: &Parts) -> Option<String> {
    request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned)
}
