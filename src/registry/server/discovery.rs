//! Content discovery: tags, repositories, referrers, a page at a time.

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
/// Lists of referrers are manifests to clients, which refuse more than 4 MiB: a page has at most this many bytes of descriptors.
const PAGE: usize = 3 << 20;

impl State {
    /// The tags of a repository, in lexical order as the specification has it: without regard to case.
    pub fn tags(&self, repository: &str, query: &str) -> Result<Response<Body>> {
        let names = self.names()?;
        let mut all = names.candidates(self.namespace(query).as_deref(), repository);
        if all.first().is_some_and(|(registry, _)| self.own_names.first() == Some(*registry)) {
            all.truncate(1);
        }
        if all.is_empty() {
            return Ok(response::error(StatusCode::NOT_FOUND, "NAME_UNKNOWN", &format!("no such repository: {repository}")));
        }
        let tags = all.iter().flat_map(|(_, repository)| repository.tags.keys().cloned()).collect();
        let (tags, next) = page(tags, query);
        let mut response = response::document(StatusCode::OK, "application/json", &json!({"name": repository, "tags": tags}));
        link(&mut response, &format!("/v2/{repository}/tags/list"), query, next);
        Ok(response)
    }

    /// All repositories.
    pub fn catalog(&self, query: &str) -> Result<Response<Body>> {
        let (repositories, next) = page(self.names()?.repositories(), query);
        let mut response = response::document(StatusCode::OK, "application/json", &json!({"repositories": repositories}));
        link(&mut response, "/v2/_catalog", query, next);
        Ok(response)
    }

    /// What refers to a manifest, which need not be here.
    pub fn referrers(&self, repository: &str, subject: &str, query: &str) -> Result<Response<Body>> {
        let Ok(subject) = subject.parse::<Digest>() else { return Ok(response::bad_digest()) };
        let names = self.names()?;
        let wanted = parameter(query, "artifactType");
        let is_wanted = |found: &&Descriptor| match &wanted {
            Some(wanted) => found.artifact_type().as_ref().is_some_and(|is| is.as_ref() == wanted),
            None => true,
        };
        let candidates = names.candidates(self.namespace(query).as_deref(), repository);
        let mut all: Vec<&Descriptor> =
            candidates.iter().filter_map(|(_, repository)| repository.referrers.get(&subject)).flatten().filter(is_wanted).collect();
        all.sort_by_key(|found| found.digest().to_string());
        all.dedup_by_key(|found| found.digest());
        let (all, next) = page_of_referrers(all, parameter(query, "last").as_deref());
        let mut response = response::document(StatusCode::OK, INDEX, &json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": all}));
        if wanted.is_some() {
            response::set(&mut response, "oci-filters-applied", "artifactType");
        }
        link(&mut response, &format!("/v2/{repository}/referrers/{subject}"), query, next);
        Ok(response)
    }
}

/// Says where the list goes on after `last` (RFC 8288).
fn link(response: &mut Response<Body>, path: &str, query: &str, last: Option<String>) {
    let Some(last) = last else { return };
    let mut following = Serializer::new(String::new());
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key != "last") {
        following.append_pair(&key, &value);
    }
    following.append_pair("last", &last);
    response::set(response, "link", &format!("<{path}?{}>; rel=\"next\"", following.finish()));
}

/// What `n` and `last` ask for, in lexical order; and the last of them, if more follow.
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

/// As many as fit into a page after the digest `last`; and the last of them, if more follow.
fn page_of_referrers<'a>(all: Vec<&'a Descriptor>, last: Option<&str>) -> (Vec<&'a Descriptor>, Option<String>) {
    let mut page = Vec::new();
    let mut bytes = 0;
    for found in all.into_iter().filter(|found| last.is_none_or(|last| found.digest().to_string().as_str() > last)) {
        bytes += serde_json::to_vec(found).map_or(0, |text| text.len());
        if bytes > PAGE && !page.is_empty() {
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
            let (page, following) = page(all(), query);
            assert_eq!((page.concat().as_str(), following.as_deref()), (expected, next), "{query}");
        }
    }

    #[test]
    fn long_lists_of_referrers_are_cut_to_what_clients_take() {
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
