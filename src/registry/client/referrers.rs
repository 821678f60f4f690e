//! What refers to an image: signatures, SBOMs, attestations (OCI distribution specification 1.1, "listing referrers").
//!
//! Where a registry has no referrers API, they are listed by an index under the tag `sha256-<hex>` of the subject, which whoever
//! pushes a referrer keeps up to date.

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
/// After so long, the index under a tag is what the last of those who changed it at once made of it.
const SETTLED: Duration = Duration::from_millis(200);
/// Pages of one list; more are taken for a registry that leads round in a circle.
const MOST_PAGES: usize = 1000;

/// What refers to `subject` in the session's repository, of one type if `artifact_type` says which.
pub async fn list(session: &Session, subject: &Digest, artifact_type: Option<&str>, ctx: &Context) -> Result<Vec<Descriptor>> {
    let found = match asked(session, subject, artifact_type, ctx).await? {
        Some(found) => found,
        None => tagged(session, subject, ctx).await?,
    };
    // a registry may leave the choice to whoever asks
    let wanted = |found: &Descriptor| artifact_type.is_none_or(|want| found.artifact_type().as_ref().is_some_and(|is| is.as_ref() == want));
    Ok(found.into_iter().filter(wanted).collect())
}

/// What the referrers API lists, page by page; `None` if the registry has no such API.
async fn asked(session: &Session, subject: &Digest, artifact_type: Option<&str>, ctx: &Context) -> Result<Option<Vec<Descriptor>>> {
    let what = format!("list referrers of {subject} in {}", session.place());
    let mut next = Url::parse(&session.url(&format!("referrers/{subject}"))).context("registry URL")?;
    if let Some(artifact_type) = artifact_type {
        next.query_pairs_mut().append_pair("artifactType", artifact_type);
    }
    let mut found = Vec::new();
    for _ in 0..MOST_PAGES {
        let Some((page, following)) = retry(Policy::default(), ctx, &what, |_| page(session, &next, &what)).await? else { return Ok(None) };
        found.extend(page.manifests().iter().cloned());
        match following {
            Some(following) => next = following,
            None => return Ok(Some(found)),
        }
    }
    Err(Failure::failed(format!("{what}: more than {MOST_PAGES} pages")).into())
}

async fn page(session: &Session, url: &Url, what: &str) -> Result<Option<(ImageIndex, Option<Url>)>> {
    let response = session.send(what, |http| http.get(url.clone()).header(ACCEPT, INDEX)).await?;
    match response.status() {
        StatusCode::OK if is_index(&response) => {}
        // without this API, registries answer as to any path they do not know
        StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::BAD_REQUEST => return Ok(None),
        _ => return Err(session.refuse(response, what).await),
    }
    let following = next_page(&response);
    let bytes = manifest::body(response, session, what).await?;
    let index = serde_json::from_slice(&bytes).with_context(|| Failure::failed(format!("{what}: not an image index")))?;
    Ok(Some((index, following)))
}

fn is_index(response: &Response) -> bool {
    response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|text| text.starts_with(INDEX))
}

/// The URL in `Link: <…>; rel="next"` (RFC 8288).
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

/// What the index under the subject's tag lists; nothing if there is none.
async fn tagged(session: &Session, subject: &Digest, ctx: &Context) -> Result<Vec<Descriptor>> {
    match manifest::get(session, &tag_of(subject), None, ctx).await?.map(|document| document.content) {
        Some(Content::Index(index)) => Ok(index.manifests().clone()),
        _ => Ok(Vec::new()),
    }
}

/// The tag of a subject's index: its digest with `-` for `:`, and of the hex digits at most 64, for tags are short.
pub fn tag_of(subject: &Digest) -> String {
    let hex = subject.hex();
    format!("{}-{}", subject.algorithm().name(), &hex[..hex.len().min(64)])
}

/// Makes sure that whoever lists the referrers of `subject` finds this document, which was just pushed and which the registry
/// did not say it has listed itself.
pub async fn enlist(session: &Session, subject: &Digest, pushed: &Manifest, ctx: &Context) -> Result<()> {
    // an answer without `OCI-Subject` may still be from a registry with the API, behind a proxy that drops what it does not know
    if asked(session, subject, None, ctx).await?.is_some() {
        return Ok(());
    }
    let what = format!("list a referrer of {subject} in {}", session.place());
    let policy = Policy { tries: 10, ..Policy::default() };
    retry(policy, ctx, &what, |_| add_to_tag(session, subject, pushed, &what, ctx)).await
}

/// Adds a referrer to the index under the subject's tag, and looks whether it stays there: registries have no way to change an
/// index, so that of two who read it at once, the later one writes over what the earlier one wrote.
async fn add_to_tag(session: &Session, subject: &Digest, pushed: &Manifest, what: &str, ctx: &Context) -> Result<()> {
    let is_ours = |known: &Descriptor| known.digest() == pushed.descriptor.digest();
    let mut listed = tagged(session, subject, ctx).await?;
    if listed.iter().any(is_ours) {
        return Ok(());
    }
    listed.push(referrer(&pushed.descriptor, &pushed.content));
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed});
    let bytes = serde_json::to_vec(&index)?;
    let document = Manifest::new(manifest::describe(MediaType::ImageIndex, Blob::of(&bytes))?, bytes)?;
    manifest::put(session, &tag_of(subject), &document, ctx).await?;
    // longer than another takes between reading and writing; not the same for all
    let pause = SETTLED.mul_f64(rand::rng().random_range(1.0..2.0));
    tokio::time::sleep(pause).await;
    if tagged(session, subject, ctx).await?.iter().any(is_ours) {
        return Ok(());
    }
    Err(Failure::network(format!("{what}: another client changed the list at the same time")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_links() {
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
    fn tags_of_subjects_are_their_digests_with_a_dash() {
        let digest = Digest::of(b"x");
        assert_eq!(tag_of(&digest), format!("sha256-{}", digest.hex()));
        let long = crate::image::Algorithm::Sha512.digest(b"x");
        assert_eq!(tag_of(&long), format!("sha512-{}", &long.hex()[..64]));
    }
}
