//! A registry in the test process that injects faults.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::net::TcpListener;

use crate::image::Digest;

/// A fault for the next request whose `METHOD path?query` contains `request`.
pub struct Fault {
    pub request: String,
    pub response: FaultResponse,
}

/// The faulty response.
#[derive(Debug)]
pub enum FaultResponse {
    /// A status and a header.
    Status(u16, &'static str, &'static str),
    /// `DIGEST_INVALID`, though the digest is right.
    DigestInvalid,
    /// All bytes, whatever range was requested.
    WholeInstead,
    /// Stores the first bytes of the body, drops the rest, and responds with this status.
    Keep(usize, u16),
    /// Other bytes than requested.
    Flip,
    /// A header with another range than requested.
    OtherRange,
    /// Half of the requested bytes, then a closed connection.
    Half,
    /// A closed connection before any response.
    HangUp,
    /// A location at this `HOST:PORT`: a redirect, or where an upload continues.
    At(String),
}

#[derive(Default)]
pub struct State {
    pub blobs: HashMap<String, Vec<u8>>,
    pub manifests: HashMap<String, (String, Vec<u8>)>,
    pub uploads: HashMap<String, Vec<u8>>,
    pub faults: Vec<Fault>,
    /// Requests, with their `Range` and `Content-Range`.
    pub log: Vec<String>,
    /// The `Authorization` headers of requests.
    pub authorizations: Vec<String>,
    /// Tokens are required; each is valid for this many requests.
    pub token_uses: Option<usize>,
    /// Tokens are issued for one scope only.
    pub one_scope: bool,
    /// Each response takes some time.
    pub slow: bool,
    /// The maximum number of concurrent requests.
    pub max_concurrent: usize,
    concurrent: usize,
    tokens: usize,
    uses_left: usize,
}

#[derive(Clone)]
pub struct FakeRegistry {
    pub host: String,
    pub state: Arc<Mutex<State>>,
}

impl FakeRegistry {
    pub async fn start() -> FakeRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let fake = FakeRegistry { host: listener.local_addr().unwrap().to_string(), state: Arc::default() };
        let server = fake.clone();
        let router = Router::new().fallback(move |request| server.clone().respond(request));
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The number of requests with this text in their log line.
    pub fn count(&self, part: &str) -> usize {
        self.state().log.iter().filter(|line| line.contains(part)).count()
    }

    async fn delay(&self) {
        if !self.state().slow {
            return;
        }
        {
            let mut state = self.state();
            state.concurrent += 1;
            state.max_concurrent = state.max_concurrent.max(state.concurrent);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        self.state().concurrent -= 1;
    }

    async fn respond(self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 1 << 30).await.unwrap_or_default();
        self.delay().await;
        let mut state = self.state();
        let line = format!("{} {}", parts.method, parts.uri);
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        state.log.push(format!("{line} {}{}", header("range"), header("content-range")));
        state.authorizations.push(header("authorization").to_owned());
        if parts.uri.path() == "/token" {
            if state.one_scope && line.matches("scope=").count() > 1 {
                return reply(403, &[], br#"{"details": "not your repository"}"#.to_vec());
            }
            return state.issue_token(&parts.method, &parts.headers, &String::from_utf8_lossy(&body));
        }
        if let Some(unauthorized) = state.unauthorized(&parts.headers, &self.host) {
            return unauthorized;
        }
        let fault = state.faults.iter().position(|fault| line.contains(&fault.request));
        let fault = fault.map(|place| state.faults.remove(place).response);
        state.serve(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default(), &parts.headers, &body, fault)
    }
}

/// These bytes, then a closed connection.
fn closed_connection(bytes: Vec<u8>) -> Response<Body> {
    let reset = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let chunks = if bytes.is_empty() { vec![reset] } else { vec![Ok(bytes), reset] };
    Response::new(Body::from_stream(futures_util::stream::iter(chunks)))
}

fn reply(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Response<Body> {
    let mut builder = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers.iter().filter(|(name, _)| !name.is_empty()) {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body)).unwrap()
}

fn digest_invalid() -> Response<Body> {
    let body = br#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}"#;
    reply(400, &[], body.to_vec())
}

impl State {
    fn issue_token(&mut self, method: &Method, headers: &HeaderMap, form: &str) -> Response<Body> {
        if *method == Method::POST {
            self.log.push(form.to_owned());
            if !form.contains("grant_type=refresh_token") || !form.contains("refresh_token=identity") {
                return reply(401, &[], br#"{"details": "unknown refresh token"}"#.to_vec());
            }
        }
        if headers.get("authorization").is_some_and(|value| value.to_str().unwrap_or_default().starts_with("Basic d3Jvbm")) {
            return reply(401, &[], br#"{"details": "incorrect username or password"}"#.to_vec());
        }
        self.tokens += 1;
        self.uses_left = self.token_uses.unwrap_or(0);
        reply(200, &[], format!(r#"{{"token": "t{}", "expires_in": 300}}"#, self.tokens).into_bytes())
    }

    fn unauthorized(&mut self, headers: &HeaderMap, host: &str) -> Option<Response<Body>> {
        self.token_uses?;
        let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
        if authorization == Some(&format!("Bearer t{}", self.tokens)) && self.uses_left > 0 {
            self.uses_left -= 1;
            return None;
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="fake""#);
        Some(reply(401, &[("www-authenticate", &challenge)], br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#.to_vec()))
    }

    fn serve(
        &mut self,
        method: &Method,
        path: &str,
        query: &str,
        headers: &HeaderMap,
        body: &[u8],
        fault: Option<FaultResponse>,
    ) -> Response<Body> {
        match &fault {
            Some(FaultResponse::Status(status, name, value)) => return reply(*status, &[(name, value)], Vec::new()),
            Some(FaultResponse::DigestInvalid) => return digest_invalid(),
            Some(FaultResponse::HangUp) => return closed_connection(Vec::new()),
            Some(FaultResponse::At(host)) if *method == Method::GET => {
                return reply(307, &[("location", &format!("http://{host}{path}"))], Vec::new());
            }
            _ => {}
        }
        let last = path.rsplit('/').next().unwrap_or_default().to_owned();
        match (method.as_str(), path) {
            (_, "/v2/") => reply(200, &[], Vec::new()),
            ("GET" | "HEAD", path) if path.contains("/manifests/") => match self.manifests.get(&last) {
                Some((kind, bytes)) => {
                    reply(200, &[("content-type", kind), ("docker-content-digest", &Digest::of(bytes).to_string())], bytes.clone())
                }
                None => reply(404, &[], Vec::new()),
            },
            ("PUT", path) if path.contains("/manifests/") => {
                let kind = headers["content-type"].to_str().unwrap().to_owned();
                self.manifests.insert(Digest::of(body).to_string(), (kind.clone(), body.to_vec()));
                self.manifests.insert(last, (kind, body.to_vec()));
                reply(201, &[], Vec::new())
            }
            (_, path) if path.contains("/uploads/") => self.upload(method, path, query, body, fault),
            _ => self.blob(&last, headers, fault),
        }
    }

    fn blob(&self, digest: &str, headers: &HeaderMap, fault: Option<FaultResponse>) -> Response<Body> {
        let Some(bytes) = self.blobs.get(digest) else { return reply(404, &[], Vec::new()) };
        let mut bytes = bytes.clone();
        if matches!(fault, Some(FaultResponse::Flip)) {
            bytes[0] ^= 1;
        }
        let range = headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
        match range {
            Some((first, last)) if !matches!(fault, Some(FaultResponse::WholeInstead)) => {
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let other = usize::from(matches!(fault, Some(FaultResponse::OtherRange)));
                let content_range = format!("bytes {}-{}/{}", first + other, last + other, bytes.len());
                if matches!(fault, Some(FaultResponse::Half)) {
                    let mut half = closed_connection(bytes[first..usize::midpoint(first, last)].to_vec());
                    *half.status_mut() = StatusCode::PARTIAL_CONTENT;
                    half.headers_mut().insert("content-range", content_range.parse().unwrap());
                    half.headers_mut().insert("content-length", (last + 1 - first).into());
                    return half;
                }
                reply(206, &[("content-range", &content_range)], bytes[first..=last].to_vec())
            }
            _ => reply(200, &[], bytes),
        }
    }

    fn upload(&mut self, method: &Method, path: &str, query: &str, body: &[u8], fault: Option<FaultResponse>) -> Response<Body> {
        let id = if *method == Method::POST { self.log.len().to_string() } else { path.rsplit('/').next().unwrap().to_owned() };
        if *method == Method::POST {
            self.uploads.insert(id.clone(), Vec::new());
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return reply(404, &[], Vec::new()) };
        let stored = if let Some(FaultResponse::Keep(count, _)) = fault { count.min(body.len()) } else { body.len() };
        upload.extend_from_slice(&body[..stored]);
        let location = match &fault {
            Some(FaultResponse::At(host)) => format!("http://{host}/v2/a/blobs/uploads/{id}"),
            _ => format!("/v2/a/blobs/uploads/{id}"),
        };
        let range = format!("0-{}", upload.len().saturating_sub(1));
        let state: &[(&str, &str)] = &[("location", &location), ("range", &range)];
        match (fault, method.as_str()) {
            (Some(FaultResponse::Keep(_, status)), _) => reply(status, &[], Vec::new()),
            (_, "GET") => reply(204, state, Vec::new()),
            (_, "PUT") => {
                let bytes = self.uploads.remove(&id).unwrap();
                let digest = Digest::of(&bytes).to_string();
                if !query.contains(&digest.replace(':', "%3A")) {
                    return digest_invalid();
                }
                self.blobs.insert(digest, bytes);
                reply(201, &[], Vec::new())
            }
            _ => reply(202, state, Vec::new()),
        }
    }
}
