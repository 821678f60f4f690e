//! Patterns of image names.

use std::str::FromStr;

use anyhow::{Context as _, Error, Result};
use globset::{GlobBuilder, GlobMatcher};

use crate::error::Failure;
use crate::image::Reference;

/// A pattern of names without tag, such as `registry.example.com/prod/**`: `*` stands for a part of a path, `**` for several.
#[derive(Debug, Clone)]
pub struct Pattern(GlobMatcher);

impl Pattern {
    /// Whether an image of this name is meant.
    pub fn fits(&self, name: &Reference) -> bool {
        self.fits_text(&format!("{}/{}", name.registry(), name.repository()))
    }

    /// Whether a full name without tag is meant.
    pub fn fits_text(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let glob = GlobBuilder::new(text).literal_separator(true).build();
        let glob = glob.with_context(|| Failure::usage(format!("`{text}` is no pattern of image names")))?;
        Ok(Pattern(glob.compile_matcher()))
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.glob().glob())
    }
}
