//! Patterns of image names.

use std::str::FromStr;

use anyhow::{Context as _, Error, Result};
use globset::{GlobBuilder, GlobMatcher};

use crate::error::Failure;
use crate::image::Reference;

/// A pattern of names without tag, such as `registry.example.com/prod/**`: `*` matches within a path segment, `**` across segments.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

impl Pattern {
    /// Whether the image name matches; its tag and digest do not count.
    pub fn matches(&self, name: &Reference) -> bool {
        self.matches_text(&format!("{}/{}", name.registry(), name.repository()))
    }

    /// Whether a full name without tag matches.
    pub fn matches_text(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.with_context(|| {
            Failure::usage(format!("`{text}` is not a pattern of image names"))
                .hint("write it like `registry.example.com/team/**`: `*` matches within a path segment, `**` across segments")
        })?;
        Ok(Pattern(glob.compile_matcher()))
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}
