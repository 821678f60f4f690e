//! Lists tags, repositories and referrers, with paging (OCI distribution specification, "content discovery").

use anyhow::Result;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use oci_spec::image::Descriptor;
use serde_json::json;
use url::form_urlencoded::Serializer;

use super::response;
use super::state::{State, parameter};
use crate::image::Digest;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The limit for the descriptors in a page of referrers, in bytes: clients refuse indexes above 4 MiB.
const MAX_PAGE_SIZE: usize = 3 << 20;

impl State {
    /// Lists the tags of a repository, in lexical order ignoring case, as the specification requires.
    pub fn tags(&self, repository: &str, query: &str) -> Result<Response<Body>> {
        let repositories = self.repositories()?;
        let mut all = repositories.candidates(self.namespace(query).as_deref(), repository);
        if all.first().is_some_and(|(registry, _)| self.hostnames.first() == Some(*registry)) {
            all.truncate(1);
        }
        if all.is_empty() {
            return Ok(response::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &format!("no such repository: {repository}")));
        }
        let tags = all.iter().flat_map(|(_, repository)| repository.tags.keys().cloned()).collect();
        let (tags, next) = page(tags, query);
        let mut response = response::json(StatusCode::OK, "application/json", &json!({"name": repository, "tags": tags}));
        set_link(&mut response, &format!("/v2/{repository}/tags/list"), query, next);
        Ok(response)
    }

    /// Lists all repositories (docker's `_catalog`).
    pub fn catalog(&self, query: &str) -> Result<Response<Body>> {
        let (repositories, next) = page(self.repositories()?.repositories(), query);
        let mut response = response::json(StatusCode::OK, "application/json", &json!({"repositories": repositories}));
        set_link(&mut response, "/v2/_catalog", query, next);
        Ok(response)
    }

    /// Lists the referrers of a manifest, which need not exist.
    pub fn referrers(&self, repository: &str, subject: &str, query: &str) -> Result<Response<Body>> {
        let Ok(subject) = subject.parse::<Digest>() else { return Ok(response::invalid_digest()) };
        let repositories = self.repositories()?;
        let requested = parameter(query, "artifactType");
        let is_requested = |found: &&Descriptor| match &requested {
            Some(requested) => found.artifact_type().as_ref().is_some_and(|actual| actual.as_ref() == requested),
            None => true,
        };
        let candidates = repositories.candidates(self.namespace(query).as_deref(), repository);
        let mut all: Vec<&Descriptor> =
            candidates.iter().filter_map(|(_, repository)| repository.referrers.get(&subject)).flatten().filter(is_requested).collect();
        all.sort_by_key(|found| found.digest().to_string());
        all.dedup_by_key(|found| found.digest());
        let (all, next) = page_of_referrers(all, parameter(query, "last").as_deref());
        let mut response = response::json(StatusCode::OK, INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all}));
        if requested.is_some() {
            response::set_header(&mut response, "oci-filters-applied", "artifactType");
        }
        set_link(&mut response, &format!("/v2/{repository}/referrers/{subject}"), query, next);
        Ok(response)
    }
}

/// Sets the `Link` header to the next page, after `last` (RFC 8288).
fn set_link(response: &mut Response<Body>, path: &str, query: &str, last: Option<String>) {
    let Some(last) = last else { return };
    let mut next_query = Serializer::new(String::new());
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != "last") {
        next_query.append_pair(&key, &value);
    }
    next_query.append_pair("last", &last);
    response::set_header(response, "link", &format!("<{path}?{}>; rel=\"next\"", next_query.finish()));
}

/// The page that `n` and `last` request, in lexical order; and its last item, if more follow.
fn page(mut all: Vec<String>, query: &str) -> (Vec<String>, Option<String>) {
    let order = |item: &String| (item.to_lowercase(), item.clone());
    all.sort_by_cached_key(order);
    all.dedup();
    if let Some(last) = parameter(query, "last") {
        let last = order(&last);
        all.retain(|item| order(item) > last);
    }
    let count = parameter(query, "n").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    let more = all.len() > count;
    all.truncate(count);
    let next = all.last().filter(|_| more).cloned();
    (all, next)
}

/// The page of referrers after the digest `last`; and its last digest, if more follow.
fn page_of_referrers<'a>(all: Vec<&'a Descriptor>, last: Option<&str>) -> (Vec<&'a Descriptor>, Option<String>) {
    let mut page = Vec::new();
    let mut bytes = 0;
    for found in all.into_iter().filter(|found| last.is_none_or(|last| found.digest().to_string().as_str() > last)) {
        bytes += serde_json::to_vec(found).map_or(0, |text| text.len());
        if bytes > MAX_PAGE_SIZE && !page.is_empty() {
            let last = page.last().map(|found: &&Descriptor| found.digest().to_string());
            return (page, last);
        }
        page.push(found);
    }
    (page, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_paged_in_lexical_order() {
        let all = || ["c", "B", "a", "b", "a"].map(str::to_owned).to_vec();
        for (query, expected, next) in [
            ("", "aBbc", None),
            ("n=2", "aB", Some("B")),
            ("n=2&last=B", "bc", None),
            ("n=1&last=a", "B", Some("B")),
            ("last=c", "", None),
            ("n=x", "aBbc", None),
            ("n=0", "", None),
        ] {
            let (page, next_query) = page(all(), query);
            assert_eq!((page.concat().as_str(), next_query.as_deref()), (expected, next), "{query}");
        }
    }

    #[test]
    fn long_lists_of_referrers_are_paged_to_the_limit_of_clients() {
        let long = |letter: &str| {
            let blob = crate::image::Blob::of(letter.as_bytes());
            let mut descriptor = Descriptor::new("application/x".into(), blob.size, blob.digest);
            descriptor.set_annotations(Some([("a".to_owned(), letter.repeat(1_000_000))].into()));
            descriptor
        };
        let mut all: Vec<Descriptor> = ["a", "b", "c", "d", "e"].map(long).into();
        all.sort_by_key(|descriptor| descriptor.digest().to_string());
        let (first, next) = page_of_referrers(all.iter().collect(), None);
        assert_eq!((first.len(), next.as_deref()), (3, Some(all[2].digest().to_string().as_str())));
        let (second, end) = page_of_referrers(all.iter().collect(), next.as_deref());
        assert_eq!((second.len(), end), (2, None));
    }
}
