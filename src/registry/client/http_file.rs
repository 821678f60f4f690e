//! Downloads plain files over HTTP, with the TLS options, proxies, timeouts and retries of the registry client.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use reqwest::header::{ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use url::Url;

use super::Client;
use super::endpoint::http_client;
use super::error::{retry_after, transport_error};
use super::idle_timeout::{IDLE, IdleTimeout, RESPONSE};
use crate::error::{Failure, hints_of, kind_of};
use crate::events::{Context, Unit};
use crate::image::{Blob, Hasher};
use crate::retry::{Policy, RetryAfter, retry};

/// The validators of a response (RFC 9110 section 8.8), for a conditional request later.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    etag: Option<String>,
    last_modified: Option<String>,
}

/// A downloaded file.
#[derive(Debug)]
pub struct HttpFile {
    /// Its content, in a temporary file that is deleted when dropped.
    pub file: NamedTempFile,
    /// Its digest and size.
    pub blob: Blob,
    /// The validators of this version.
    pub validators: Validators,
}

impl Client {
    /// Fetches a file into a temporary one in `dir`, following redirects; `None` if it is unchanged since `known` (304).
    ///
    /// Any status but 2xx and 304 is an error; network errors, 408, 429 and 5xx are retried.
    pub async fn fetch(&self, url: &Url, known: &Validators, dir: &Path, ctx: &Context) -> Result<Option<HttpFile>> {
        let label = redacted_url(url);
        let host = url.host_str().unwrap_or_default();
        let http = http_client(host, &self.options)?;
        let task = ctx.task(format!("fetch {label}"), None, Unit::Bytes);
        let found = retry(Policy::default(), ctx, &label, |_| async {
            let mut request = http.get(url.clone());
            if let Some((name, value)) = known.conditions() {
                request = request.header(name, value);
            }
            let sent = IdleTimeout::new(RESPONSE).wait_for(&label, request.send()).await?;
            let response = sent.map_err(|error| with_url(transport_error(error, host), &label))?;
            match response.status() {
                StatusCode::NOT_MODIFIED => Ok(None),
                status if status.is_success() => receive(response, dir, &label, |bytes| task.advance(bytes)).await.map(Some),
                status => Err(error_from_status(status, response.headers(), &label)),
            }
        })
        .await?;
        if found.is_none() {
            task.unchanged();
        } else {
            task.done("");
        }
        Ok(found)
    }
}

impl Validators {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Validators { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    /// The header of a conditional request: by ETag, else by time.
    fn conditions(&self) -> Option<(reqwest::header::HeaderName, &str)> {
        let tag = self.etag.as_deref().map(|tag| (IF_NONE_MATCH, tag));
        tag.or_else(|| self.last_modified.as_deref().map(|time| (IF_MODIFIED_SINCE, time)))
    }
}

async fn receive(mut response: Response, dir: &Path, label: &str, advance: impl Fn(u64)) -> Result<HttpFile> {
    let version = Validators::of(response.headers());
    let expected = response.content_length();
    let file = NamedTempFile::new_in(dir).with_context(|| dir.display().to_string())?;
    let mut hasher = Hasher::new(file);
    let idle = IdleTimeout::new(IDLE);
    loop {
        let chunk = idle.wait_for(label, response.chunk()).await?;
        let Some(bytes) = chunk.with_context(|| Failure::network(format!("{label}: the connection was closed")))? else { break };
        idle.reset();
        hasher.write_all(&bytes).with_context(|| dir.display().to_string())?;
        advance(bytes.len() as u64);
    }
    let (blob, file) = hasher.finish();
    if expected.is_some_and(|size| size != blob.size) {
        return Err(Failure::network(format!("{label}: the response ended after {} bytes", blob.size)).into());
    }
    Ok(HttpFile { file, blob, validators: version })
}

fn error_from_status(status: StatusCode, headers: &HeaderMap, label: &str) -> anyhow::Error {
    let message = format!("{label}: {}", status.to_string().to_lowercase());
    match status.as_u16() {
        408 | 429 | 500..=599 => anyhow::Error::from(RetryAfter(retry_after(headers))).context(Failure::network(message)),
        401 | 403 => Failure::failed(message).hint("the server requires a login: put the file into the build context instead").into(),
        _ => Failure::failed(message).hint("check the URL").into(),
    }
}

/// Adds the URL to an error, and drops hints about registries.
fn with_url(error: anyhow::Error, label: &str) -> anyhow::Error {
    let mut failure = Failure::new(kind_of(&error), label.to_owned());
    failure.hints = hints_of(&error).iter().filter(|hint| !hint.contains("registry")).cloned().collect();
    error.context(failure)
}

/// The URL for messages, without password, query and fragment.
pub fn redacted_url(url: &Url) -> String {
    let mut url = url.clone();
    url.set_password(None).ok();
    if url.query().is_some() {
        url.set_query(Some("…"));
    }
    url.set_fragment(None);
    url.to_string().replace("%E2%80%A6", "…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        for (url, expected) in [
            ("https://example.com/a.tgz", "https://example.com/a.tgz"),
            ("https://me:secret@example.com/a?token=x#y", "https://me@example.com/a?…"),
        ] {
            assert_eq!(redacted_url(&url.parse().unwrap()), expected);
        }
    }
}
