//! Kustomizations: the files that each one uses, and the images that it replaces. Follows kustomize 5 without running it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::image_finder::{FoundImage, FoundImages, UndecidedText, find_in_manifests};
use crate::image::Reference;
use crate::yaml::{Content, Node, read_all};

/// The fields of a `kustomization.yaml` that matter for images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kustomization {
    /// Files and directories: `resources`, `bases`, `crds`, and the files of patches.
    resources: Vec<Resource>,
    /// `components`: their `images:` apply to all resources, not only to their own.
    components: Vec<Resource>,
    /// Its `images:`.
    images: Vec<Replacement>,
}

/// A file or directory, and the line that names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Resource {
    path: String,
    line: usize,
}

/// One of `images:`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Replacement {
    /// A regular expression for the name, as in kustomize.
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
    digest: Option<String>,
}

/// The file names that kustomize reads.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Overlays of overlays are followed this deep.
const MAX_DEPTH: usize = 32;

/// Fields that are not followed, and what to do about it.
const NOT_FOLLOWED: [(&str, &str); 8] = [
    ("helmCharts", "charts in a kustomization are not rendered: add the chart with APP"),
    ("helmChartInflationGenerator", "charts in a kustomization are not rendered: add the chart with APP"),
    ("generators", "generators are not run: list the images of their resources with IMAGES"),
    ("transformers", "transformers are not run: list the images that they set with IMAGES"),
    ("replacements", "replacements are not carried out: list the images that they set with IMAGES"),
    ("configurations", "configurations are not read: list the images that `images` sets in the fields that they name with IMAGES"),
    ("openapi", "schemas are not read: list the images that patches of the kinds in it set with IMAGES"),
    ("vars", "variables are not replaced: list the images that they set with IMAGES"),
];

/// Reads a `kustomization.yaml`. The images of inline patches are listed as its own.
pub fn read(text: &str) -> FoundImages {
    let (documents, error) = read_all(text);
    let mut found = FoundImages::default();
    if let Some(error) = error {
        found.undecided.push(UndecidedText {
            text: error.message,
            line: error.line,
            why: "not YAML, the rest of the file is not read: fix it".to_owned(),
        });
    }
    let mut kustomization = Kustomization::default();
    for document in &documents {
        kustomization.resources.extend(["resources", "bases", "crds"].iter().flat_map(|key| list(document, key)).filter_map(resource));
        kustomization.components.extend(list(document, "components").filter_map(resource));
        read_patches(document, &mut kustomization, &mut found);
        kustomization.images.extend(list(document, "images").filter_map(replacement));
        let remote = ["resources", "bases", "components"].iter().flat_map(|key| list(document, key));
        let remote = remote.filter(|node| node.text().is_some_and(is_remote));
        found
            .undecided
            .extend(remote.map(|node| undecided(node, "remote resources are not read: copy it into the image and name the copy")));
        for (key, why) in NOT_FOLLOWED {
            // `openapi` is a single mapping
            let nodes = document.get(key).map(Node::items).unwrap_or_default();
            found.undecided.extend(nodes.iter().map(|node| undecided(node, why)));
        }
        let suffixed = list(document, "images").filter(|node| node.get("tagSuffix").is_some());
        found.undecided.extend(suffixed.map(|node| undecided(node, "versions of kustomize differ in `tagSuffix`: write `newTag` instead")));
    }
    found.kustomization = Some(kustomization);
    found
}

/// Reads the patches: files, and inline texts.
fn read_patches(document: &Node, kustomization: &mut Kustomization, found: &mut FoundImages) {
    let merges = list(document, "patchesStrategicMerge");
    let others = list(document, "patches").chain(list(document, "patchesJson6902"));
    let others = others.flat_map(|node| [node.get("path"), node.get("patch")]).flatten();
    for node in merges.chain(others) {
        match node.text() {
            Some(text) if text.trim().contains(['\n', '{', '[']) => {
                let inner = find_in_manifests(text, false);
                found.images.extend(inner.images.into_iter().map(|entry| FoundImage { line: entry.line + node.line - 1, ..entry }));
                found.undecided.extend(inner.undecided.into_iter().map(|text| UndecidedText { line: text.line + node.line - 1, ..text }));
            }
            _ => kustomization.resources.extend(resource(node)),
        }
    }
}

fn resource(node: &Node) -> Option<Resource> {
    node.text().map(|path| Resource { path: path.to_owned(), line: node.line })
}

fn undecided(node: &Node, why: &str) -> UndecidedText {
    let text = node.text().or_else(|| node.get("name").or_else(|| node.get("path"))?.text()).unwrap_or_default();
    UndecidedText { text: text.to_owned(), line: node.line, why: why.to_owned() }
}

fn list<'a>(document: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    match document.get(key).map(|node| &node.content) {
        Some(Content::List(nodes)) => nodes.as_slice(),
        _ => &[],
    }
    .iter()
}

fn replacement(node: &Node) -> Option<Replacement> {
    let text = |key: &str| node.get(key).and_then(Node::text).filter(|text| !text.is_empty()).map(str::to_owned);
    Some(Replacement { name: text("name")?, new_name: text("newName"), new_tag: text("newTag"), digest: text("digest") })
}

fn is_remote(resource: &str) -> bool {
    resource.contains("://") || resource.starts_with("git@") || resource.starts_with("github.com/") || resource.contains("?ref=")
}

impl Replacement {
    /// The images that replace `image`; `None` if the name does not match. kustomize matches the name as written in the manifest, which is
    /// not known any more: if only the full name matches, the image itself is kept too.
    fn replace(&self, image: &Reference) -> Option<Vec<Reference>> {
        let pattern = Regex::new(&format!("^(?:{})(?::[a-zA-Z0-9_.{{}}-]*)?(?:@sha256:[a-f0-9]{{64}})?$", self.name)).ok()?;
        let own: Option<Reference> = self.name.parse().ok();
        let full = image.to_string();
        let version_of_image = full.strip_prefix(&format!("{}/{}", image.registry(), image.repository())).unwrap_or_default();
        let (as_written, in_full) = (pattern.is_match(&image.familiar()), pattern.is_match(&full));
        if !as_written && !in_full && own.is_none_or(|own| (own.registry(), own.repository()) != (image.registry(), image.repository())) {
            return None;
        }
        let version = match (&self.new_tag, &self.digest) {
            (tag, Some(digest)) => format!("{}@{digest}", tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default()),
            (Some(tag), None) => format!(":{tag}"),
            // without a new version the image keeps its own
            (None, None) => version_of_image.to_owned(),
        };
        let name = self.new_name.clone().unwrap_or_else(|| format!("{}/{}", image.registry(), image.repository()));
        let replaced: Reference = format!("{name}{version}").parse().ok()?;
        Some(if as_written { vec![replaced] } else { vec![replaced, image.clone()] })
    }
}

/// Replaces the images of each file by those that the kustomizations which use it make of them.
///
/// A file that two overlays use has the images of both. Files that no kustomization uses are left alone.
pub fn apply(files: &mut BTreeMap<PathBuf, FoundImages>) {
    let dirs: BTreeMap<PathBuf, (PathBuf, Kustomization)> =
        files.iter().filter_map(|(path, found)| Some((path.parent()?.to_owned(), (path.clone(), found.kustomization.clone()?)))).collect();
    let used = |(dir, (_, kustomization)): (&PathBuf, &(PathBuf, Kustomization))| {
        kustomization
            .resources
            .iter()
            .chain(&kustomization.components)
            .map(|resource| resource_path(dir, &resource.path))
            .collect::<Vec<_>>()
    };
    let inner: BTreeSet<PathBuf> = dirs.iter().flat_map(used).filter(|path| dirs.contains_key(path)).collect();
    report_missing(&dirs, files);
    let mut built: BTreeMap<PathBuf, Vec<FoundImage>> = BTreeMap::new();
    for dir in dirs.keys().filter(|dir| !inner.contains(*dir)) {
        for (path, entry) in (Build { dirs: &dirs, files }).dir(dir, 0) {
            let all = built.entry(path).or_default();
            if !all.contains(&entry) {
                all.push(entry);
            }
        }
    }
    for (path, images) in built {
        files.entry(path).or_default().images = images;
    }
}

/// Reports resources that do not exist: kustomize fails without them.
fn report_missing(dirs: &BTreeMap<PathBuf, (PathBuf, Kustomization)>, files: &mut BTreeMap<PathBuf, FoundImages>) {
    for (dir, (file, kustomization)) in dirs {
        for resource in kustomization.resources.iter().chain(&kustomization.components).filter(|resource| !is_remote(&resource.path)) {
            let path = resource_path(dir, &resource.path);
            if !files.contains_key(&path) && !dirs.contains_key(&path) {
                let why = "no such file or kustomization in the image: copy it there, or remove it from the kustomization".to_owned();
                let undecided = UndecidedText { text: resource.path.clone(), line: resource.line, why };
                files.entry(file.clone()).or_default().undecided.push(undecided);
            }
        }
    }
}

struct Build<'a> {
    dirs: &'a BTreeMap<PathBuf, (PathBuf, Kustomization)>,
    files: &'a BTreeMap<PathBuf, FoundImages>,
}

impl Build<'_> {
    /// The images of what the kustomization in a directory builds, each with the file that names it.
    fn dir(&self, dir: &Path, depth: usize) -> Vec<(PathBuf, FoundImage)> {
        let Some((file, kustomization)) = self.dirs.get(dir).filter(|_| depth < MAX_DEPTH) else { return Vec::new() };
        let mut all = self.file(file);
        for path in kustomization.resources.iter().map(|resource| resource_path(dir, &resource.path)) {
            match self.files.contains_key(&path) {
                true => all.extend(self.file(&path)),
                false => all.extend(self.dir(&path, depth + 1)),
            }
        }
        for path in kustomization.components.iter().map(|resource| resource_path(dir, &resource.path)) {
            all.extend(self.dir(&path, depth + 1));
            if let Some((_, component)) = self.dirs.get(&path) {
                all = replaced(all, &component.images);
            }
        }
        replaced(all, &kustomization.images)
    }

    fn file(&self, path: &Path) -> Vec<(PathBuf, FoundImage)> {
        self.files.get(path).into_iter().flat_map(|found| &found.images).map(|entry| (path.to_owned(), entry.clone())).collect()
    }
}

/// The images after `images:`. The replacements apply one after the other, each to the result of the one before.
fn replaced(mut all: Vec<(PathBuf, FoundImage)>, images: &[Replacement]) -> Vec<(PathBuf, FoundImage)> {
    for replacement in images {
        let replace = |(path, entry): (PathBuf, FoundImage)| match replacement.replace(&entry.image).filter(|_| entry.in_container) {
            Some(names) => names.into_iter().map(|image| (path.clone(), FoundImage { image, ..entry.clone() })).collect(),
            None => vec![(path, entry)],
        };
        all = all.into_iter().flat_map(replace).collect();
    }
    all
}

/// The path of a resource that is named relative to the directory of its kustomization.
fn resource_path(dir: &Path, resource: &str) -> PathBuf {
    let mut path = dir.to_owned();
    for component in Path::new(resource).components() {
        match component {
            Component::ParentDir => drop(path.pop()),
            Component::Normal(name) => path.push(name),
            _ => {}
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(files: &[(&str, &str)]) -> Vec<String> {
        let is_kustomization = |path: &Path| FILE_NAMES.iter().any(|name| path.file_name() == Some(name.as_ref()));
        let find = |(path, text): &(&str, &str)| {
            let path = PathBuf::from(path);
            let found = if is_kustomization(&path) { read(text) } else { find_in_manifests(text, false) };
            (path, found)
        };
        let mut found: BTreeMap<PathBuf, FoundImages> = files.iter().map(find).collect();
        apply(&mut found);
        found
            .iter()
            .flat_map(|(path, found)| found.images.iter().map(move |entry| format!("{} {}", path.display(), entry.image.familiar())))
            .collect()
    }

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn images_are_replaced_as_kustomize_replaces_them() {
        let digest = format!("images: [{{name: nginx, digest: \"{DIGEST}\"}}]\n");
        for (name, images_of, expected) in [
            ("nothing", "", "a.yaml nginx:1"),
            ("tag", "images:\n- name: nginx\n  newTag: \"2.1\"\n", "a.yaml nginx:2.1"),
            ("name", "images:\n- name: nginx\n  newName: quay.io/a/nginx\n", "a.yaml quay.io/a/nginx:1"),
            (
                "both",
                "images:\n- name: docker.io/library/nginx\n  newName: localhost:5000/x\n  newTag: v3\n",
                "a.yaml localhost:5000/x:v3, a.yaml nginx:1",
            ),
            ("digest", &digest, &format!("a.yaml nginx@{DIGEST}")),
            ("pattern", "images:\n- name: ngin.\n  newTag: \"5\"\n", "a.yaml nginx:5"),
            ("chain", "images:\n- {name: nginx, newName: apache}\n- {name: apache, newTag: \"9\"}\n", "a.yaml apache:9"),
            ("another", "images:\n- name: redis\n  newTag: \"2\"\n", "a.yaml nginx:1"),
        ] {
            let text = format!("resources:\n- a.yaml\n{images_of}");
            assert_eq!(
                images(&[("a.yaml", "containers:\n- image: nginx:1\n"), ("kustomization.yaml", &text)]).join(", "),
                expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_pattern_matches_a_tag_before_a_digest() {
        let manifest = format!("containers:\n- image: app:1@{DIGEST}\n");
        let text = "resources:\n- a.yaml\nimages:\n- {name: ap., newName: mine, newTag: \"2\"}\n";
        assert_eq!(images(&[("a.yaml", &manifest), ("kustomization.yaml", text)]), ["a.yaml mine:2"]);
    }

    #[test]
    fn overlays_apply_to_bases() {
        let entry = images(&[
            ("web/base/kustomization.yaml", "resources: [d.yaml]\nimages: [{name: nginx, newName: mine}]\n"),
            ("web/base/d.yaml", "containers: [{image: 'nginx:1'}]\n"),
            ("web/one/kustomization.yml", "resources: [../base, ./more.yaml]\nimages: [{name: mine, newTag: one}]\n"),
            ("web/one/more.yaml", "image: redis:1\n"),
            ("web/two/Kustomization", "bases: [../base]\npatches: [{path: p.yaml}]\n"),
            ("web/two/p.yaml", "image: patched:1\n"),
            ("web/alone.yaml", "image: alone:1\n"),
        ]);
        let expected = [
            "web/alone.yaml alone:1",
            "web/base/d.yaml mine:one",
            "web/base/d.yaml mine:1",
            "web/one/more.yaml redis:1",
            "web/two/p.yaml patched:1",
        ];
        assert_eq!(entry, expected);
    }

    #[test]
    fn patches_name_images_wherever_they_stand() {
        let entry = images(&[
            ("d.yaml", "containers: [{image: 'nginx:1'}]\n"),
            ("j.yaml", "- {op: replace, path: /spec/containers/0/image, value: 'file:1'}\n"),
            (
                "kustomization.yaml",
                "resources: [d.yaml]\npatchesJson6902: [{path: j.yaml}]\npatches:\n- patch: |-\n    kind: Pod\n    spec: {containers: [{image: 'inline:1'}]}\n- patch: '[{op: add, path: /spec/containers/0/image, value: \"json:1\"}]'\nimages: [{name: inline, newTag: two}]\n",
            ),
        ]);
        assert_eq!(entry, ["d.yaml nginx:1", "j.yaml file:1", "kustomization.yaml inline:two", "kustomization.yaml json:1"]);
    }

    #[test]
    fn components_change_all_and_custom_resources_stay() {
        let entry = images(&[
            ("d.yaml", "containers: [{image: 'nginx:1'}]\nspec: {image: 'nginx:1'}\n"),
            ("kustomization.yaml", "resources: [d.yaml]\ncomponents: [c]\n"),
            ("c/kustomization.yaml", "kind: Component\nimages: [{name: nginx, newTag: c}]\n"),
        ]);
        assert_eq!(entry, ["d.yaml nginx:c", "d.yaml nginx:1"]);
    }

    #[test]
    fn fields_that_are_not_followed_are_reported() {
        let text =
            "resources: [r.yaml]\nconfigurations: [c.yaml]\nopenapi: {path: s.json}\nvars:\n- name: V\nimages: [{name: a, newTag: '2'}]\n";
        let reported: Vec<_> = read(text).undecided.into_iter().map(|text| (text.line, text.text)).collect();
        let expected = [(2, "c.yaml"), (3, "s.json"), (5, "V")];
        assert_eq!(reported, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn remote_resources_are_reported_and_cycles_end() {
        let found = read("resources:\n- https://example.com/x?ref=1\n- a.yaml\nhelmCharts:\n- name: web\n");
        let reported: Vec<_> = found.undecided.iter().map(|text| (text.line, text.text.as_str())).collect();
        assert_eq!(reported, [(2, "https://example.com/x?ref=1"), (5, "web")]);
        images(&[
            ("a/kustomization.yaml", "resources: [../b, .]\n"),
            ("b/kustomization.yaml", "resources: [../a]\n"),
            ("k/kustomization.yaml", "resources: [.]\n"),
        ]);
    }
}
