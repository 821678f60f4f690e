//! Finds the container images that a file of manifests names.

use serde::{Deserialize, Serialize};

use super::kustomization::Kustomization;
use super::reference::{named, plausible, unmistakable};
use super::template::{HOLE, blank_out};
use super::yaml::{Node, Value, parse};
use crate::image::Reference;

/// What one file says about container images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finds {
    /// The images it names.
    pub images: Vec<Found>,
    /// What may name an image, and was not taken.
    pub undecided: Vec<Undecided>,
    /// Of a `kustomization.yaml`: what it makes of other files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kustomization: Option<Kustomization>,
}

/// An image and the line that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The image.
    pub image: Reference,
    /// Counted from 1.
    pub line: usize,
    /// Whether it is a container's: kustomizations replace no others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_container: bool,
}

/// A text that may name an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// The text.
    pub text: String,
    /// Counted from 1.
    pub line: usize,
    /// Why it was not taken.
    pub why: String,
}

/// Reads manifests: YAML or JSON, or a Go template of them.
pub fn in_manifests(text: &str, templated: bool) -> Finds {
    if templated {
        return read(&blank_out(text));
    }
    // templates do not always say so in their names
    if text.contains("{{") && parse(text).1.is_some() { read(&blank_out(text)) } else { read(text) }
}

fn read(text: &str) -> Finds {
    let mut finder = Finder::default();
    let (documents, error) = parse(text);
    for document in &documents {
        finder.document(document, 0);
    }
    if let Some((line, message)) = error {
        finder.undecide(format!("not YAML: {message}"), line, "read line by line instead");
        finder.lines(text);
    }
    finder.finds
}

/// Embedded documents are followed this deep.
const DEEPEST_EMBEDDED: usize = 3;

#[derive(Default)]
struct Finder {
    finds: Finds,
    /// Lines before the embedded document that is read now.
    offset: usize,
    embedded: usize,
    /// Whether the node is one of `containers`.
    in_container: bool,
}

impl Finder {
    fn document(&mut self, document: &Node, offset: usize) {
        self.offset = offset;
        let carries_files = matches!(document.get("kind").and_then(Node::text), Some("ConfigMap" | "Secret"));
        match &document.value {
            Value::Map(entries) if carries_files => {
                for (key, node) in entries {
                    match key.as_str() {
                        "data" | "stringData" => self.files(node),
                        _ => self.node(key, node),
                    }
                }
            }
            _ => self.node("", document),
        }
    }

    /// The values of a ConfigMap: files, some of them YAML.
    fn files(&mut self, data: &Node) {
        let Value::Map(entries) = &data.value else { return };
        for (key, node) in entries {
            match &node.value {
                Value::Scalar(text) if text.contains('\n') && self.embedded < DEEPEST_EMBEDDED => self.embedded(text, node.line - 1),
                Value::Scalar(text) if is_image_key(key) => self.take(plausible(text), text, node.line),
                _ => {}
            }
        }
    }

    /// A YAML text inside a scalar; what is no mapping or list at all is some other kind of file.
    fn embedded(&mut self, text: &str, line: usize) {
        let before = self.offset;
        self.embedded += 1;
        if let (documents, None) = parse(&blank_out(text)) {
            for document in &documents {
                self.document(document, before + line);
            }
        }
        self.embedded -= 1;
        self.offset = before;
    }

    fn node(&mut self, key: &str, node: &Node) {
        match &node.value {
            Value::Map(entries) => {
                self.assembled(node);
                self.environment(node);
                self.patch(node);
                for (key, value) in entries {
                    let around = self.in_container;
                    self.in_container = around && key == "image";
                    self.node(key, value);
                    self.in_container = around;
                }
            }
            Value::List(items) => {
                let around = std::mem::replace(&mut self.in_container, matches!(key, "containers" | "initContainers"));
                for item in items {
                    self.node(key_of_items(key), item);
                }
                self.in_container = around;
            }
            Value::Scalar(text) => self.scalar(key, text, node.line),
        }
    }

    fn scalar(&mut self, key: &str, text: &str, line: usize) {
        if key == "image" {
            self.take(named(text), text, line);
        } else if is_image_key(key) {
            self.take(plausible(text), text, line);
        } else if let Some((flag, value)) = text.split_once('=').filter(|(flag, _)| flag.starts_with('-')) {
            self.flag(flag, value, line);
        } else if unmistakable(text) && !text.contains(HOLE) {
            self.undecide(text.to_owned(), line, "reads like an image, but does not stand where images do");
        }
    }

    /// `--sidecar-image=quay.io/a/b:1` among a container's arguments.
    fn flag(&mut self, flag: &str, value: &str, line: usize) {
        if flag.contains("image") {
            self.take(plausible(value), value, line);
        } else if unmistakable(value) {
            self.undecide(value.to_owned(), line, "reads like an image, given to a flag that does not say so");
        }
    }

    /// `{name: RELATED_IMAGE_X, value: quay.io/a/b:1}` among a container's environment.
    fn environment(&mut self, node: &Node) {
        let (Some(name), Some(value)) = (node.get("name").and_then(Node::text), node.get("value")) else { return };
        if let Some(text) = value.text().filter(|_| name.to_ascii_uppercase().contains("IMAGE"))
            && let Some(image) = plausible(text)
        {
            self.take(Some(image), text, value.line);
        }
    }

    /// `{op: replace, path: /spec/containers/0/image, value: quay.io/a/b:1}`, a step of a JSON patch.
    fn patch(&mut self, node: &Node) {
        let (Some(path), Some(value)) = (node.get("path").and_then(Node::text), node.get("value")) else { return };
        let key = path.rsplit('/').next().unwrap_or_default();
        if let Some(text) = value.text().filter(|_| node.get("op").is_some() && is_image_key(key)) {
            let around =
                std::mem::replace(&mut self.in_container, ["/containers/", "/initContainers/"].iter().any(|part| path.contains(part)));
            self.take(named(text), text, value.line);
            self.in_container = around;
        }
    }

    /// `{registry, repository, tag, digest}`, as values of charts and custom resources have them.
    fn assembled(&mut self, node: &Node) {
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
        self.take(named(&text), &text, line);
    }

    fn take(&mut self, image: Option<Reference>, text: &str, line: usize) {
        match image {
            _ if text.contains(HOLE) => self.undecide(text.to_owned(), line, "only known when the template is rendered"),
            Some(image) => {
                let found = Found { image, line: line + self.offset, in_container: self.in_container };
                if !self.finds.images.contains(&found) {
                    self.finds.images.push(found);
                }
            }
            None if text.is_empty() || ["null", "~", "true", "false"].contains(&text) => {}
            None if plausible_words(text) => self.undecide(text.to_owned(), line, "not an image name"),
            None => {}
        }
    }

    fn undecide(&mut self, text: String, line: usize, why: &str) {
        let undecided = Undecided { text, line: line + self.offset, why: why.to_owned() };
        if !self.finds.undecided.contains(&undecided) {
            self.finds.undecided.push(undecided);
        }
    }

    /// The last resort for a file that is no YAML: `image: x` on a line.
    fn lines(&mut self, text: &str) {
        self.offset = 0;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim().trim_start_matches("- ");
            if let Some((key, value)) = line.split_once(':').filter(|_| !line.starts_with('#')) {
                let value = value.split(" #").next().unwrap_or("").trim().trim_matches(['"', '\'', ',']);
                if is_image_key(key.trim().trim_matches(['"', '\''])) {
                    self.take(plausible(value), value, number + 1);
                }
            }
        }
    }
}

/// Whether a key says that its value is an image: `image`, `initImage`, `sidecar-image`, `SANDBOX_IMAGE`.
fn is_image_key(key: &str) -> bool {
    key.len() >= 5 && key.is_char_boundary(key.len() - 5) && key[key.len() - 5..].eq_ignore_ascii_case("image")
}

/// The items of `images: [a, b]` are images.
fn key_of_items(key: &str) -> &str {
    if key.len() >= 6 && is_image_key(&key[..key.len() - 1]) && key.ends_with('s') { "listed-image" } else { "" }
}

/// A single word: worth telling the user about. Sentences under an `image` key are descriptions.
fn plausible_words(text: &str) -> bool {
    !text.contains(char::is_whitespace) && text.len() < 300
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(finds: &Finds) -> Vec<String> {
        finds.images.iter().map(|found| format!("{}:{}", found.line, found.image.familiar())).collect()
    }

    #[test]
    fn images_are_found_wherever_they_stand() {
        for (name, text, want) in [
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
            assert_eq!(images(&in_manifests(text, false)), want, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_decided_is_told() {
        let finds = in_manifests("image: \"{{ .Repo }}/a:1\"\nb: quay.io/a/b:2\n", true);
        assert_eq!(images(&finds), Vec::<String>::new());
        assert_eq!(
            finds.undecided.iter().map(|one| (one.line, one.text.as_str())).collect::<Vec<_>>(),
            [(1, "TEMPLATED/a:1"), (2, "quay.io/a/b:2")]
        );
    }

    #[test]
    fn templates_are_read_between_their_actions() {
        let text = "{{ if .Enabled }}\nspec:\n  containers:\n  - image: a:1\n    args: [{{ .Args }}]\n{{ end }}\n";
        assert_eq!(images(&in_manifests(text, true)), ["4:a:1"]);
        assert_eq!(in_manifests(text, false), in_manifests(text, true));
    }

    #[test]
    fn broken_yaml_is_read_line_by_line() {
        let finds = in_manifests("a: [\nspec:\n  - image: quay.io/a/b:1\n", false);
        assert_eq!(images(&finds), ["3:quay.io/a/b:1"]);
        assert!(finds.undecided[0].text.starts_with("not YAML"));
    }
}
