//! Parses request paths (OCI distribution specification 1.1, "endpoints"). Repository names have slashes, so the end of the path decides.

/// A route of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: the API version check.
    Version,
    /// `/token`: issues tokens (distribution token specification).
    Token,
    /// `/v2/_catalog`: all repositories (docker's registry API).
    Catalog,
    /// An endpoint of a repository.
    Repository {
        /// The name of the repository.
        repository: String,
        /// The endpoint.
        endpoint: Endpoint,
    },
}

/// An endpoint of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A manifest or index, by tag or digest.
    Manifest(String),
    /// A blob, by its digest (not parsed yet).
    Blob(String),
    /// The list of tags.
    Tags,
    /// The referrers of a manifest, by its digest (not parsed yet).
    Referrers(String),
    /// Where uploads start.
    Uploads,
    /// An upload, by its id.
    Upload(String),
}

impl Route {
    /// Parses a path; `None` if there is no such route.
    pub fn parse(path: &str) -> Option<Route> {
        // some clients escape the colon of a digest
        let path = path.replace("%3A", ":").replace("%3a", ":");
        if path == "/token" {
            return Some(Route::Token);
        }
        let rest = path.strip_prefix("/v2").map(|rest| rest.trim_start_matches('/'))?;
        match rest {
            "" => return Some(Route::Version),
            "_catalog" => return Some(Route::Catalog),
            _ => {}
        }
        let (repository, endpoint) = Endpoint::parse(rest)?;
        (!repository.is_empty()).then(|| Route::Repository { repository: repository.to_owned(), endpoint })
    }
}

impl Endpoint {
    /// Splits a path into repository and endpoint.
    fn parse(path: &str) -> Option<(&str, Endpoint)> {
        if let Some(repository) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
            return Some((repository, Endpoint::Uploads));
        }
        let (before, last) = path.rsplit_once('/').filter(|(_, last)| !last.is_empty())?;
        if let Some(repository) = before.strip_suffix("/blobs/uploads") {
            return Some((repository, Endpoint::Upload(last.to_owned())));
        }
        let (repository, kind) = before.rsplit_once('/')?;
        let endpoint = match kind {
            "manifests" => Endpoint::Manifest(last.to_owned()),
            "blobs" => Endpoint::Blob(last.to_owned()),
            "tags" if last == "list" => Endpoint::Tags,
            "referrers" => Endpoint::Referrers(last.to_owned()),
            _ => return None,
        };
        Some((repository, endpoint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_path_decides() {
        let within = |repository: &str, endpoint: Endpoint| Some(Route::Repository { repository: repository.to_owned(), endpoint });
        let manifest = |repository: &str, version: &str| within(repository, Endpoint::Manifest(version.to_owned()));
        for (path, expected) in [
            ("/v2", Some(Route::Version)),
            ("/v2/", Some(Route::Version)),
            ("/token", Some(Route::Token)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/manifests/1", manifest("a", "1")),
            ("/v2/a/manifests/b/manifests/1", manifest("a/manifests/b", "1")),
            ("/v2/a/b/manifests/sha256%3Aab", manifest("a/b", "sha256:ab")),
            ("/v2/a/b/blobs/sha256:ab", within("a/b", Endpoint::Blob("sha256:ab".to_owned()))),
            ("/v2/a/tags/list", within("a", Endpoint::Tags)),
            ("/v2/a/tags/other", None),
            ("/v2/a/referrers/sha256:ab", within("a", Endpoint::Referrers("sha256:ab".to_owned()))),
            ("/v2/a/b/blobs/uploads/", within("a/b", Endpoint::Uploads)),
            ("/v2/a/blobs/uploads", within("a", Endpoint::Uploads)),
            ("/v2/a/blobs/uploads/12ab", within("a", Endpoint::Upload("12ab".to_owned()))),
            ("/v2/manifests/1", None),
            ("/v2/blobs/uploads/1", None),
            ("/v2/a/manifests/", None),
            ("/v2/a", None),
            ("/", None),
            ("/v1/a/manifests/1", None),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
