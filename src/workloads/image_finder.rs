//! Finds the container images that a file of Kubernetes manifests names.

use serde::{Deserialize, Serialize};

use super::kustomization::Kustomization;
use super::reference::{is_clearly_image, parse_image, parse_likely_image};
use super::template::{PLACEHOLDER, replace_actions};
use crate::image::Reference;
use crate::yaml::{Content, Node, read_all};

/// The container images that one file names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundImages {
    /// The images it names.
    pub images: Vec<FoundImage>,
    /// Texts that may name an image, and are not used as one.
    pub undecided: Vec<UndecidedText>,
    /// Of a `kustomization.yaml`: the files that it uses, and the images that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kustomization: Option<Kustomization>,
}

/// An image and the line that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundImage {
    /// The image.
    pub image: Reference,
    /// The line, counted from 1.
    pub line: usize,
    /// Whether it is in `containers` or `initContainers`: kustomizations replace only those.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_container: bool,
}

/// A text that may name an image, and is not used as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UndecidedText {
    /// The text.
    pub text: String,
    /// The line, counted from 1.
    pub line: usize,
    /// Why it is not used, and what to do about it.
    pub why: String,
}

/// Finds the images in manifests: YAML or JSON, or a Go template of them (`templated`). A file that is not YAML is read line by line.
pub fn find_in_manifests(text: &str, templated: bool) -> FoundImages {
    if templated {
        return read(&replace_actions(text));
    }
    // not every template is called `*.tmpl`
    if text.contains("{{") && read_all(text).1.is_some() { read(&replace_actions(text)) } else { read(text) }
}

fn read(text: &str) -> FoundImages {
    let mut finder = Finder::default();
    let (documents, error) = read_all(text);
    for document in &documents {
        finder.document(document, 0);
    }
    if let Some(error) = error {
        finder.add_undecided(
            format!("not YAML: {}", error.message),
            error.line,
            "only lines like `image: NAME` were read; fix the YAML, or list the images with IMAGES",
        );
        finder.read_lines(text);
    }
    finder.found
}

/// YAML inside of ConfigMaps inside of ConfigMaps is followed this deep.
const MAX_EMBEDDED: usize = 3;

#[derive(Default)]
struct Finder {
    found: FoundImages,
    /// The number of lines before the embedded document that is read now.
    offset: usize,
    /// How many documents the one that is read now is embedded in.
    embedded: usize,
    /// Whether the node is an item of `containers` or `initContainers`, or its `image`.
    in_container: bool,
}

impl Finder {
    fn document(&mut self, document: &Node, offset: usize) {
        self.offset = offset;
        let has_files = matches!(document.get("kind").and_then(Node::text), Some("ConfigMap" | "Secret"));
        match &document.content {
            Content::Map(entries) if has_files => {
                for (key, node) in entries.iter() {
                    let Some(key) = key.text() else { continue };
                    match key {
                        "data" | "stringData" => self.files(node),
                        _ => self.node(key, node),
                    }
                }
            }
            _ => self.node("", document),
        }
    }

    /// The values of a ConfigMap or Secret: files, some of them YAML.
    fn files(&mut self, data: &Node) {
        for (key, node) in data.entries() {
            match &node.content {
                Content::Scalar(scalar) if scalar.text.contains('\n') && self.embedded < MAX_EMBEDDED => {
                    self.embedded(&scalar.text, node.line - 1);
                }
                Content::Scalar(scalar) if key.text().is_some_and(is_image_key) => {
                    self.add(parse_likely_image(&scalar.text), &scalar.text, node.line);
                }
                _ => {}
            }
        }
    }

    /// A YAML text inside a scalar. A text that is not YAML is some other kind of file.
    fn embedded(&mut self, text: &str, line: usize) {
        let before = self.offset;
        self.embedded += 1;
        if let (documents, None) = read_all(&replace_actions(text)) {
            for document in &documents {
                self.document(document, before + line);
            }
        }
        self.embedded -= 1;
        self.offset = before;
    }

    fn node(&mut self, key: &str, node: &Node) {
        match &node.content {
            Content::Map(entries) => {
                self.parts_of_name(node);
                self.environment(node);
                self.patch(node);
                for (key, value) in entries.iter() {
                    let Some(key) = key.text() else { continue };
                    let outer = self.in_container;
                    self.in_container = outer && key == "image";
                    self.node(key, value);
                    self.in_container = outer;
                }
            }
            Content::List(items) => {
                let outer = std::mem::replace(&mut self.in_container, matches!(key, "containers" | "initContainers"));
                for item in items.iter() {
                    self.node(key_of_items(key), item);
                }
                self.in_container = outer;
            }
            Content::Scalar(scalar) => self.scalar(key, &scalar.text, node.line),
        }
    }

    fn scalar(&mut self, key: &str, text: &str, line: usize) {
        if key == "image" {
            self.add(parse_image(text), text, line);
        } else if is_image_key(key) {
            self.add(parse_likely_image(text), text, line);
        } else if let Some((flag, value)) = text.split_once('=').filter(|(flag, _)| flag.starts_with('-')) {
            self.flag(flag, value, line);
        } else if is_clearly_image(text) && !text.contains(PLACEHOLDER) {
            self.add_undecided(
                text.to_owned(),
                line,
                "looks like an image, but its field is not one for images: list it with IMAGES if it is one",
            );
        }
    }

    /// `--sidecar-image=quay.io/a/b:1` among a container's arguments.
    fn flag(&mut self, flag: &str, value: &str, line: usize) {
        if flag.contains("image") {
            self.add(parse_likely_image(value), value, line);
        } else if is_clearly_image(value) {
            self.add_undecided(
                value.to_owned(),
                line,
                "looks like an image, but the name of its flag does not contain `image`: list it with IMAGES if it is one",
            );
        }
    }

    /// `{name: RELATED_IMAGE_X, value: quay.io/a/b:1}` among a container's environment.
    fn environment(&mut self, node: &Node) {
        let (Some(name), Some(value)) = (node.get("name").and_then(Node::text), node.get("value")) else { return };
        if let Some(text) = value.text().filter(|_| name.to_ascii_uppercase().contains("IMAGE"))
            && let Some(image) = parse_likely_image(text)
        {
            self.add(Some(image), text, value.line);
        }
    }

    /// `{op: replace, path: /spec/containers/0/image, value: quay.io/a/b:1}`, a step of a JSON patch.
    fn patch(&mut self, node: &Node) {
        let (Some(path), Some(value)) = (node.get("path").and_then(Node::text), node.get("value")) else { return };
        let key = path.rsplit('/').next().unwrap_or_default();
        if let Some(text) = value.text().filter(|_| node.get("op").is_some() && is_image_key(key)) {
            let outer =
                std::mem::replace(&mut self.in_container, ["/containers/", "/initContainers/"].iter().any(|part| path.contains(part)));
            self.add(parse_image(text), text, value.line);
            self.in_container = outer;
        }
    }

    /// `{registry, repository, tag, digest}`, as values of charts and custom resources have them.
    fn parts_of_name(&mut self, node: &Node) {
        let part = |key: &str| node.get(key).and_then(Node::text).map(str::trim).filter(|text| !text.is_empty() && *text != "null");
        let Some(repository) = part("repository") else { return };
        let version = match (part("tag"), part("digest")) {
            (Some(tag), Some(digest)) => format!(":{tag}@{digest}"),
            (Some(tag), None) => format!(":{tag}"),
            (None, Some(digest)) => format!("@{digest}"),
            (None, None) => return,
        };
        let registry = part("registry").map(|host| format!("{host}/")).unwrap_or_default();
        let text = format!("{registry}{repository}{version}");
        let line = node.get("repository").map_or(node.line, |node| node.line);
        self.add(parse_image(&text), &text, line);
    }

    fn add(&mut self, image: Option<Reference>, text: &str, line: usize) {
        match image {
            _ if text.contains(PLACEHOLDER) => {
                self.add_undecided(text.to_owned(), line, "known only when the template is rendered: list the image with IMAGES")
            }
            Some(image) => {
                let entry = FoundImage { image, line: line + self.offset, in_container: self.in_container };
                if !self.found.images.contains(&entry) {
                    self.found.images.push(entry);
                }
            }
            None if text.is_empty() || ["null", "~", "true", "false"].contains(&text) => {}
            None if is_single_word(text) => {
                self.add_undecided(text.to_owned(), line, "not a valid image name: fix it, or remove it if it is none")
            }
            None => {}
        }
    }

    fn add_undecided(&mut self, text: String, line: usize, why: &str) {
        let undecided = UndecidedText { text, line: line + self.offset, why: why.to_owned() };
        if !self.found.undecided.contains(&undecided) {
            self.found.undecided.push(undecided);
        }
    }

    /// The last resort for a file that is not YAML: lines like `image: NAME`.
    fn read_lines(&mut self, text: &str) {
        self.offset = 0;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim().trim_start_matches("- ");
            if let Some((key, value)) = line.split_once(':').filter(|_| !line.starts_with('#')) {
                let value = value.split(" #").next().unwrap_or("").trim().trim_matches(['"', '\'', ',']);
                if is_image_key(key.trim().trim_matches(['"', '\''])) {
                    self.add(parse_likely_image(value), value, number + 1);
                }
            }
        }
    }
}

/// Whether the name of a key ends in `image`: `image`, `initImage`, `sidecar-image`, `SANDBOX_IMAGE`.
fn is_image_key(key: &str) -> bool {
    key.len() >= 5 && key.is_char_boundary(key.len() - 5) && key[key.len() - 5..].eq_ignore_ascii_case("image")
}

/// The items of `images: [a, b]` are images.
fn key_of_items(key: &str) -> &str {
    if key.len() >= 6 && is_image_key(&key[..key.len() - 1]) && key.ends_with('s') { "listed-image" } else { "" }
}

/// Whether a text is a single word, and so worth reporting. Sentences in an `image` field are descriptions.
fn is_single_word(text: &str) -> bool {
    !text.contains(char::is_whitespace) && text.len() < 300
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(found: &FoundImages) -> Vec<String> {
        found.images.iter().map(|entry| format!("{}:{}", entry.line, entry.image.familiar())).collect()
    }

    #[test]
    fn images_are_found_wherever_they_stand() {
        for (name, text, expected) in [
            (
                "pod",
                "kind: Pod\nspec:\n  containers:\n  - name: a\n    image: nginx\n  initContainers:\n  - {image: 'busybox:1'}\n",
                vec!["5:nginx:latest", "7:busybox:1"],
            ),
            (
                "cron job",
                "spec:\n jobTemplate:\n  spec:\n   template:\n    spec:\n     containers:\n      - image: a/b:1\n",
                vec!["7:a/b:1"],
            ),
            (
                "list",
                "kind: List\nitems:\n- spec: {containers: [{image: a:1}]}\n- spec: {containers: [{image: b:2}]}\n",
                vec!["3:a:1", "4:b:2"],
            ),
            ("json", "{\"spec\": {\"containers\": [\n {\"image\": \"quay.io/a/b:1\"}]}}", vec!["2:quay.io/a/b:1"]),
            ("custom resource", "kind: Prometheus\nspec:\n  baseImage: quay.io/p/p:v1\n  image: x:1\n", vec!["3:quay.io/p/p:v1", "4:x:1"]),
            ("triple", "image:\n  registry: quay.io\n  repository: a/b\n  tag: 1.0\n", vec!["3:quay.io/a/b:1.0"]),
            ("flag", "args: [--config-image=quay.io/a/b:1, --port=80]\n", vec!["1:quay.io/a/b:1"]),
            ("environment", "env:\n- name: RELATED_IMAGE_X\n  value: quay.io/a/b:1\n", vec!["3:quay.io/a/b:1"]),
            (
                "config map",
                "kind: ConfigMap\ndata:\n  pod.yaml: |\n    kind: Pod\n    spec:\n      containers:\n      - image: deep:1\n  note: hello\n",
                vec!["7:deep:1"],
            ),
            ("several documents", "image: a:1\n---\nimage: b:1\n", vec!["1:a:1", "3:b:1"]),
            ("anchors", "x: &x {image: a:1}\ny: *x\n", vec!["1:a:1"]),
            (
                "schema",
                "kind: CustomResourceDefinition\nspec: {properties: {image: {type: string, description: The image to run.}}}\n",
                vec![],
            ),
            ("images list", "images: [a/b:1, quay.io/c]\n", vec!["1:a/b:1", "1:quay.io/c:latest"]),
            (
                "digest",
                "image: a/b@sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n",
                vec!["1:a/b@sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
            ),
            ("comments and words", "# image: no:1\nparameter: image\ndefaultImage: false\nimagePullPolicy: Always\n", vec![]),
        ] {
            assert_eq!(images(&find_in_manifests(text, false)), expected, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_decided_is_reported() {
        let found = find_in_manifests("image: \"{{ .Repo }}/a:1\"\nb: quay.io/a/b:2\n", true);
        assert_eq!(images(&found), Vec::<String>::new());
        assert_eq!(
            found.undecided.iter().map(|text| (text.line, text.text.as_str())).collect::<Vec<_>>(),
            [(1, "TEMPLATED/a:1"), (2, "quay.io/a/b:2")]
        );
    }

    #[test]
    fn templates_are_read_between_their_actions() {
        let text = "{{ if .Enabled }}\nspec:\n  containers:\n  - image: a:1\n    args: [{{ .Args }}]\n{{ end }}\n";
        assert_eq!(images(&find_in_manifests(text, true)), ["4:a:1"]);
        assert_eq!(find_in_manifests(text, false), find_in_manifests(text, true));
    }

    #[test]
    fn broken_yaml_is_read_line_by_line() {
        let found = find_in_manifests("a: [\nspec:\n  - image: quay.io/a/b:1\n", false);
        assert_eq!(images(&found), ["3:quay.io/a/b:1"]);
        assert!(found.undecided[0].text.starts_with("not YAML"));
    }
}
