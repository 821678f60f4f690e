//! A registry inside the test process that can be told to misbehave.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::net::TcpListener;

use crate::image::Digest;

/// What happens to the next request whose `METHOD path?query` contains `at`.
pub struct Fault {
    pub at: String,
    pub then: Then,
}

/// How it is answered.
#[derive(Debug)]
pub enum Then {
    /// With a status and a header.
    Status(u16, &'static str, &'static str),
    /// With all bytes, whatever range was asked for.
    WholeInstead,
    /// The first bytes of the body are kept, the rest is lost, and the status is this.
    Keep(usize, u16),
    /// With other bytes than were asked for.
    Flip,
    /// With a header that says that they are others than were asked for.
    OtherRange,
    /// Half of what was asked for comes, and then the connection breaks.
    Half,
    /// The connection breaks before anything is answered.
    HangUp,
    /// At this `HOST:PORT`: a redirect, or where an upload goes on.
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
    /// What was shown to be let in.
    pub shown: Vec<String>,
    /// Tokens are wanted; each is good for so many requests.
    pub token_uses: Option<usize>,
    /// Tokens are given for one scope only.
    pub one_scope: bool,
    /// Each answer takes some time.
    pub slow: bool,
    /// How many requests were open at once.
    pub most_at_once: usize,
    at_once: usize,
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
        let answering = fake.clone();
        let router = Router::new().fallback(move |request| answering.clone().answer(request));
        tokio::spawn(async move { axum::serve(listener, router).await });
        fake
    }

    pub fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// How many requests had this in their log line.
    pub fn count(&self, part: &str) -> usize {
        self.state().log.iter().filter(|line| line.contains(part)).count()
    }

    async fn take_time(&self) {
        if !self.state().slow {
            return;
        }
        {
            let mut state = self.state();
            state.at_once += 1;
            state.most_at_once = state.most_at_once.max(state.at_once);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        self.state().at_once -= 1;
    }

    async fn answer(self, request: Request<Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 1 << 30).await.unwrap_or_default();
        self.take_time().await;
        let mut state = self.state();
        let line = format!("{} {}", parts.method, parts.uri);
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        state.log.push(format!("{line} {}{}", header("range"), header("content-range")));
        state.shown.push(header("authorization").to_owned());
        if parts.uri.path() == "/token" {
            if state.one_scope && line.matches("scope=").count() > 1 {
                return reply(403, &[], br#"{"details": "not your repository"}"#.to_vec());
            }
            return state.give_token(&parts.method, &parts.headers, &String::from_utf8_lossy(&body));
        }
        if let Some(refused) = state.refused(&parts.headers, &self.host) {
            return refused;
        }
        let fault = state.faults.iter().position(|fault| line.contains(&fault.at));
        let then = fault.map(|place| state.faults.remove(place).then);
        state.serve(&parts.method, parts.uri.path(), parts.uri.query().unwrap_or_default(), &parts.headers, &body, then)
    }
}

/// These bytes, and then the connection breaks.
fn broken(bytes: Vec<u8>) -> Response<Body> {
    let breaks = Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
    let pieces = if bytes.is_empty() { vec![breaks] } else { vec![Ok(bytes), breaks] };
    Response::new(Body::from_stream(futures_util::stream::iter(pieces)))
}

fn reply(status: u16, headers: &[(&str, &str)], body: Vec<u8>) -> Response<Body> {
    let mut builder = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in headers.iter().filter(|(name, _)| !name.is_empty()) {
        builder = builder.header(*name, *value);
    }
    builder.body(Body::from(body)).unwrap()
}

impl State {
    fn give_token(&mut self, method: &Method, headers: &HeaderMap, form: &str) -> Response<Body> {
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

    fn refused(&mut self, headers: &HeaderMap, host: &str) -> Option<Response<Body>> {
        self.token_uses?;
        let shown = headers.get("authorization").and_then(|value| value.to_str().ok());
        if shown == Some(&format!("Bearer t{}", self.tokens)) && self.uses_left > 0 {
            self.uses_left -= 1;
            return None;
        }
        let challenge = format!(r#"Bearer realm="http://{host}/token",service="fake""#);
        Some(reply(401, &[("www-authenticate", &challenge)], br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#.to_vec()))
    }

    fn serve(&mut self, method: &Method, path: &str, query: &str, headers: &HeaderMap, body: &[u8], then: Option<Then>) -> Response<Body> {
        match &then {
            Some(Then::Status(status, name, value)) => return reply(*status, &[(name, value)], Vec::new()),
            Some(Then::HangUp) => return broken(Vec::new()),
            Some(Then::At(host)) if *method == Method::GET => {
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
            (_, path) if path.contains("/uploads/") => self.upload(method, path, query, body, then),
            _ => self.blob(&last, headers, then),
        }
    }

    fn blob(&self, digest: &str, headers: &HeaderMap, then: Option<Then>) -> Response<Body> {
        let Some(bytes) = self.blobs.get(digest) else { return reply(404, &[], Vec::new()) };
        let mut bytes = bytes.clone();
        if matches!(then, Some(Then::Flip)) {
            bytes[0] ^= 1;
        }
        let range = headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
        match range {
            Some((first, last)) if !matches!(then, Some(Then::WholeInstead)) => {
                let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
                let other = usize::from(matches!(then, Some(Then::OtherRange)));
                let content_range = format!("bytes {}-{}/{}", first + other, last + other, bytes.len());
                if matches!(then, Some(Then::Half)) {
                    let mut half = broken(bytes[first..usize::midpoint(first, last)].to_vec());
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

    fn upload(&mut self, method: &Method, path: &str, query: &str, body: &[u8], then: Option<Then>) -> Response<Body> {
        let id = if *method == Method::POST { self.log.len().to_string() } else { path.rsplit('/').next().unwrap().to_owned() };
        if *method == Method::POST {
            self.uploads.insert(id.clone(), Vec::new());
        }
        let Some(upload) = self.uploads.get_mut(&id) else { return reply(404, &[], Vec::new()) };
        let kept = if let Some(Then::Keep(count, _)) = then { count.min(body.len()) } else { body.len() };
        upload.extend_from_slice(&body[..kept]);
        let location = match &then {
            Some(Then::At(host)) => format!("http://{host}/v2/a/blobs/uploads/{id}"),
            _ => format!("/v2/a/blobs/uploads/{id}"),
        };
        let range = format!("0-{}", upload.len().saturating_sub(1));
        let state: &[(&str, &str)] = &[("location", &location), ("range", &range)];
        match (then, method.as_str()) {
            (Some(Then::Keep(_, status)), _) => reply(status, &[], Vec::new()),
            (_, "GET") => reply(204, state, Vec::new()),
            (_, "PUT") => {
                let bytes = self.uploads.remove(&id).unwrap();
                let digest = Digest::of(&bytes).to_string();
                if !query.contains(&digest.replace(':', "%3A")) {
                    return reply(
                        400,
                        &[],
                        br#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}"#.to_vec(),
                    );
                }
                self.blobs.insert(digest, bytes);
                reply(201, &[], Vec::new())
            }
            _ => reply(202, state, Vec::new()),
        }
    }
}
