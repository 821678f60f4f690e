//! Lists the referrers of an image: signatures, SBOMs, attestations (OCI distribution specification 1.1, "listing referrers").
//!
//! If a registry has no referrers API, an index under the tag `sha256-<hex>` of the subject lists them ("referrers tag schema"), which
//! the client that pushes a referrer updates.

use std::time::Duration;

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use rand::Rng as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LINK};
use reqwest::{Response, StatusCode};
use serde_json::json;
use url::Url;

use super::manifest::{self, Manifest};
use super::session::Session;
use crate::error::Failure;
use crate::events::Context;
use crate::image::{Blob, Content, Digest, referrer};
use crate::retry::{Policy, retry};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// After this time, concurrent writers of an index under a tag have finished.
const SETTLED: Duration = Duration::from_millis(200);
/// The limit for the pages of one list, in case a registry links them in a circle.
const MAX_PAGES: usize = 1000;

/// Lists the referrers of `subject` in the session's repository, optionally of one artifact type.
pub async fn list(session: &Session, subject: &Digest, artifact_type: Option<&str>, ctx: &Context) -> Result<Vec<Descriptor>> {
    let found = match list_by_api(session, subject, artifact_type, ctx).await? {
        Some(found) => found,
        None => list_by_tag(session, subject, ctx).await?,
    };
    // a registry may leave the filtering to the client
    let matches = |found: &Descriptor| {
        artifact_type.is_none_or(|requested| found.artifact_type().as_ref().is_some_and(|actual| actual.as_ref() == requested))
    };
    Ok(found.into_iter().filter(matches).collect())
}

/// Lists referrers by the referrers API, all pages; `None` if the registry has no such API.
async fn list_by_api(session: &Session, subject: &Digest, artifact_type: Option<&str>, ctx: &Context) -> Result<Option<Vec<Descriptor>>> {
    let what = format!("list referrers of {subject} in {}", session.repository());
    let mut next = Url::parse(&session.url(&format!("referrers/{subject}"))).context("registry URL")?;
    if let Some(artifact_type) = artifact_type {
        next.query_pairs_mut().append_pair("artifactType", artifact_type);
    }
    let mut found = Vec::new();
    for _ in 0..MAX_PAGES {
        let Some((page, next_url)) = retry(Policy::default(), ctx, &what, |_| page(session, &next, &what)).await? else { return Ok(None) };
        found.extend(page.manifests().iter().cloned());
        match next_url {
            Some(next_url) => next = next_url,
            None => return Ok(Some(found)),
        }
    }
    Err(Failure::failed(format!("{what}: more than {MAX_PAGES} pages")).into())
}

async fn page(session: &Session, url: &Url, what: &str) -> Result<Option<(ImageIndex, Option<Url>)>> {
    let response = session.send(what, |http| http.get(url.clone()).header(ACCEPT, INDEX)).await?;
    match response.status() {
        StatusCode::OK if is_index(&response) => {}
        // registries without this API answer as to any unknown path
        StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => return Ok(None),
        _ => return Err(session.error_from(response, what).await),
    }
    let next_url = next_page(&response);
    let bytes = manifest::read_body(response, session, what).await?;
    let index = serde_json::from_slice(&bytes).with_context(|| Failure::failed(format!("{what}: not an image index")))?;
    Ok(Some((index, next_url)))
}

fn is_index(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|text| text.starts_with(INDEX))
}

/// The URL of the next page, from `Link: <…>; rel="next"` (RFC 8288).
fn next_page(response: &Response) -> Option<Url> {
    let links = response.headers().get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let target = links.flat_map(|line| line.split(',')).find_map(next_target)?.to_owned();
    response.url().join(&target).ok()
}

fn next_target(link: &str) -> Option<&str> {
    let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = |parameter: &str| parameter.trim().replace('"', "").eq_ignore_ascii_case("rel=next");
    parameters.split(';').any(is_next).then_some(target)
}

/// Lists referrers by the index under the referrers tag; empty if there is none.
async fn list_by_tag(session: &Session, subject: &Digest, ctx: &Context) -> Result<Vec<Descriptor>> {
    match manifest::get(session, &fallback_tag(subject), None, ctx).await?.map(|manifest| manifest.content) {
        Some(Content::Index(index)) => Ok(index.manifests().clone()),
        _ => Ok(Vec::new()),
    }
}

/// The referrers tag of a subject: its digest with `-` for `:`, and at most 64 hex digits, since tags are limited to 128 characters.
pub fn fallback_tag(subject: &Digest) -> String {
    let hex = subject.hex();
    format!("{}-{}", subject.algorithm().name(), &hex[..hex.len().min(64)])
}

/// Makes sure that a pushed manifest is listed among the referrers of `subject`, after a response without `OCI-Subject`.
pub async fn ensure_listed(session: &Session, subject: &Digest, pushed: &Manifest, ctx: &Context) -> Result<()> {
    // the registry may have the API all the same, behind a proxy that drops unknown headers
    if list_by_api(session, subject, None, ctx).await?.is_some() {
        return Ok(());
    }
    let what = format!("list a referrer of {subject} in {}", session.repository());
    let policy = Policy { attempts: 10, ..Policy::default() };
    retry(policy, ctx, &what, |_| add_to_tag(session, subject, pushed, &what, ctx)).await
}

/// Adds a referrer to the index under the referrers tag, and checks that it stays there: a registry has no conditional write, so
/// a concurrent writer may overwrite it.
async fn add_to_tag(session: &Session, subject: &Digest, pushed: &Manifest, what: &str, ctx: &Context) -> Result<()> {
    let is_ours = |known: &Descriptor| known.digest() == pushed.descriptor.digest();
    let mut listed = list_by_tag(session, subject, ctx).await?;
    if listed.iter().any(is_ours) {
        return Ok(());
    }
    listed.push(referrer(&pushed.descriptor, &pushed.content));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    let bytes = serde_json::to_vec(&index)?;
    let manifest = Manifest::new(manifest::descriptor_for(MediaType::ImageIndex, Blob::of(&bytes))?, bytes)?;
    manifest::put(session, &fallback_tag(subject), &manifest, ctx).await?;
    // longer than another client takes between reading and writing; random, so that clients do not collide again
    let pause = SETTLED.mul_f64(rand::rng().random_range(1.0..2.0));
    tokio::time::sleep(pause).await;
    if list_by_tag(session, subject, ctx).await?.iter().any(is_ours) {
        return Ok(());
    }
    Err(Failure::network(format!("{what}: another client changed the list at the same time")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_link_headers() {
        for (link, expected) in [
            (r#"</v2/a/referrers/x?last=b>; rel="next""#, Some("/v2/a/referrers/x?last=b")),
            ("<https://h/x>;rel=next", Some("https://h/x")),
            (r#"<x>; title="a"; rel="next""#, Some("x")),
            (r#"<x>; rel="prev""#, None),
            ("x; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_target(link), expected, "{link}");
        }
    }

    #[test]
    fn referrers_tags_are_digests_with_a_dash() {
        let digest = Digest::of(b"x");
        assert_eq!(fallback_tag(&digest), format!("sha256-{}", digest.hex()));
        let long = crate::image::Algorithm::Sha512.digest(b"x");
        assert_eq!(fallback_tag(&long), format!("sha512-{}", &long.hex()[..64]));
    }
}
