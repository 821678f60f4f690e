//! Kustomizations: which files each one brings together, and which images it puts in the place of others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::find::{Finds, Found, Undecided};
use super::yaml::{Node, Value, parse};
use crate::image::Name;

/// What a `kustomization.yaml` says of images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kustomization {
    /// Files and directories that it takes in: resources, bases, components, patches.
    resources: Vec<String>,
    /// Its `images:`.
    images: Vec<Replacement>,
}

/// One of `images:`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Replacement {
    name: String,
    new_name: Option<String>,
    new_tag: Option<String>,
    digest: Option<String>,
}

/// The names under which `kustomize` looks for one.
pub const FILE_NAMES: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Overlays on overlays are followed this deep.
const DEEPEST: usize = 32;

/// Reads a `kustomization.yaml`.
pub fn read(text: &str) -> Finds {
    let (documents, error) = parse(text);
    let mut finds = Finds::default();
    if let Some((line, message)) = error {
        finds.undecided.push(Undecided { text: message, line, why: "not YAML".to_owned() });
    }
    let mut kustomization = Kustomization::default();
    for document in &documents {
        for key in ["resources", "bases", "components", "patchesStrategicMerge"] {
            kustomization.resources.extend(list(document, key).filter_map(Node::text).map(str::to_owned));
        }
        let patches = list(document, "patches").filter_map(|patch| patch.get("path")?.text());
        kustomization.resources.extend(patches.map(str::to_owned));
        kustomization.images.extend(list(document, "images").filter_map(replacement));
        let remote = list(document, "resources").chain(list(document, "bases")).filter(|node| node.text().is_some_and(is_remote));
        finds.undecided.extend(remote.map(|node| undecided(node, "a resource from elsewhere is not looked into: bring it along")));
        finds
            .undecided
            .extend(list(document, "helmCharts").map(|node| undecided(node, "a chart in a kustomization is not rendered: make it an APP")));
    }
    finds.kustomization = Some(kustomization);
    finds
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
    /// The image in the place of `image`, if this is about it.
    fn replace(&self, image: &Name) -> Option<Name> {
        let own: Name = self.name.parse().ok()?;
        if (own.registry(), own.repository()) != (image.registry(), image.repository()) {
            return None;
        }
        let version = match (&self.new_tag, &self.digest) {
            (tag, Some(digest)) => format!("{}@{digest}", tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default()),
            (Some(tag), None) => format!(":{tag}"),
            // without a new version it keeps its own
            (None, None) => {
                let full = image.to_string();
                full.strip_prefix(&format!("{}/{}", image.registry(), image.repository())).unwrap_or_default().to_owned()
            }
        };
        format!("{}{version}", self.new_name.as_ref().unwrap_or(&self.name)).parse().ok()
    }
}

/// Gives the files that kustomizations bring together the images that they have then.
///
/// A file that two overlays use has the images of both. Files that no kustomization uses stay as they are.
pub fn apply(files: &mut BTreeMap<PathBuf, Finds>) {
    let dirs: BTreeMap<PathBuf, Kustomization> =
        files.iter().filter_map(|(path, finds)| Some((path.parent()?.to_owned(), finds.kustomization.clone()?))).collect();
    let inner: BTreeSet<PathBuf> = dirs
        .iter()
        .flat_map(|(dir, one)| one.resources.iter().map(|resource| beside(dir, resource)))
        .filter(|path| dirs.contains_key(path))
        .collect();
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

struct Build<'a> {
    dirs: &'a BTreeMap<PathBuf, Kustomization>,
    files: &'a BTreeMap<PathBuf, Finds>,
}

impl Build<'_> {
    /// The images of what the kustomization in a directory gives, each with the file that has it.
    fn dir(&self, dir: &Path, depth: usize) -> Vec<(PathBuf, Found)> {
        let Some(kustomization) = self.dirs.get(dir).filter(|_| depth < DEEPEST) else { return Vec::new() };
        let mut all = Vec::new();
        for path in kustomization.resources.iter().map(|resource| beside(dir, resource)) {
            match self.files.get(&path) {
                Some(finds) => all.extend(finds.images.iter().map(|found| (path.clone(), found.clone()))),
                None => all.extend(self.dir(&path, depth + 1)),
            }
        }
        for (_, found) in &mut all {
            // the last one that is about an image counts, as each sees what the one before made of it
            for replacement in &kustomization.images {
                found.image = replacement.replace(&found.image).unwrap_or_else(|| found.image.clone());
            }
        }
        all
    }
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
    use crate::workloads::in_manifests;

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
            ("both", "images:\n- name: docker.io/library/nginx\n  newName: localhost:5000/x\n  newTag: v3\n", "a.yaml localhost:5000/x:v3"),
            ("digest", &digest, &format!("a.yaml nginx@{DIGEST}")),
            ("another", "images:\n- name: redis\n  newTag: \"2\"\n", "a.yaml nginx:1"),
        ] {
            let text = format!("resources:\n- a.yaml\n{images_of}");
            assert_eq!(images(&[("a.yaml", "spec:\n  image: nginx:1\n"), ("kustomization.yaml", &text)]), [expected], "{name}");
        }
    }

    #[test]
    fn overlays_lie_over_bases() {
        let found = images(&[
            ("web/base/kustomization.yaml", "resources: [d.yaml]\nimages: [{name: nginx, newName: mine}]\n"),
            ("web/base/d.yaml", "image: nginx:1\n"),
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
