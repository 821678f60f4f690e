//! The images that a cluster image has to bring, and who asked for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::candidate_files::app_of;
use super::image_finder::Finds;
use super::image_list::Ignore;
use crate::image::Reference;

/// Where an image is asked for: file and line, or an option.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// A file of the rootfs, or what else asked.
    pub source: String,
    /// Counted from 1.
    pub line: usize,
    /// Whether the line is that of what a template made, as it is not known which line of the template made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rendered: bool,
    /// Of a chart's template: the values that make the image; known only of images that are asked about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Place>,
}

impl Place {
    /// A line of a file.
    pub fn line(source: impl Into<String>, line: usize) -> Self {
        Place { source: source.into(), line, rendered: false, values: Vec::new() }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rendered {
            true => write!(f, "{} (rendered line {})", self.source, self.line),
            false => write!(f, "{}:{}", self.source, self.line),
        }
    }
}

/// Who asks for one image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The applications among them.
    pub apps: BTreeSet<String>,
    /// The places, in the order they were found.
    pub places: Vec<Place>,
}

/// A text that may name an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    /// Where it stands.
    pub place: Place,
    /// The text.
    pub text: String,
    /// Why it was not taken.
    pub why: String,
}

/// All images that are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RequiredImages {
    /// By name, with who asks.
    pub images: BTreeMap<Reference, Asked>,
    /// What could not be decided.
    pub undecided: Vec<Doubt>,
    /// Images that an ignore list took away.
    pub ignored: BTreeSet<Reference>,
}

impl RequiredImages {
    /// Adds what a file of the rootfs says.
    pub fn add_file(&mut self, path: &Path, finds: &Finds) {
        self.add(&path.display().to_string(), app_of(path), finds);
    }

    /// Adds what another source says, such as the Kubefile's IMAGES.
    pub fn add(&mut self, source: &str, app: Option<&str>, finds: &Finds) {
        self.add_at(app, finds, |line| Place::line(source, line));
    }

    /// Adds what a template makes that is known only as it is then.
    pub fn add_rendered(&mut self, source: &str, app: Option<&str>, finds: &Finds) {
        self.add_at(app, finds, |line| Place { rendered: true, ..Place::line(source, line) });
    }

    fn add_at(&mut self, app: Option<&str>, finds: &Finds, place: impl Fn(usize) -> Place) {
        for found in &finds.images {
            let asked = self.images.entry(found.image.clone()).or_default();
            asked.apps.extend(app.map(str::to_owned));
            asked.places.push(place(found.line));
        }
        self.undecided.extend(finds.undecided.iter().map(|one| Doubt {
            place: place(one.line),
            text: one.text.clone(),
            why: one.why.clone(),
        }));
    }

    /// Takes away what is not wanted.
    pub fn ignore(&mut self, ignore: &Ignore) {
        let (gone, kept) = std::mem::take(&mut self.images).into_iter().partition(|(name, _)| ignore.has(name));
        self.images = kept;
        self.ignored.extend(BTreeMap::into_keys(gone));
    }
}
