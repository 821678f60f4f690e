//! Lists of container images: `imageList` files, `--image-list`, `--ignored-image-list`, `.imageignore`.

use std::collections::BTreeSet;

use super::image_finder::{FoundImage, FoundImages, UndecidedText};
use super::reference::parse_image;
use crate::image::Reference;

/// Reads a list: one image per line. Comments (`#`), quotes and a trailing comma are allowed.
pub fn parse(text: &str) -> FoundImages {
    let mut found = FoundImages::default();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim().trim_end_matches(',').trim_matches(['"', '\'', ' ']);
        if line.is_empty() {
            continue;
        }
        match parse_image(line) {
            Some(image) => found.images.push(FoundImage { image, line: number + 1, in_container: false }),
            None => {
                found.undecided.push(UndecidedText {
                    text: line.to_owned(),
                    line: number + 1,
                    why: "not a valid image name: write one image per line".to_owned(),
                });
            }
        }
    }
    found
}

/// The images of ignore lists, by name or pattern: `*` matches any text without `/`, `**` any text.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    names: BTreeSet<Reference>,
    patterns: Vec<globset::GlobMatcher>,
}

impl Ignore {
    /// Adds the lines of an ignore file. Returns the lines that are neither a name nor a pattern: number (from 1) and text.
    pub fn add(&mut self, text: &str) -> Vec<(usize, String)> {
        let mut invalid = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            if !line.contains('*')
                && let Some(name) = parse_image(line)
            {
                self.names.insert(name);
            } else if line.contains('*')
                && let Ok(glob) = globset::GlobBuilder::new(line).literal_separator(true).build()
            {
                self.patterns.push(glob.compile_matcher());
            } else {
                invalid.push((number + 1, line.to_owned()));
            }
        }
        invalid
    }

    /// Whether the image is ignored.
    pub fn matches(&self, image: &Reference) -> bool {
        self.names.contains(image)
            || self.patterns.iter().any(|pattern| pattern.is_match(image.to_string()) || pattern.is_match(image.familiar()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_line_by_line() {
        let found = parse("# kubernetes\n\"quay.io/a/b:1\",\n  calico/cni:v3 # net\nnot an image\n\nnginx");
        let read: Vec<_> = found.images.iter().map(|entry| (entry.line, entry.image.familiar())).collect();
        assert_eq!(read, [(2, "quay.io/a/b:1".to_owned()), (3, "calico/cni:v3".to_owned()), (6, "nginx:latest".to_owned())]);
        assert_eq!(found.undecided[0].line, 4);
    }

    #[test]
    fn ignored_images_are_matched_by_name_and_pattern() {
        let mut ignore = Ignore::default();
        assert_eq!(ignore.add("nginx\nquay.io/calico/*\n# all of it\ngcr.io/**\nA B\n"), [(5, "A B".to_owned())]);
        for (name, ignored) in [
            ("nginx:latest", true),
            ("nginx:1", false),
            ("quay.io/calico/cni:v1", true),
            ("quay.io/calico/x/y:v1", false),
            ("gcr.io/a/b/c:1", true),
        ] {
            assert_eq!(ignore.matches(&name.parse().unwrap()), ignored, "{name}");
        }
    }
}
