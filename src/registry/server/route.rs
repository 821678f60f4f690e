//! What a request is for, by its path (OCI distribution specification 1.1, "endpoints"). Repositories have slashes, so the end decides.

/// An endpoint of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is this a registry.
    Version,
    /// A manifest or index, by tag or digest.
    Manifest {
        /// The repository.
        repository: String,
        /// The tag or digest.
        version: String,
    },
    /// A blob.
    Blob {
        /// The digest, as it was written.
        digest: String,
    },
    /// The tags of a repository.
    Tags {
        /// The repository.
        repository: String,
    },
    /// What refers to a manifest.
    Referrers,
    /// All repositories (docker's registry API).
    Catalog,
}

impl Route {
    /// The route of a path, if it has one.
    pub fn parse(path: &str) -> Option<Route> {
        // some clients write the colon of a digest so
        let path = path.replace("%3A", ":").replace("%3a", ":");
        let rest = path.strip_prefix("/v2").map(|rest| rest.trim_start_matches('/'))?;
        match rest {
            "" => return Some(Route::Version),
            "_catalog" => return Some(Route::Catalog),
            _ => {}
        }
        let (before, last) = rest.rsplit_once('/')?;
        let (repository, kind) = before.rsplit_once('/')?;
        if repository.is_empty() || last.is_empty() {
            return None;
        }
        let (repository, last) = (repository.to_owned(), last.to_owned());
        match kind {
            "manifests" => Some(Route::Manifest { repository, version: last }),
            "blobs" => Some(Route::Blob { digest: last }),
            "tags" if last == "list" => Some(Route::Tags { repository }),
            "referrers" => Some(Route::Referrers),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_path_decides() {
        let manifest =
            |repository: &str, version: &str| Some(Route::Manifest { repository: repository.to_owned(), version: version.to_owned() });
        for (path, expected) in [
            ("/v2", Some(Route::Version)),
            ("/v2/", Some(Route::Version)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/manifests/1", manifest("a", "1")),
            ("/v2/a/manifests/b/manifests/1", manifest("a/manifests/b", "1")),
            ("/v2/a/b/manifests/sha256%3Aab", manifest("a/b", "sha256:ab")),
            ("/v2/a/b/blobs/sha256:ab", Some(Route::Blob { digest: "sha256:ab".to_owned() })),
            ("/v2/a/tags/list", Some(Route::Tags { repository: "a".to_owned() })),
            ("/v2/a/tags/other", None),
            ("/v2/a/referrers/sha256:ab", Some(Route::Referrers)),
            ("/v2/manifests/1", None),
            ("/v2/a", None),
            ("/", None),
            ("/v1/a/manifests/1", None),
        ] {
            assert_eq!(Route::parse(path), expected, "{path}");
        }
    }
}
