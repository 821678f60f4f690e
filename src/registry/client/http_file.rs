//! Plain files by HTTP, with the client that registries are reached with: same trust, same proxies, same patience.

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
use super::error::{asked_wait, unanswered};
use super::idle_timeout::{ANSWER, IDLE, IdleTimeout};
use crate::error::{Failure, hints_of, kind_of};
use crate::events::{Context, Unit};
use crate::image::{Blob, Hasher};
use crate::retry::{Policy, RetryAfter, retry};

/// What a server says of the version of a file, to be asked later whether it still has that one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    etag: Option<String>,
    last_modified: Option<String>,
}

/// A file that came.
#[derive(Debug)]
pub struct HttpFile {
    /// Its bytes, in a file that goes away when it is not kept.
    pub file: NamedTempFile,
    /// Their digest and number.
    pub blob: Blob,
    /// What the server calls this version.
    pub version: Version,
}

impl Client {
    /// Fetches a file into a temporary one in `dir`, following redirects; `None` if the server still has the `known` version.
    ///
    /// Any other answer than success is a failure; one that another try can mend is tried again.
    pub async fn fetch(&self, url: &Url, known: &Version, dir: &Path, ctx: &Context) -> Result<Option<HttpFile>> {
        let shown = shown(url);
        let host = url.host_str().unwrap_or_default();
        let http = http_client(host, &self.options)?;
        let task = ctx.task(format!("fetch {shown}"), None, Unit::Bytes);
        let found = retry(Policy::default(), ctx, &shown, |_| async {
            let mut request = http.get(url.clone());
            if let Some((name, value)) = known.conditions() {
                request = request.header(name, value);
            }
            let sent = IdleTimeout::new(ANSWER).watch(&shown, request.send()).await?;
            let response = sent.map_err(|error| of_file(unanswered(error, host), &shown))?;
            match response.status() {
                StatusCode::NOT_MODIFIED => Ok(None),
                status if status.is_success() => receive(response, dir, &shown, |bytes| task.advance(bytes)).await.map(Some),
                status => Err(refused(status, response.headers(), &shown)),
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

impl Version {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Version { etag: text(ETAG), last_modified: text(LAST_MODIFIED) }
    }

    /// A strong or weak tag if there is one, else the time.
    fn conditions(&self) -> Option<(reqwest::header::HeaderName, &str)> {
        let tag = self.etag.as_deref().map(|tag| (IF_NONE_MATCH, tag));
        tag.or_else(|| self.last_modified.as_deref().map(|time| (IF_MODIFIED_SINCE, time)))
    }
}

async fn receive(mut response: Response, dir: &Path, shown: &str, advance: impl Fn(u64)) -> Result<HttpFile> {
    let version = Version::of(response.headers());
    let expected = response.content_length();
    let file = NamedTempFile::new_in(dir).with_context(|| dir.display().to_string())?;
    let mut hasher = Hasher::new(file);
    let pulse = IdleTimeout::new(IDLE);
    loop {
        let chunk = pulse.watch(shown, response.chunk()).await?;
        let Some(bytes) = chunk.with_context(|| Failure::network(format!("{shown}: the connection was closed")))? else { break };
        pulse.beat();
        hasher.write_all(&bytes).with_context(|| dir.display().to_string())?;
        advance(bytes.len() as u64);
    }
    let (blob, file) = hasher.finish();
    if expected.is_some_and(|size| size != blob.size) {
        return Err(Failure::network(format!("{shown}: the response ended after {} bytes", blob.size)).into());
    }
    Ok(HttpFile { file, blob, version })
}

fn refused(status: StatusCode, headers: &HeaderMap, shown: &str) -> anyhow::Error {
    let message = format!("{shown}: {}", status.to_string().to_lowercase());
    match status.as_u16() {
        408 | 429 | 500..=599 => anyhow::Error::from(RetryAfter(asked_wait(headers))).context(Failure::network(message)),
        401 | 403 => Failure::failed(message).hint("the server requires a login: put the file into the build context instead").into(),
        _ => Failure::failed(message).hint("check the URL").into(),
    }
}

/// Says which file it was about, and not that it was a registry.
fn of_file(error: anyhow::Error, shown: &str) -> anyhow::Error {
    let mut failure = Failure::new(kind_of(&error), shown.to_owned());
    failure.hints = hints_of(&error).iter().filter(|hint| !hint.contains("registry")).cloned().collect();
    error.context(failure)
}

/// The URL without what may be secret: password and query.
pub fn shown(url: &Url) -> String {
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
            assert_eq!(shown(&url.parse().unwrap()), expected);
        }
    }
}
