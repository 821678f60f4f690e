//! Requests to one repository of a registry, with the authorization that it asks for.

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
use super::error::{refuse, unanswered};
use super::idle_timeout::{IDLE, IdleTimeout};
use crate::error::Failure;

/// Requests of one kind to one repository.
#[derive(Debug)]
pub struct Session {
    endpoint: Arc<Endpoint>,
    repository: String,
    scopes: Vec<String>,
    credential: Option<Credential>,
    challenge: Mutex<Option<Challenge>>,
    token: tokio::sync::Mutex<Option<Token>>,
    /// What the registry takes in one request.
    pub chunks: ChunkSize,
    /// The shortest that it has taken to answer, in microseconds.
    fastest: AtomicU64,
}

/// A registry that has answered within this time is near.
const NEAR: Duration = Duration::from_millis(10);

/// An access token.
#[derive(Debug)]
struct Token {
    secret: SecretString,
    expires: Instant,
}

/// The answer of a token service (distribution token specification).
#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Session {
    /// Requests to `repository` that may need these scopes (`repository:a/b:pull`).
    pub fn new(endpoint: Arc<Endpoint>, repository: &str, scopes: Vec<String>, credential: Option<Credential>) -> Self {
        let challenge = Mutex::new(endpoint.challenge.clone());
        let (repository, token, chunks) = (repository.to_owned(), tokio::sync::Mutex::default(), ChunkSize::default());
        Session { endpoint, repository, scopes, credential, challenge, token, chunks, fastest: AtomicU64::new(u64::MAX) }
    }

    /// The registry and repository, for messages.
    pub fn place(&self) -> String {
        format!("{}/{}", self.endpoint.host, self.repository)
    }

    /// The registry as users write it.
    pub fn host(&self) -> &str {
        &self.endpoint.host
    }

    /// What talks to the registry.
    pub fn http(&self) -> &reqwest::Client {
        &self.endpoint.http
    }

    /// Whether the registry is near. On a busy machine most answers are late, so the fastest one counts.
    pub fn is_near(&self) -> bool {
        Duration::from_micros(self.fastest.load(Ordering::Relaxed)) < NEAR
    }

    /// The URL of something of the repository: `blobs/sha256:…`.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}/{path}", self.endpoint.base, self.repository)
    }

    /// The URL that a `Location` header means.
    pub fn location(&self, response: &Response) -> Result<Url> {
        let text = response.headers().get("location").and_then(|value| value.to_str().ok());
        let text = text.with_context(|| format!("{}: the response has no Location header", self.place()))?;
        response.url().join(text).with_context(|| format!("{}: invalid Location header `{text}`", self.place()))
    }

    /// Sends a request without a body or with a small one, a second time when the registry first wants to be convinced.
    ///
    /// Refusals (401, 403, 408, 429, 5xx but 501) are errors; every other status is the caller's.
    pub async fn send(&self, what: &str, request: impl Fn(&reqwest::Client) -> RequestBuilder) -> Result<Response> {
        self.send_within(2 * IDLE, what, request).await
    }

    /// As [`Session::send`], where the answer may take so long.
    pub async fn send_within(
        &self,
        patience: Duration,
        what: &str,
        request: impl Fn(&reqwest::Client) -> RequestBuilder,
    ) -> Result<Response> {
        let pulse = IdleTimeout::new(patience);
        let first = self.attempt(request(self.http()), &pulse, what).await?;
        if first.status() == StatusCode::UNAUTHORIZED && self.convince(&first).await? {
            let second = self.attempt(request(self.http()), &pulse, what).await?;
            return self.judge(second, what).await;
        }
        self.judge(first, what).await
    }

    /// Sends a request whose body cannot be sent twice; when its authorization has run out, the error is worth a retry.
    pub async fn send_once(&self, what: &str, request: RequestBuilder, pulse: &IdleTimeout) -> Result<Response> {
        let response = self.attempt(request, pulse, what).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.convince(&response).await? {
            return Err(Failure::network(format!("{what}: the token has expired")).into());
        }
        self.judge(response, what).await
    }

    /// The failure that a response stands for.
    pub async fn refuse(&self, response: Response, what: &str) -> anyhow::Error {
        refuse(response, self.host(), what).await
    }

    async fn judge(&self, response: Response, what: &str) -> Result<Response> {
        match response.status().as_u16() {
            401 | 403 | 408 | 429 | 500 | 502..=599 => Err(self.refuse(response, what).await),
            _ => Ok(response),
        }
    }

    async fn attempt(&self, request: RequestBuilder, pulse: &IdleTimeout, what: &str) -> Result<Response> {
        let request = self.authorize(request).await?;
        let asked = Instant::now();
        let answer = pulse.watch(what, request.send()).await?.map_err(|error| unanswered(error, self.host()))?;
        self.fastest.fetch_min(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(answer)
    }

    /// Shows who we are, to this registry alone: a `Location` may lead to another host.
    async fn authorize(&self, request: RequestBuilder) -> Result<RequestBuilder> {
        let (http, request) = request.build_split();
        let request = request.with_context(|| self.place())?;
        let is_ours = self.endpoint.is_at(request.url());
        let request = RequestBuilder::from_parts(http, request);
        if !is_ours {
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

    /// Takes in what a 401 asks for; whether asking again can help.
    async fn convince(&self, response: &Response) -> Result<bool> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE);
        let asked = Challenge::parse(headers.iter().filter_map(|value| value.to_str().ok()));
        let known = std::mem::replace(&mut *self.challenge.lock().unwrap_or_else(PoisonError::into_inner), asked.clone());
        match asked {
            Some(Challenge::Bearer { .. }) => {
                self.token.lock().await.take();
                Ok(true)
            }
            Some(Challenge::Basic) => Ok(known != asked && self.credential.is_some()),
            None => Ok(false),
        }
    }

    async fn fetch_token(&self, realm: &str, service: Option<&str>) -> Result<Token> {
        let what = format!("registry {}: token from {realm}", self.host());
        let ask = async |scopes: &[String]| {
            let asked = IdleTimeout::new(IDLE).watch(&what, self.token_request(realm, service, scopes)?.send()).await?;
            asked.map_err(|error| unanswered(error, realm))
        };
        let mut response = ask(&self.scopes).await?;
        // some services refuse all when one repository is not the user's; the first is the one that must be
        if matches!(response.status().as_u16(), 400..=403) && self.scopes.len() > 1 {
            response = ask(&self.scopes[..1]).await?;
        }
        if !response.status().is_success() {
            return Err(self.refuse(response, &what).await);
        }
        let answer: TokenAnswer = response.json().await.with_context(|| what.clone())?;
        let secret = answer.token.or(answer.access_token).with_context(|| format!("{what}: the response has no token"))?;
        // a token of unknown life is good for 60 s by the specification; a fifth is kept in reserve
        let life = Duration::from_secs(answer.expires_in.unwrap_or(60).clamp(10, 3600));
        Ok(Token { secret: secret.into(), expires: Instant::now() + life.mul_f64(0.8) })
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
