//! Lists of container images: `imageList` files, `--image-list`, `--ignored-image-list`, `.imageignore`.

use std::collections::BTreeSet;

use super::image_finder::{Finds, Found, Undecided};
use super::reference::named;
use crate::image::Reference;

/// Reads a list: one image a line, `#` comments, quotes and a trailing comma forgiven.
pub fn parse(text: &str) -> Finds {
    let mut finds = Finds::default();
    for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim().trim_end_matches(',').trim_matches(['"', '\'', ' ']);
        if line.is_empty() {
            continue;
        }
        match named(line) {
            Some(image) => finds.images.push(Found { image, line: number + 1, in_container: false }),
            None => {
                finds.undecided.push(Undecided { text: line.to_owned(), line: number + 1, why: "not an image name".to_owned() });
            }
        }
    }
    finds
}

/// Images that are not wanted, by name; `*` stands for any text without `/`, `**` for any text.
#[derive(Debug, Clone, Default)]
pub struct Ignore {
    names: BTreeSet<Reference>,
    patterns: Vec<globset::GlobMatcher>,
}

impl Ignore {
    /// Adds the lines of an ignore file. What is neither a name nor a pattern is given back: line number and text.
    pub fn add(&mut self, text: &str) -> Vec<(usize, String)> {
        let mut wrong = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            if !line.contains('*')
                && let Some(name) = named(line)
            {
                self.names.insert(name);
            } else if line.contains('*')
                && let Ok(glob) = globset::GlobBuilder::new(line).literal_separator(true).build()
            {
                self.patterns.push(glob.compile_matcher());
            } else {
                wrong.push((number + 1, line.to_owned()));
            }
        }
        wrong
    }

    /// Whether the image is not wanted.
    pub fn has(&self, image: &Reference) -> bool {
        self.names.contains(image)
            || self.patterns.iter().any(|pattern| pattern.is_match(image.to_string()) || pattern.is_match(image.familiar()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_line_by_line() {
        let finds = parse("# kubernetes\n\"quay.io/a/b:1\",\n  calico/cni:v3 # net\nnot an image\n\nnginx");
        let read: Vec<_> = finds.images.iter().map(|found| (found.line, found.image.familiar())).collect();
        assert_eq!(read, [(2, "quay.io/a/b:1".to_owned()), (3, "calico/cni:v3".to_owned()), (6, "nginx:latest".to_owned())]);
        assert_eq!(finds.undecided[0].line, 4);
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
            assert_eq!(ignore.has(&name.parse().unwrap()), ignored, "{name}");
        }
    }
}
