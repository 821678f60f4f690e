//! Sends requests to one repository of a registry, with the authorization that it requires.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use reqwest::header::WWW_AUTHENTICATE;
use reqwest::{RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;
use url::form_urlencoded::Serializer;

use super::challenge::Challenge;
use super::chunk_size::ChunkSize;
use super::credentials::Credential;
use super::endpoint::Endpoint;
use super::error::{error_from_response, transport_error};
use super::idle_timeout::{IDLE, IdleTimeout};
use crate::error::Failure;

/// Requests to one repository, with one credential and token.
#[derive(Debug)]
pub struct Session {
    endpoint: Arc<Endpoint>,
    repository: String,
    scopes: Vec<String>,
    credential: Option<Credential>,
    challenge: Mutex<Option<Challenge>>,
    token: tokio::sync::Mutex<Option<Token>>,
    /// The chunk size that the registry accepts.
    pub chunks: ChunkSize,
    /// The fastest response so far, in microseconds.
    fastest: AtomicU64,
}

/// A registry that responds within this time is near.
const NEAR: Duration = Duration::from_millis(10);

/// An access token.
#[derive(Debug)]
struct Token {
    secret: SecretString,
    expires: Instant,
}

/// The response of a token service (distribution token specification).
#[derive(Deserialize)]
struct TokenResponse {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Session {
    /// A session for `repository`; tokens are requested for these scopes (`repository:a/b:pull`).
    pub fn new(endpoint: Arc<Endpoint>, repository: &str, scopes: Vec<String>, credential: Option<Credential>) -> Self {
        let challenge = Mutex::new(endpoint.challenge.clone());
        let (repository, token, chunks) = (repository.to_owned(), tokio::sync::Mutex::default(), ChunkSize::default());
        Session { endpoint, repository, scopes, credential, challenge, token, chunks, fastest: AtomicU64::new(u64::MAX) }
    }

    /// The registry and repository (`127.0.0.1:5000/team/shop`), for messages.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.endpoint.host, self.repository)
    }

    /// The registry as users write it.
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// The HTTP client of the registry.
    pub fn http(&self) -> &reqwest::Client {
        &self.endpoint.http
    }

    /// Whether the registry responds within 10 ms. The fastest response counts, since a busy machine delays most of them.
    pub fn is_near(&self) -> bool {
        Duration::from_micros(self.fastest.load(Ordering::Relaxed)) < NEAR
    }

    /// The URL of a path in the repository: `blobs/sha256:…`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}/{path}", self.endpoint.base, self.repository)
    }

    /// The absolute URL of the `Location` header.
    pub fn location(&self, response: &Response) -> Result<Url> {
        let text = response.headers().get("location").and_then(|value| value.to_str().ok());
        let text = text.with_context(|| format!("{}: the response has no Location header", self.repository()))?;
        response.url().join(text).with_context(|| format!("{}: invalid Location header `{text}`", self.repository()))
    }

    /// Sends a request that can be sent twice: again with new authorization after a 401.
    ///
    /// 401, 403, 408, 429 and 5xx except 501 are errors; the caller checks any other status.
    pub async fn send(&self, what: &str, request: impl Fn(&reqwest::Client) -> RequestBuilder) -> Result<Response> {
        self.send_within(2 * IDLE, what, request).await
    }

    /// As [`Session::send`], with another timeout for the response.
    pub async fn send_within(
        &self,
        timeout: Duration,
        what: &str,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response> {
        let idle = IdleTimeout::new(timeout);
        let first = self.send_authorized(request(self.http()), &idle, what).await?;
        if first.status() == StatusCode::UNAUTHORIZED && self.update_challenge(&first).await? {
            let second = self.send_authorized(request(self.http()), &idle, what).await?;
            return self.check_status(second, what).await;
        }
        self.check_status(first, what).await
    }

    /// Sends a request whose body cannot be sent twice; after an expired token the error is of kind `Network`, for a retry.
    pub async fn send_once(&self, what: &str, request: RequestBuilder, idle: &IdleTimeout) -> Result<Response> {
        let response = self.send_authorized(request, idle, what).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.update_challenge(&response).await? {
            return Err(Failure::network(format!("{what}: the token has expired")).into());
        }
        self.check_status(response, what).await
    }

    /// The error for a response.
    pub async fn error_from(&self, response: Response, what: &str) -> anyhow::Error {
        error_from_response(response, self.host(), what).await
    }

    async fn check_status(&self, response: Response, what: &str) -> Result<Response> {
        match response.status().as_u16() {
            401 | 403 | 408 | 429 | 500 | 502..=599 => Err(self.error_from(response, what).await),
            _ => Ok(response),
        }
    }

    async fn send_authorized(&self, request: RequestBuilder, idle: &IdleTimeout, what: &str) -> Result<Response> {
        let request = self.authorize(request).await?;
        let start = Instant::now();
        let response = idle.wait_for(what, request.send()).await?.map_err(|error| transport_error(error, self.host()))?;
        self.fastest.fetch_min(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(response)
    }

    /// Adds the authorization, but only for this registry: a `Location` may lead to another host.
    async fn authorize(&self, request: RequestBuilder) -> Result<RequestBuilder> {
        let (http, request) = request.build_split();
        let request = request.with_context(|| self.repository())?;
        let is_same_host = self.endpoint.has_origin_of(request.url());
        let request = RequestBuilder::from_parts(http, request);
        if !is_same_host {
            return Ok(request);
        }
        match (self.challenge(), &self.credential) {
            (Some(Challenge::Basic), Some(Credential::Password { user, password })) => {
                Ok(request.basic_auth(user, Some(password.expose_secret())))
            }
            (Some(Challenge::Bearer { realm, service }), _) => {
                let mut token = self.token.lock().await;
                if token.as_ref().is_none_or(|token| token.expires < Instant::now()) {
                    *token = Some(self.fetch_token(&realm, service.as_deref()).await?);
                }
                let secret = &token.as_ref().expect("it was just fetched").secret;
                Ok(request.bearer_auth(secret.expose_secret()))
            }
            _ => Ok(request),
        }
    }

    fn challenge(&self) -> Option<Challenge> {
        self.challenge.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the challenge of a 401 response; returns whether the request should be sent again.
    async fn update_challenge(&self, response: &Response) -> Result<bool> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let challenge = Challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
        let previous = std::mem::replace(&mut *self.challenge.lock().unwrap_or_else(PoisonError::into_inner), challenge.clone());
        match challenge {
            Some(Challenge::Bearer { .. }) => {
                self.token.lock().await.take();
                Ok(true)
            }
            Some(Challenge::Basic) => Ok(previous != challenge && self.credential.is_some()),
            None => Ok(false),
        }
    }

    async fn fetch_token(&self, realm: &str, service: Option<&str>) -> Result<Token> {
        let what = format!("registry {}: token from {realm}", self.host());
        let request = async |scopes: &[String]| {
            let sent = IdleTimeout::new(IDLE).wait_for(&what, self.token_request(realm, service, scopes)?.send()).await?;
            sent.map_err(|error| transport_error(error, realm))
        };
        let mut response = request(&self.scopes).await?;
        // some services refuse all scopes if one is not permitted; only the first one is required
        if matches!(response.status().as_u16(), 400..=403) && self.scopes.len() > 1 {
            response = request(&self.scopes[..1]).await?;
        }
        if !response.status().is_success() {
            return Err(self.error_from(response, &what).await);
        }
        let response: TokenResponse = response.json().await.with_context(|| what.clone())?;
        let secret = response.token.or(response.access_token).with_context(|| format!("{what}: the response has no token"))?;
        // the default lifetime is 60 s by the specification; a token is renewed after four fifths
        let lifetime = Duration::from_secs(response.expires_in.unwrap_or(60).clamp(10, 3600));
        Ok(Token { secret: secret.into(), expires: Instant::now() + lifetime.mul_f64(0.8) })
    }

    fn token_request(&self, realm: &str, service: Option<&str>, scopes: &[String]) -> Result<RequestBuilder> {
        let mut url = Url::parse(realm).with_context(|| format!("registry {}: token service `{realm}`", self.host()))?;
        if let Some(Credential::IdentityToken(token)) = &self.credential {
            let mut form = Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", "sealift");
            form.append_pair("refresh_token", token.expose_secret()).append_pair("scope", &scopes.join(" "));
            form.extend_pairs(service.map(|service| ("service", service)));
            return Ok(self.http().post(url).header("content-type", "application/x-www-form-urlencoded").body(form.finish()));
        }
        url.query_pairs_mut().extend_pairs(service.map(|service| ("service", service)));
        url.query_pairs_mut().extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
        let request = self.http().get(url);
        match &self.credential {
            Some(Credential::Password { user, password }) => Ok(request.basic_auth(user, Some(password.expose_secret()))),
            _ => Ok(request),
        }
    }
}
