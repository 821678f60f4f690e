//! What a request is for, by its path (OCI distribution specification 1.1, "endpoints"). Repositories have slashes, so the end decides.

/// An endpoint of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/v2/`: is this a registry.
    Version,
    /// `/token`: gives out tokens (distribution token specification).
    Token,
    /// All repositories (docker's registry API).
    Catalog,
    /// Something of a repository.
    In {
        /// The repository.
        repository: String,
        /// What of it.
        part: Part,
    },
}

/// Something of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A manifest or index, by tag or digest.
    Manifest(String),
    /// A blob, by its digest as it was written.
    Blob(String),
    /// Its tags.
    Tags,
    /// What refers to a manifest, by its digest as it was written.
    Referrers(String),
    /// Where uploads begin.
    Uploads,
    /// An upload, by its id.
    Upload(String),
}

impl Route {
    /// The route of a path, if it has one.
    pub fn parse(path: &str) -> Option<Route> {
        // some clients write the colon of a digest so
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
        let (repository, part) = Part::parse(rest)?;
        (!repository.is_empty()).then(|| Route::In { repository: repository.to_owned(), part })
    }
}

impl Part {
    /// The repository before it, and the part.
    fn parse(path: &str) -> Option<(&str, Part)> {
        if let Some(repository) = path.strip_suffix("/blobs/uploads/").or_else(|| path.strip_suffix("/blobs/uploads")) {
            return Some((repository, Part::Uploads));
        }
        let (before, last) = path.rsplit_once('/').filter(|(_, last)| !last.is_empty())?;
        if let Some(repository) = before.strip_suffix("/blobs/uploads") {
            return Some((repository, Part::Upload(last.to_owned())));
        }
        let (repository, kind) = before.rsplit_once('/')?;
        let part = match kind {
            "manifests" => Part::Manifest(last.to_owned()),
            "blobs" => Part::Blob(last.to_owned()),
            "tags" if last == "list" => Part::Tags,
            "referrers" => Part::Referrers(last.to_owned()),
            _ => return None,
        };
        Some((repository, part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_path_decides() {
        let within = |repository: &str, part: Part| Some(Route::In { repository: repository.to_owned(), part });
        let manifest = |repository: &str, version: &str| within(repository, Part::Manifest(version.to_owned()));
        for (path, expected) in [
            ("/v2", Some(Route::Version)),
            ("/v2/", Some(Route::Version)),
            ("/token", Some(Route::Token)),
            ("/v2/_catalog", Some(Route::Catalog)),
            ("/v2/a/manifests/1", manifest("a", "1")),
            ("/v2/a/manifests/b/manifests/1", manifest("a/manifests/b", "1")),
            ("/v2/a/b/manifests/sha256%3Aab", manifest("a/b", "sha256:ab")),
            ("/v2/a/b/blobs/sha256:ab", within("a/b", Part::Blob("sha256:ab".to_owned()))),
            ("/v2/a/tags/list", within("a", Part::Tags)),
            ("/v2/a/tags/other", None),
            ("/v2/a/referrers/sha256:ab", within("a", Part::Referrers("sha256:ab".to_owned()))),
            ("/v2/a/b/blobs/uploads/", within("a/b", Part::Uploads)),
            ("/v2/a/blobs/uploads", within("a", Part::Uploads)),
            ("/v2/a/blobs/uploads/12ab", within("a", Part::Upload("12ab".to_owned()))),
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
