//! Kustomizations: which files each one brings together, and which images it puts in the place of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::image_finder::{Finds, Found, Undecided, in_manifests};
use super::yaml::{Node, Value, parse};
use crate::image::Reference;

/// What a `kustomization.yaml` says of images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kustomization {
    /// Files and directories that it takes in: resources, bases, patches.
    resources: Vec<Resource>,
    /// Components: what they make of images, they make of all resources.
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
    /// A pattern, as kustomize takes it for one.
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
    digest: Option<String>,
}

/// The names under which `kustomize` looks for one.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Overlays on overlays are followed this deep.
const DEEPEST: usize = 32;

/// What is not followed, and what to do about it.
const NOT_FOLLOWED: [(&str, &str); 6] = [
    ("helmCharts", "a chart in a kustomization is not rendered: make it an APP"),
    ("helmChartInflationGenerator", "a chart in a kustomization is not rendered: make it an APP"),
    ("generators", "what a generator makes is not followed: list its images with IMAGES"),
    ("transformers", "what a transformer makes of images is not followed: list them with IMAGES"),
    ("replacements", "what replacements make of images is not followed: list them with IMAGES"),
    ("vars", "what variables make of images is not followed: list them with IMAGES"),
];

/// Reads a `kustomization.yaml`. Images of patches that stand in it are its own.
pub fn read(text: &str) -> Finds {
    let (documents, error) = parse(text);
    let mut finds = Finds::default();
    if let Some((line, message)) = error {
        finds.undecided.push(Undecided { text: message, line, why: "not YAML".to_owned() });
    }
    let mut kustomization = Kustomization::default();
    for document in &documents {
        kustomization.resources.extend(["resources", "bases", "crds"].iter().flat_map(|key| list(document, key)).filter_map(resource));
        kustomization.components.extend(list(document, "components").filter_map(resource));
        patches(document, &mut kustomization, &mut finds);
        kustomization.images.extend(list(document, "images").filter_map(replacement));
        let remote = ["resources", "bases", "components"].iter().flat_map(|key| list(document, key));
        let remote = remote.filter(|node| node.text().is_some_and(is_remote));
        finds.undecided.extend(remote.map(|node| undecided(node, "a resource from elsewhere is not looked into: bring it along")));
        for (key, why) in NOT_FOLLOWED {
            finds.undecided.extend(list(document, key).map(|node| undecided(node, why)));
        }
        let suffixed = list(document, "images").filter(|node| node.get("tagSuffix").is_some());
        finds.undecided.extend(suffixed.map(|node| undecided(node, "versions of kustomize differ in `tagSuffix`: write `newTag`")));
    }
    finds.kustomization = Some(kustomization);
    finds
}

/// Patches: files, and texts that stand in the kustomization itself.
fn patches(document: &Node, kustomization: &mut Kustomization, finds: &mut Finds) {
    let merges = list(document, "patchesStrategicMerge");
    let others = list(document, "patches").chain(list(document, "patchesJson6902"));
    let others = others.flat_map(|node| [node.get("path"), node.get("patch")]).flatten();
    for node in merges.chain(others) {
        match node.text() {
            Some(text) if text.trim().contains(['\n', '{', '[']) => {
                let inner = in_manifests(text, false);
                finds.images.extend(inner.images.into_iter().map(|found| Found { line: found.line + node.line - 1, ..found }));
                finds.undecided.extend(inner.undecided.into_iter().map(|one| Undecided { line: one.line + node.line - 1, ..one }));
            }
            _ => kustomization.resources.extend(resource(node)),
        }
    }
}

fn resource(node: &Node) -> Option<Resource> {
    node.text().map(|path| Resource { path: path.to_owned(), line: node.line })
}

fn undecided(node: &Node, why: &str) -> Undecided {
    let text = node.text().or_else(|| node.get("name")?.text()).unwrap_or_default();
    Undecided { text: text.to_owned(), line: node.line, why: why.to_owned() }
}

fn list<'a>(document: &'a Node, key: &str) -> impl Iterator<Item = &'a Node> {
    match document.get(key).map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes.as_slice(),
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
    /// What is in the place of `image`, if this is about it. The name is a pattern for the image as it is written; where it fits only
    /// the full name, which may not be written so, the image itself stays too.
    fn replace(&self, image: &Reference) -> Option<Vec<Reference>> {
        let pattern = Regex::new(&format!("^(?:{})(?:@sha256:[a-f0-9]{{64}})?(?::[a-zA-Z0-9_.{{}}-]*)?$", self.name)).ok()?;
        let own: Option<Reference> = self.name.parse().ok();
        let full = image.to_string();
        let bare = full.strip_prefix(&format!("{}/{}", image.registry(), image.repository())).unwrap_or_default();
        let (as_written, in_full) = (pattern.is_match(&image.familiar()), pattern.is_match(&full));
        if !as_written && !in_full && own.is_none_or(|own| (own.registry(), own.repository()) != (image.registry(), image.repository())) {
            return None;
        }
        let version = match (&self.new_tag, &self.digest) {
            (tag, Some(digest)) => format!("{}@{digest}", tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default()),
            (Some(tag), None) => format!(":{tag}"),
            // without a new version it keeps its own
            (None, None) => bare.to_owned(),
        };
        let name = self.new_name.clone().unwrap_or_else(|| format!("{}/{}", image.registry(), image.repository()));
        let replaced: Reference = format!("{name}{version}").parse().ok()?;
        Some(if as_written { vec![replaced] } else { vec![replaced, image.clone()] })
    }
}

/// Gives the files that kustomizations bring together the images that they have then.
///
/// A file that two overlays use has the images of both. Files that no kustomization uses stay as they are.
pub fn apply(files: &mut BTreeMap<PathBuf, Finds>) {
    let dirs: BTreeMap<PathBuf, (PathBuf, Kustomization)> =
        files.iter().filter_map(|(path, finds)| Some((path.parent()?.to_owned(), (path.clone(), finds.kustomization.clone()?)))).collect();
    let named = |(dir, (_, one)): (&PathBuf, &(PathBuf, Kustomization))| {
        one.resources.iter().chain(&one.components).map(|resource| beside(dir, &resource.path)).collect::<Vec<_>>()
    };
    let inner: BTreeSet<PathBuf> = dirs.iter().flat_map(named).filter(|path| dirs.contains_key(path)).collect();
    missing(&dirs, files);
    let mut made: BTreeMap<PathBuf, Vec<Found>> = BTreeMap::new();
    for dir in dirs.keys().filter(|dir| !inner.contains(*dir)) {
        for (path, found) in (Build { dirs: &dirs, files }).dir(dir, 0) {
            let all = made.entry(path).or_default();
            if !all.contains(&found) {
                all.push(found);
            }
        }
    }
    for (path, images) in made {
        files.entry(path).or_default().images = images;
    }
}

/// Tells the resources that are not there, without which no kustomization is built.
fn missing(dirs: &BTreeMap<PathBuf, (PathBuf, Kustomization)>, files: &mut BTreeMap<PathBuf, Finds>) {
    for (dir, (file, kustomization)) in dirs {
        for resource in kustomization.resources.iter().chain(&kustomization.components).filter(|one| !is_remote(&one.path)) {
            let path = beside(dir, &resource.path);
            if !files.contains_key(&path) && !dirs.contains_key(&path) {
                let why = "no such file or kustomization in the image".to_owned();
                let undecided = Undecided { text: resource.path.clone(), line: resource.line, why };
                files.entry(file.clone()).or_default().undecided.push(undecided);
            }
        }
    }
}

struct Build<'a> {
    dirs: &'a BTreeMap<PathBuf, (PathBuf, Kustomization)>,
    files: &'a BTreeMap<PathBuf, Finds>,
}

impl Build<'_> {
    /// The images of what the kustomization in a directory gives, each with the file that has it.
    fn dir(&self, dir: &Path, depth: usize) -> Vec<(PathBuf, Found)> {
        let Some((file, kustomization)) = self.dirs.get(dir).filter(|_| depth < DEEPEST) else { return Vec::new() };
        let mut all = self.file(file);
        for path in kustomization.resources.iter().map(|resource| beside(dir, &resource.path)) {
            match self.files.contains_key(&path) {
                true => all.extend(self.file(&path)),
                false => all.extend(self.dir(&path, depth + 1)),
            }
        }
        for path in kustomization.components.iter().map(|resource| beside(dir, &resource.path)) {
            all.extend(self.dir(&path, depth + 1));
            if let Some((_, component)) = self.dirs.get(&path) {
                all = replaced(all, &component.images);
            }
        }
        replaced(all, &kustomization.images)
    }

    fn file(&self, path: &Path) -> Vec<(PathBuf, Found)> {
        self.files.get(path).into_iter().flat_map(|finds| &finds.images).map(|found| (path.to_owned(), found.clone())).collect()
    }
}

/// The images after `images:`; the last one that is about an image counts, as each sees what the one before made of it.
fn replaced(mut all: Vec<(PathBuf, Found)>, images: &[Replacement]) -> Vec<(PathBuf, Found)> {
    for replacement in images {
        let one = |(path, found): (PathBuf, Found)| match replacement.replace(&found.image).filter(|_| found.in_container) {
            Some(names) => names.into_iter().map(|image| (path.clone(), Found { image, ..found.clone() })).collect(),
            None => vec![(path, found)],
        };
        all = all.into_iter().flat_map(one).collect();
    }
    all
}

/// The path of a resource, relative to the directory of its kustomization.
fn beside(dir: &Path, resource: &str) -> PathBuf {
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
            let finds = if is_kustomization(&path) { read(text) } else { in_manifests(text, false) };
            (path, finds)
        };
        let mut finds: BTreeMap<PathBuf, Finds> = files.iter().map(find).collect();
        apply(&mut finds);
        finds
            .iter()
            .flat_map(|(path, finds)| finds.images.iter().map(move |found| format!("{} {}", path.display(), found.image.familiar())))
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
    fn overlays_lie_over_bases() {
        let found = images(&[
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
        assert_eq!(found, expected);
    }

    #[test]
    fn patches_name_images_wherever_they_stand() {
        let found = images(&[
            ("d.yaml", "containers: [{image: 'nginx:1'}]\n"),
            ("j.yaml", "- {op: replace, path: /spec/containers/0/image, value: 'file:1'}\n"),
            (
                "kustomization.yaml",
                "resources: [d.yaml]\npatchesJson6902: [{path: j.yaml}]\npatches:\n- patch: |-\n    kind: Pod\n    spec: {containers: [{image: 'inline:1'}]}\n- patch: '[{op: add, path: /spec/containers/0/image, value: \"json:1\"}]'\nimages: [{name: inline, newTag: two}]\n",
            ),
        ]);
        assert_eq!(found, ["d.yaml nginx:1", "j.yaml file:1", "kustomization.yaml inline:two", "kustomization.yaml json:1"]);
    }

    #[test]
    fn components_change_all_and_custom_resources_stay() {
        let found = images(&[
            ("d.yaml", "containers: [{image: 'nginx:1'}]\nspec: {image: 'nginx:1'}\n"),
            ("kustomization.yaml", "resources: [d.yaml]\ncomponents: [c]\n"),
            ("c/kustomization.yaml", "kind: Component\nimages: [{name: nginx, newTag: c}]\n"),
        ]);
        assert_eq!(found, ["d.yaml nginx:c", "d.yaml nginx:1"]);
    }

    #[test]
    fn what_lies_elsewhere_is_told_and_rings_end() {
        let finds = read("resources:\n- https://example.com/x?ref=1\n- a.yaml\nhelmCharts:\n- name: web\n");
        let told: Vec<_> = finds.undecided.iter().map(|one| (one.line, one.text.as_str())).collect();
        assert_eq!(told, [(2, "https://example.com/x?ref=1"), (5, "web")]);
        images(&[
            ("a/kustomization.yaml", "resources: [../b, .]\n"),
            ("b/kustomization.yaml", "resources: [../a]\n"),
            ("k/kustomization.yaml", "resources: [.]\n"),
        ]);
    }
}
