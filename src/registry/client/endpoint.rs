//! One registry host, reached: which scheme it speaks, what it asks for.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::StatusCode;
use reqwest::header::WWW_AUTHENTICATE;
use url::Url;

use super::Options;
use super::certificates::Certificates;
use super::challenge::Challenge;
use super::error::{refuse, speaks_no_tls, unanswered};
use super::idle_timeout::{IDLE, IdleTimeout};
use crate::error::Failure;
use crate::events::Context;
use crate::retry::{Policy, retry};

const CONNECT: Duration = Duration::from_secs(15);

/// A registry host that has answered.
#[derive(Debug)]
pub struct Endpoint {
    /// The registry as users write it.
    pub host: String,
    /// Where its API is: `https://registry-1.docker.io/v2/`.
    pub base: String,
    /// What talks to it.
    pub http: reqwest::Client,
    /// What it asked for when it was reached.
    pub challenge: Option<Challenge>,
}

/// What came of asking with one scheme.
enum Asked {
    Reached(Endpoint),
    NotTls(reqwest::Error),
}

impl Endpoint {
    /// Reaches `host`, a `HOST[:PORT]` with or without a scheme. On a loopback address HTTPS falls back to HTTP, as docker does it.
    pub async fn reach(host: &str, options: &Options, ctx: &Context) -> Result<Endpoint> {
        let policy = Policy { tries: 3, ..Policy::default() };
        retry(policy, ctx, host, |_| Self::reach_once(host, options)).await
    }

    /// Whether a URL is of this registry: its scheme, host and port.
    pub fn is_at(&self, url: &Url) -> bool {
        Url::parse(&self.base).is_ok_and(|base| base.origin() == url.origin())
    }

    async fn reach_once(written: &str, options: &Options) -> Result<Endpoint> {
        let (scheme, host) = match written.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host.trim_end_matches('/')),
            None => (options.plain_http.then_some("http"), written),
        };
        let http = http_client(host, options)?;
        match Self::ask(scheme.unwrap_or("https"), host, http.clone()).await? {
            Asked::Reached(endpoint) => Ok(endpoint),
            Asked::NotTls(_) if scheme.is_none() && is_loopback(host) => match Self::ask("http", host, http).await? {
                Asked::Reached(endpoint) => Ok(endpoint),
                Asked::NotTls(error) => Err(unanswered(error, host)),
            },
            Asked::NotTls(error) => Err(unanswered(error, host)),
        }
    }

    async fn ask(scheme: &str, host: &str, http: reqwest::Client) -> Result<Asked> {
        let address = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let base = format!("{scheme}://{address}/v2/");
        let asked = IdleTimeout::new(IDLE).watch(&format!("registry {host}"), http.get(&base).send()).await?;
        let response = match asked {
            Ok(response) => response,
            Err(error) if speaks_no_tls(&error) => return Ok(Asked::NotTls(error)),
            Err(error) => return Err(unanswered(error, host)),
        };
        let asks = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge = Challenge::parse(asks);
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::OK | StatusCode::FORBIDDEN => {
                Ok(Asked::Reached(Endpoint { host: host.to_owned(), base, http, challenge }))
            }
            StatusCode::NOT_FOUND => Err(Failure::failed(format!("{host} is not a registry: it has no /v2/ (404)"))
                .hint("check the registry's name and port")
                .into()),
            _ => Err(refuse(response, host, &format!("registry {host}")).await),
        }
    }
}

/// Whether a `HOST[:PORT]` is this machine itself.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A client for a `HOST[:PORT]`. Proxies of the environment are used, not for this machine itself.
pub fn http_client(host: &str, options: &Options) -> Result<reqwest::Client> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let trust = Certificates::of(host, options)?;
    let builder = || {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("sealift/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            // blobs move in parallel on connections of their own: HTTP/2 would squeeze them through one window
            .http1_only()
            .tls_danger_accept_invalid_certs(options.insecure_skip_tls_verify);
        let builder = if is_loopback(host) { builder.no_proxy() } else { builder };
        trust.identity.iter().fold(builder, |builder, identity| builder.identity(identity.clone()))
    };
    let authorities = trust.authorities;
    let with_system = builder().tls_certs_merge(authorities.clone()).build();
    // a machine without any certificate authority of its own still reaches registries over HTTP or with --ca-file
    with_system.or_else(|_| builder().tls_certs_only(authorities).build()).context("HTTP client")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_addresses_are_known() {
        for (host, expected) in [
            ("127.0.0.1:5000", true),
            ("127.1.2.3", true),
            ("localhost", true),
            ("localhost:80", true),
            ("[::1]:5000", true),
            ("10.0.0.1:5000", false),
            ("localhost.example:5000", false),
            ("docker.io", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
