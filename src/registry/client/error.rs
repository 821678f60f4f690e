//! Turns HTTP error responses and connection errors into failures with a kind and hints.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use rustls::AlertDescription;

use crate::error::Failure;
use crate::retry::RetryAfter;

/// The limit for `Retry-After`.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The error for a response. `what` describes the request: `push 127.0.0.1:5000/shop: blob sha256:…`.
pub async fn error_from_response(response: Response, host: &str, what: &str) -> anyhow::Error {
    let (status, headers) = (response.status(), response.headers().clone());
    let body = match tokio::time::timeout(Duration::from_secs(10), response.bytes()).await {
        Ok(Ok(bytes)) => String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).into_owned(),
        _ => String::new(),
    };
    classify(status, &headers, &body, host, what)
}

/// As [`error_from_response`], from the parts of a response.
fn classify(status: StatusCode, headers: &HeaderMap, body: &str, host: &str, what: &str) -> anyhow::Error {
    let message = format!("{what}: {}", reason(status, body));
    let login = format!("log in with `sealift login {host}`");
    match status.as_u16() {
        401 => Failure::failed(message).hint(login).into(),
        403 => Failure::failed(message).hint(format!("this user lacks the permission; {login} as another user")).into(),
        413 => {
            Failure::failed(message).hint("the registry, or a proxy in front of it, limits the size of requests: raise that limit").into()
        }
        429 => anyhow::Error::from(RetryAfter(retry_after(headers)))
            .context(Failure::network(message).hint(format!("rate limit reached: {login} for a higher limit, or use a `--mirror`"))),
        408 | 500 | 502..=599 => match retry_after(headers) {
            Duration::ZERO => Failure::network(message).into(),
            wait => anyhow::Error::from(RetryAfter(wait)).context(Failure::network(message)),
        },
        400 if body.contains("HTTP request to an HTTPS server") || body.contains("plain HTTP request was sent to HTTPS port") => {
            Failure::failed(format!("{what}: {host} requires HTTPS")).hint("leave out `--plain-http`").into()
        }
        _ => Failure::failed(message).into(),
    }
}

/// The registry's error code and message, and the status: `unauthorized: authentication required (401)`.
fn reason(status: StatusCode, body: &str) -> String {
    let document: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let first = &document["errors"][0];
    let text = |value: &serde_json::Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let server_message = match (text(&first["code"]), text(&first["message"])) {
        (Some(code), Some(message)) => Some(format!("{}: {message}", code.to_ascii_lowercase().replace('_', " "))),
        (code, message) => message.or(code).or_else(|| text(&document["details"])).or_else(|| text(&document["message"])),
    };
    match server_message {
        Some(server_message) => format!("{server_message} ({})", status.as_u16()),
        None => status.to_string().to_lowercase(),
    }
}

/// The wait in `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3), at most 120 s; zero if there is none.
pub fn retry_after(headers: &HeaderMap) -> Duration {
    let Some(text) = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()) else { return Duration::ZERO };
    let wait = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => jiff::fmt::rfc2822::parse(text.trim())
            .ok()
            .and_then(|date| date.timestamp().duration_since(jiff::Timestamp::now()).try_into().ok())
            .unwrap_or_default(),
    };
    wait.min(LONGEST_WAIT)
}

/// The server closed the connection during a request.
#[derive(Debug, thiserror::Error)]
#[error("the connection was closed")]
pub struct ConnectionClosed;

/// The error for a request without a response: DNS, connect, TLS, timeout or a closed connection.
pub fn transport_error(error: reqwest::Error, host: &str) -> anyhow::Error {
    let chain = || std::iter::successors(Some(&error as &(dyn StdError + 'static)), |error| (*error).source());
    if let Some(tls) = chain().find_map(tls_error) {
        return tls_error_failure(tls, host).into();
    }
    let root = chain().last().map(ToString::to_string).unwrap_or_default();
    let message = match () {
        () if error.is_dns() => format!("registry {host}: no such host ({root})"),
        () if error.is_timeout() => format!("registry {host}: no connection within 15 s"),
        () => format!("registry {host}: {}", root.split(" (os error").next().unwrap_or(&root).to_lowercase()),
    };
    let failure = Failure::network(message);
    if error.is_connect() {
        failure.hint("check the registry's name and port, and that it is reachable from here").into()
    } else {
        anyhow::Error::from(ConnectionClosed).context(failure)
    }
}

/// The TLS error in an error, also if it is nested in I/O errors.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => tls_error(wrapped),
        None => error.downcast_ref(),
    }
}

/// Whether the server answered the TLS handshake with something else, as a plain HTTP server does.
pub fn is_not_tls(error: &reqwest::Error) -> bool {
    std::iter::successors(Some(error as &(dyn StdError + 'static)), |error| (*error).source())
        .find_map(tls_error)
        .is_some_and(|tls| matches!(tls, rustls::Error::InvalidMessage(_)))
}

fn tls_error_failure(tls: &rustls::Error, host: &str) -> Failure {
    match tls {
        rustls::Error::InvalidMessage(_) => Failure::failed(format!("registry {host} does not support HTTPS"))
            .hint("use HTTP with `--plain-http`, if the network to it is trusted"),
        rustls::Error::InvalidCertificate(reason) => {
            Failure::failed(format!("registry {host}: its certificate is not trusted: {}", certificate_reason(reason)))
                .hint("trust its CA with `--ca-file FILE`")
                .hint("or skip the check with `--insecure-skip-tls-verify`")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired | AlertDescription::BadCertificate) => {
            Failure::failed(format!("registry {host} requires a client certificate that it trusts"))
                .hint("put NAME.cert and NAME.key into a directory and use `--cert-dir DIR`")
        }
        other => Failure::failed(format!("registry {host}: TLS: {other}")),
    }
}

fn certificate_reason(reason: &rustls::CertificateError) -> String {
    match reason {
        rustls::CertificateError::UnknownIssuer => "signed by an unknown authority".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, hints_of, kind_of};

    #[test]
    fn every_error_says_what_failed_and_whether_to_retry() {
        let denied = r#"{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}"#;
        for (status, retry_after, body, kind, text, hint) in [
            (
                401,
                "",
                r#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#,
                Kind::Failed,
                "unauthorized: authentication required (401)",
                "sealift login h:1",
            ),
            (403, "", denied, Kind::Failed, "denied: requested access to the resource is denied (403)", "as another user"),
            (404, "", "", Kind::Failed, "404 not found", ""),
            (413, "", "<html>", Kind::Failed, "413 payload too large", "limit"),
            (400, "", "Client sent an HTTP request to an HTTPS server.\n", Kind::Failed, "h:1 requires HTTPS", "--plain-http"),
            (429, "7", "", Kind::Network, "429 too many requests", "--mirror"),
            (429, "soon", "", Kind::Network, "429 too many requests", "--mirror"),
            (500, "", r#"{"errors":[{"code":"UNKNOWN"}]}"#, Kind::Network, "UNKNOWN (500)", ""),
            (503, "3", "", Kind::Network, "503 service unavailable", ""),
        ] {
            let mut headers = HeaderMap::new();
            if !retry_after.is_empty() {
                headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
            }
            let error = classify(StatusCode::from_u16(status).unwrap(), &headers, body, "h:1", "pull x");
            assert_eq!(kind_of(&error), kind, "{status}");
            assert!(error.to_string().starts_with("pull x: ") && error.to_string().ends_with(text), "{error}");
            assert!(hints_of(&error).concat().contains(hint), "{status}: {:?}", hints_of(&error));
            let wait = error.downcast_ref::<RetryAfter>().map(|after| after.0.as_secs()).unwrap_or_default();
            assert_eq!(wait, retry_after.parse().unwrap_or(0), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let wait = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(wait("5").as_secs(), 5);
        assert_eq!(wait("100000"), LONGEST_WAIT);
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), Duration::ZERO);
        assert_eq!(wait("Mon, 21 Oct 2199 07:28:00 GMT"), LONGEST_WAIT);
    }
}
