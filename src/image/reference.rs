//! The name of an image: `[registry/]repository[:tag][@digest]`, completed as docker does.

use std::fmt;
use std::str::FromStr;

use oci_spec::distribution::Reference as OciReference;
use serde::{Deserialize, Serialize};

use super::Digest;
use crate::error::Failure;

/// An image's name, fully qualified: `shop` is `docker.io/library/shop:latest`.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference(OciReference);

impl Reference {
    /// The registry's host name and port, as written: `docker.io`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// The repository inside the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        self.0.repository()
    }

    /// The tag, if the name has one.
    pub fn tag(&self) -> Option<&str> {
        self.0.tag()
    }

    /// The digest after `@`, if the name has one.
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest().and_then(|text| text.parse().ok())
    }

    /// The digest if there is one, else the tag: what a registry's API takes as `<reference>`.
    pub fn version(&self) -> &str {
        self.0.digest().or(self.0.tag()).unwrap_or("latest")
    }

    /// The name as users write it: without `docker.io/library/`, with its tag.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").unwrap_or(short).to_owned()
    }

    /// The same repository with another tag.
    pub fn with_tag(&self, tag: &str) -> Reference {
        Reference(OciReference::with_tag(self.registry().to_owned(), self.repository().to_owned(), tag.to_owned()))
    }

    /// The same repository, by digest.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference(OciReference::with_digest(self.registry().to_owned(), self.repository().to_owned(), digest.to_string()))
    }

    /// The reference type of the registry client.
    pub fn reference(&self) -> &OciReference {
        &self.0
    }
}

impl FromStr for Reference {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let refused = |reason: &dyn fmt::Display| {
            Failure::usage(format!("image name `{text}`: {reason}"))
                .hint("write it like `registry.example.com/team/shop:2.1` (lower-case repository)")
        };
        let reference = text.parse::<OciReference>().map_err(|error| refused(&error))?;
        // the parser takes `A/shop`, where `A` could be a host, and completes it to `docker.io/A/shop`, which is no name
        if reference.whole().parse::<OciReference>().is_err() {
            return Err(refused(&"repository name must be lowercase").into());
        }
        if let Some(digest) = reference.digest() {
            digest.parse::<Digest>()?;
        }
        Ok(Reference(reference))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.whole())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Reference {
    type Error = anyhow::Error;

    fn try_from(text: String) -> anyhow::Result<Self> {
        text.parse()
    }
}

impl From<Reference> for String {
    fn from(name: Reference) -> Self {
        name.to_string()
    }
}

impl PartialOrd for Reference {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Reference {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (text, full, familiar) in [
            ("shop", "docker.io/library/shop:latest", "shop:latest"),
            ("shop:2.1", "docker.io/library/shop:2.1", "shop:2.1"),
            ("team/shop:2", "docker.io/team/shop:2", "team/shop:2"),
            ("localhost:5000/shop", "localhost:5000/shop:latest", "localhost:5000/shop:latest"),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c"),
            ("registry.example.com/shop:2.1", "registry.example.com/shop:2.1", "registry.example.com/shop:2.1"),
        ] {
            let name: Reference = text.parse().unwrap();
            assert_eq!((name.to_string().as_str(), name.familiar().as_str()), (full, familiar), "{text}");
            assert_eq!(name.to_string().parse::<Reference>().unwrap(), name);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Both ways to print a name mean the same name again, and its parts are those that were written.
        #[test]
        fn printed_names_are_read_back(
            registry in prop::option::of("[a-z0-9]{1,8}(\\.[a-z]{2,5}){1,2}(:[1-9][0-9]{0,3})?|localhost(:5000)?"),
            path in prop::collection::vec("[a-z0-9]{1,6}([._-][a-z0-9]{1,4}){0,2}", 1..4),
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}"),
            with_digest in any::<bool>(),
        ) {
            let digest = with_digest.then(|| Digest::of(b"image"));
            let mut text = registry.iter().map(|registry| format!("{registry}/")).collect::<String>() + &path.join("/");
            text += &tag.iter().map(|tag| format!(":{tag}")).collect::<String>();
            text += &digest.iter().map(|digest| format!("@{digest}")).collect::<String>();
            let name: Reference = text.parse().unwrap();
            prop_assert_eq!(name.digest(), digest);
            if let Some(tag) = &tag {
                prop_assert_eq!(name.tag(), Some(tag.as_str()));
            }
            if let Some(registry) = &registry {
                prop_assert_eq!((name.registry(), name.repository().to_owned()), (registry.as_str(), path.join("/")));
            }
            for printed in [name.to_string(), name.familiar()] {
                prop_assert_eq!(printed.parse::<Reference>().unwrap(), name.clone(), "{}", printed);
            }
        }

        #[test]
        fn any_text_is_a_name_that_prints_or_refused(text in "[a-zA-Z0-9:/@._-]{0,40}|.{0,40}") {
            if let Ok(name) = text.parse::<Reference>() {
                prop_assert_eq!(name.to_string().parse::<Reference>().unwrap(), name);
            }
        }
    }

    #[test]
    fn a_digest_takes_precedence_over_the_tag() {
        let digest = Digest::of(b"x");
        let name: Reference = format!("shop:1@{digest}").parse().unwrap();
        assert_eq!((name.tag(), name.digest(), name.version()), (Some("1"), Some(digest), digest.to_string().as_str()));
    }

    #[test]
    fn bad_names_are_refused() {
        for bad in ["", "Shop", "a b", "shop:", "shop@sha256:12", "-x/y", "http://a/b", "A/shop", "docker.io/A/shop"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
