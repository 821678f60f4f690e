//! Connects to a registry host: finds out its scheme (HTTPS or HTTP) and how it authenticates clients.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::StatusCode;
use reqwest::header::WWW_AUTHENTICATE;
use url::Url;

use super::Options;
use super::certificates::Certificates;
use super::challenge::Challenge;
use super::error::{error_from_response, is_not_tls, transport_error};
use super::idle_timeout::{IDLE, IdleTimeout};
use crate::error::Failure;
use crate::events::Context;
use crate::retry::{Policy, retry};

const CONNECT: Duration = Duration::from_secs(15);

/// A registry host that has answered `GET /v2/`.
#[derive(Debug)]
pub struct Endpoint {
    /// The registry as users write it.
    pub host: String,
    /// The base URL of its API: `https://registry-1.docker.io/v2/`.
    pub base: String,
    /// The HTTP client for it.
    pub http: reqwest::Client,
    /// The challenge in its first response; `None` if it requires no login.
    pub challenge: Option<Challenge>,
}

/// The result of a request with one scheme.
enum Probe {
    Connected(Endpoint),
    NotTls(reqwest::Error),
}

impl Endpoint {
    /// Connects to `host`, a `HOST[:PORT]` with or without a scheme. On a loopback address it falls back to HTTP, as docker does.
    pub async fn connect(host: &str, options: &Options, ctx: &Context) -> Result<Endpoint> {
        let policy = Policy { attempts: 3, ..Policy::default() };
        retry(policy, ctx, host, |_| Self::connect_once(host, options)).await
    }

    /// Whether a URL has the scheme, host and port of this registry.
    pub fn has_origin_of(&self, url: &Url) -> bool {
        Url::parse(&self.base).is_ok_and(|base| base.origin() == url.origin())
    }

    async fn connect_once(registry: &str, options: &Options) -> Result<Endpoint> {
        let (scheme, host) = match registry.split_once("://") {
            Some((scheme, host)) => (Some(scheme), host.trim_end_matches('/')),
            None => (options.plain_http.then_some("http"), registry),
        };
        let http = http_client(host, options)?;
        match Self::probe(scheme.unwrap_or("https"), host, http.clone()).await? {
            Probe::Connected(endpoint) => Ok(endpoint),
            Probe::NotTls(_) if scheme.is_none() && is_loopback(host) => match Self::probe("http", host, http).await? {
                Probe::Connected(endpoint) => Ok(endpoint),
                Probe::NotTls(error) => Err(transport_error(error, host)),
            },
            Probe::NotTls(error) => Err(transport_error(error, host)),
        }
    }

    async fn probe(scheme: &str, host: &str, http: reqwest::Client) -> Result<Probe> {
        let address = if host == "docker.io" { "registry-1.docker.io" } else { host };
        let base = format!("{scheme}://{address}/v2/");
        let sent = IdleTimeout::new(IDLE).wait_for(&format!("registry {host}"), http.get(&base).send()).await?;
        let response = match sent {
            Ok(response) => response,
            Err(error) if is_not_tls(&error) => return Ok(Probe::NotTls(error)),
            Err(error) => return Err(transport_error(error, host)),
        };
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenge = Challenge::parse(challenges);
        match response.status() {
            StatusCode::UNAUTHORIZED | StatusCode::OK | StatusCode::FORBIDDEN => {
                Ok(Probe::Connected(Endpoint { host: host.to_owned(), base, http, challenge }))
            }
            StatusCode::NOT_FOUND => Err(Failure::failed(format!("{host} is not a registry: it has no /v2/ (404)"))
                .hint("check the registry's name and port")
                .into()),
            _ => Err(error_from_response(response, host, &format!("registry {host}")).await),
        }
    }
}

/// Whether a `HOST[:PORT]` is a loopback address.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// An HTTP client for a `HOST[:PORT]`. Proxies of the environment are used, except for loopback addresses.
pub fn http_client(host: &str, options: &Options) -> Result<reqwest::Client> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let certificates = Certificates::of(host, options)?;
    let builder = || {
        let builder = reqwest::Client::builder()
            .user_agent(concat!("sealift/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .tcp_nodelay(true)
            // blobs are transferred in parallel on their own connections: HTTP/2 would share one flow control window
            .http1_only()
            .tls_danger_accept_invalid_certs(options.insecure_skip_tls_verify);
        let builder = if is_loopback(host) { builder.no_proxy() } else { builder };
        certificates.identity.iter().fold(builder, |builder, identity| builder.identity(identity.clone()))
    };
    let authorities = certificates.authorities;
    let with_system = builder().tls_certs_merge(authorities.clone()).build();
    // a machine without CA certificates can still reach registries over HTTP or with --ca-file
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
