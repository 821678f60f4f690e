//! The container images that a cluster image has to contain, and what requires each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::candidate_files::app_of;
use super::image_finder::FoundImages;
use super::image_list::Ignore;
use crate::image::Reference;

/// Where an image is required: file and line, or an option of the command line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SourceLocation {
    /// A file of the rootfs, the Kubefile, or an option.
    pub source: String,
    /// The line, counted from 1.
    pub line: usize,
    /// Whether the line is one of the rendered template, because the line of the template itself is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rendered: bool,
    /// Of a chart's template: the values that the image comes from. Only filled in for the image of `build --why`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<SourceLocation>,
}

impl SourceLocation {
    /// A line (counted from 1) of a file.
    pub fn line(source: impl Into<String>, line: usize) -> Self {
        SourceLocation { source: source.into(), line, rendered: false, values: Vec::new() }
    }
}

impl std::fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rendered {
            true => write!(f, "{} (rendered line {})", self.source, self.line),
            false => write!(f, "{}:{}", self.source, self.line),
        }
    }
}

/// What requires one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RequiredBy {
    /// The applications that require it.
    pub apps: BTreeSet<String>,
    /// The places that require it, in the order in which they were found.
    pub places: Vec<SourceLocation>,
}

/// A text that may name an image and is not used as one, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndecidedImage {
    /// The place of the text.
    pub place: SourceLocation,
    /// The text.
    pub text: String,
    /// Why it is not used, and what to do about it.
    pub why: String,
}

/// All images that are required.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RequiredImages {
    /// By name, with what requires each.
    pub images: BTreeMap<Reference, RequiredBy>,
    /// Texts that may name an image too: the user decides.
    pub undecided: Vec<UndecidedImage>,
    /// Images that are left out because an ignore list names them.
    pub ignored: BTreeSet<Reference>,
}

impl RequiredImages {
    /// Adds the images of a file of the rootfs (path relative to it).
    pub fn add_file(&mut self, path: &Path, found: &FoundImages) {
        self.add(&path.display().to_string(), app_of(path), found);
    }

    /// Adds the images of another source, such as `IMAGES` in the Kubefile.
    pub fn add(&mut self, source: &str, app: Option<&str>, found: &FoundImages) {
        self.add_at(app, found, |line| SourceLocation::line(source, line));
    }

    /// Adds the images of a rendered template whose own lines are not known.
    pub fn add_rendered(&mut self, source: &str, app: Option<&str>, found: &FoundImages) {
        self.add_at(app, found, |line| SourceLocation { rendered: true, ..SourceLocation::line(source, line) });
    }

    fn add_at(&mut self, app: Option<&str>, found: &FoundImages, place: impl Fn(usize) -> SourceLocation) {
        for entry in &found.images {
            let required_by = self.images.entry(entry.image.clone()).or_default();
            required_by.apps.extend(app.map(str::to_owned));
            required_by.places.push(place(entry.line));
        }
        self.undecided.extend(found.undecided.iter().map(|undecided| UndecidedImage {
            place: place(undecided.line),
            text: undecided.text.clone(),
            why: undecided.why.clone(),
        }));
    }

    /// Moves the images that match an ignore list to `ignored`.
    pub fn ignore(&mut self, ignore: &Ignore) {
        let (ignored, kept) = std::mem::take(&mut self.images).into_iter().partition(|(name, _)| ignore.matches(name));
        self.images = kept;
        self.ignored.extend(BTreeMap::into_keys(ignored));
    }
}
