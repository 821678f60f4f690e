//! The repositories that the registry serves: images in the store, and container images in the workloads of cluster images.

use std::collections::BTreeMap;

use anyhow::Result;
use oci_spec::image::{Descriptor, ImageIndex, MediaType};

use crate::image::{
    ANNOTATION_PLATFORM, ANNOTATION_REF_NAME, Blob, Content, Digest, Reference, TYPE_WORKLOADS, UNKNOWN_REGISTRY, content_of,
    host_platform, platform_string, referrer, subject_of, unwrap_workload_blob,
};
use crate::store::Store;
use crate::trust::tag_of_signatures;

/// The content of a repository.
#[derive(Debug, Default)]
pub struct Repository {
    /// Its tags.
    pub tags: BTreeMap<String, Descriptor>,
    /// Its referrers, by their subject.
    pub referrers: BTreeMap<Digest, Vec<Descriptor>>,
}

impl Repository {
    /// Adds a tag, unless it exists.
    fn add(&mut self, name: &Reference, descriptor: Descriptor) {
        if let Some(tag) = name.tag() {
            self.tags.entry(tag.to_owned()).or_insert(descriptor);
        }
    }
}

/// All repositories, by registry and name.
#[derive(Debug, Default)]
pub struct Repositories {
    registries: BTreeMap<String, BTreeMap<String, Repository>>,
    /// Container images of images made by Sealer, which does not record registries: they match any registry.
    any_registry: BTreeMap<String, Repository>,
    /// The name of this registry, whose images (those that were pushed) are found first.
    own: Option<String>,
    /// Whether some manifests were missing in the store, so that there may be more images later.
    pub incomplete: bool,
}

/// The result of looking up an image.
#[derive(Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The image.
    Found(&'a Descriptor),
    /// No such image.
    NotFound,
    /// Different images of several registries, by their full names; the request did not say which registry.
    Ambiguous(Vec<String>),
}

impl Repositories {
    /// Reads the repositories of a store; `own` is the name of this registry, whose images are found first.
    pub fn read(store: &Store, own: Option<&str>) -> Result<Repositories> {
        let mut names = Repositories { own: own.map(str::to_owned), ..Repositories::default() };
        let (all, referrers) = (store.all_refs()?, store.referrers_by_subject()?);
        for (name, descriptor) in &all {
            names.add(name, descriptor.clone());
        }
        for (name, descriptor) in &all {
            names.add_referrers_of(name, descriptor, &referrers);
            let Some(content) = names.read_manifest(store, descriptor) else { continue };
            if let Some(subject) = subject_of(&content).unwrap_or_default() {
                names.add_referrer(name, subject, referrer(descriptor, &content));
            }
            if let Content::Index(index) = content {
                index.manifests().iter().for_each(|manifest| names.add_referrers_of(name, manifest, &referrers));
                names.add_workloads(store, &index);
            }
        }
        Ok(names)
    }

    /// Finds the image for a request. `namespace` is the original registry of the image (containerd's `ns`), if the client sends it.
    ///
    /// Without it, the repository may begin with the registry (`quay.io/a/b`); else the name must be unique among all registries.
    pub fn find(&self, namespace: Option<&str>, repository: &str, tag: &str) -> Lookup<'_> {
        let mut found: Vec<(&String, &Descriptor)> = Vec::new();
        for (registry, repository) in self.candidates(namespace, repository) {
            if let Some(descriptor) = repository.tags.get(tag) {
                if namespace.is_some() || self.own.as_ref() == Some(registry) {
                    return Lookup::Found(descriptor);
                }
                found.push((registry, descriptor));
            }
        }
        match found.as_slice() {
            [] => Lookup::NotFound,
            [(_, first), others @ ..] if others.iter().all(|(_, other)| other.digest() == first.digest()) => Lookup::Found(first),
            ambiguous => Lookup::Ambiguous(ambiguous.iter().map(|(registry, _)| format!("{registry}/{repository}:{tag}")).collect()),
        }
    }

    /// The repositories that match a request, that of this registry first.
    pub fn candidates<'a>(&'a self, namespace: Option<&str>, repository: &str) -> Vec<(&'a String, &'a Repository)> {
        if let Some(registry) = namespace {
            let dropped = self.any_registry.get_key_value(repository);
            return self.repository_in(registry, repository).into_iter().chain(dropped).collect();
        }
        let own = self.own.as_deref().and_then(|own| self.repository_in(own, repository));
        let by_path = || repository.split_once('/').and_then(|(registry, repository)| self.repository_in(registry, repository));
        let others = || self.registries.keys().filter(|name| Some(*name) != self.own.as_ref());
        match by_path() {
            Some(named) => own.into_iter().chain([named]).collect(),
            None => own.into_iter().chain(others().filter_map(|registry| self.repository_in(registry, repository))).collect(),
        }
    }

    /// The names of all repositories: with their registry unless it is this one, or has a port, which no name of a repository may have (OCI
    /// distribution specification, "pulling manifests").
    pub fn repositories(&self) -> Vec<String> {
        let of = |(registry, repositories): (&String, &BTreeMap<String, Repository>)| {
            let bare = self.own.as_ref() == Some(registry) || registry.contains([':', '[']);
            let named = |repository: &String| if bare { repository.clone() } else { format!("{registry}/{repository}") };
            repositories.keys().map(named).collect::<Vec<_>>()
        };
        self.registries.iter().flat_map(of).collect()
    }

    /// Finds a repository of a registry; `nginx` on docker.io is `library/nginx`.
    fn repository_in(&self, registry: &str, repository: &str) -> Option<(&String, &Repository)> {
        let hub = matches!(registry, "docker.io" | "registry-1.docker.io" | "index.docker.io");
        let (registry, repositories) = self.registries.get_key_value(if hub { "docker.io" } else { registry })?;
        let short = || (hub && !repository.contains('/')).then(|| repositories.get(&format!("library/{repository}"))).flatten();
        repositories.get(repository).or_else(short).map(|repository| (registry, repository))
    }

    fn add(&mut self, name: &Reference, descriptor: Descriptor) {
        self.repository(name).add(name, descriptor);
    }

    fn add_workload(&mut self, name: &Reference, descriptor: Descriptor) {
        if name.registry() == UNKNOWN_REGISTRY {
            self.any_registry.entry(name.repository().to_owned()).or_default().add(name, descriptor.clone());
        }
        self.add(name, descriptor);
    }

    fn add_referrer(&mut self, name: &Reference, subject: Digest, referrer: Descriptor) {
        let known = self.repository(name).referrers.entry(subject).or_default();
        if known.iter().all(|other| other.digest() != referrer.digest()) {
            known.push(referrer);
        }
    }

    /// Adds what refers to a manifest, and what refers to that in turn. Signatures get cosign's tag, unless another was pushed.
    fn add_referrers_of(&mut self, name: &Reference, subject: &Descriptor, referrers: &BTreeMap<Digest, Vec<Descriptor>>) {
        let Ok(digest) = Digest::try_from(subject.digest()) else { return };
        for referrer in referrers.get(&digest).into_iter().flatten() {
            let is_new = self.repository(name).referrers.get(&digest).is_none_or(|known| !known.contains(referrer));
            self.add_referrer(name, digest, referrer.clone());
            if let Some(tag) = tag_of_signatures(referrer, &digest) {
                self.repository(name).tags.entry(tag).or_insert_with(|| referrer.clone());
            }
            if is_new {
                self.add_referrers_of(name, referrer, referrers);
            }
        }
    }

    fn repository(&mut self, name: &Reference) -> &mut Repository {
        let repositories = self.registries.entry(name.registry().to_owned()).or_default();
        repositories.entry(name.repository().to_owned()).or_default()
    }

    /// Adds the container images of a cluster image, those for this machine's platform first: they win if platforms differ.
    fn add_workloads(&mut self, store: &Store, index: &ImageIndex) {
        let host = platform_string(&host_platform());
        let platform = |entry: &Descriptor| entry.annotations().as_ref().and_then(|all| all.get(ANNOTATION_PLATFORM)).cloned();
        let is_workloads = |entry: &&Descriptor| {
            entry.artifact_type().as_ref().is_some_and(|kind| *kind == MediaType::from(TYPE_WORKLOADS)) || platform(entry).is_some()
        };
        let mut entries: Vec<&Descriptor> = index.manifests().iter().filter(is_workloads).collect();
        entries.sort_by_key(|entry| platform(entry).as_deref() != Some(host.as_str()));
        for entry in entries {
            let Some(Content::Manifest(manifest)) = self.read_manifest(store, entry) else { continue };
            for layer in manifest.layers().iter().map(unwrap_workload_blob) {
                let reference = layer.annotations().as_ref().and_then(|all| all.get(ANNOTATION_REF_NAME));
                if let Some(name) = reference.and_then(|text| text.parse::<Reference>().ok()) {
                    self.add_workload(&name, layer);
                }
            }
        }
    }

    /// A manifest of the store, if it exists and can be read.
    fn read_manifest(&mut self, store: &Store, descriptor: &Descriptor) -> Option<Content> {
        let blob = Blob::try_from(descriptor).ok()?;
        if !store.has(&blob) {
            self.incomplete = true;
            return None;
        }
        let read = store.read(&blob).and_then(|bytes| content_of(descriptor.media_type(), &bytes));
        read.inspect_err(|error| tracing::warn!("{}: {error:#}", descriptor.digest())).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;
    use oci_spec::image::DescriptorBuilder;

    fn names(all: &[(&str, &str)]) -> Repositories {
        let mut names = Repositories::default();
        for (name, content) in all {
            let blob = Blob::of(content.as_bytes());
            let descriptor =
                DescriptorBuilder::default().media_type(MediaType::ImageManifest).digest(blob.digest).size(blob.size).build().unwrap();
            names.add(&name.parse().unwrap(), descriptor);
        }
        names
    }

    #[test]
    fn images_are_found_by_registry_by_path_and_by_a_unique_name() {
        let names = names(&[
            ("docker.io/library/nginx:1", "nginx"),
            ("docker.io/a/b:1", "hub"),
            ("quay.io/a/b:1", "quay"),
            ("quay.io/c/d:1", "same"),
            ("gcr.io/c/d:1", "same"),
            ("sea.hub:5000/team/e:2", "e"),
        ]);
        for (namespace, repository, tag, expected) in [
            (Some("docker.io"), "library/nginx", "1", "nginx"),
            (Some("docker.io"), "nginx", "1", "nginx"),
            (Some("registry-1.docker.io"), "library/nginx", "1", "nginx"),
            (Some("quay.io"), "library/nginx", "1", "-"),
            (Some("quay.io"), "a/b", "1", "quay"),
            (None, "quay.io/a/b", "1", "quay"),
            (None, "docker.io/nginx", "1", "nginx"),
            (None, "sea.hub:5000/team/e", "2", "e"),
            (None, "team/e", "2", "e"),
            (None, "team/e", "3", "-"),
            (None, "nginx", "1", "nginx"),
            (None, "c/d", "1", "same"),
            (None, "a/b", "1", "2 registries"),
            (None, "x", "1", "-"),
        ] {
            let found = match names.find(namespace, repository, tag) {
                Lookup::Found(descriptor) => Digest::try_from(descriptor.digest()).unwrap().to_string(),
                Lookup::NotFound => "-".to_owned(),
                Lookup::Ambiguous(all) => format!("{} registries", all.len()),
            };
            let expected = if expected.contains("registries") || expected == "-" {
                expected.to_owned()
            } else {
                Digest::of(expected.as_bytes()).to_string()
            };
            assert_eq!(found, expected, "{namespace:?} {repository}:{tag}");
        }
        assert_eq!(names.candidates(None, "a/b").len(), 2);
        assert!(names.candidates(Some("quay.io"), "none").is_empty());
        assert_eq!(names.repositories().len(), 6);
    }

    #[test]
    fn pushed_images_are_found_before_those_of_other_registries() {
        let mut names = names(&[("docker.io/a/b:1", "hub"), ("docker.io/a/b:2", "hub"), ("sea.hub:5000/a/b:1", "own")]);
        names.own = Some("sea.hub:5000".to_owned());
        for (namespace, tag, expected) in [(None, "1", "own"), (None, "2", "hub"), (Some("docker.io"), "1", "hub")] {
            let Lookup::Found(found) = names.find(namespace, "a/b", tag) else { panic!("{tag}: not found") };
            assert_eq!(found.digest().to_string(), Digest::of(expected.as_bytes()).to_string(), "{namespace:?} {tag}");
        }
        assert_eq!(names.repositories(), ["docker.io/a/b", "a/b"]);
        let blob = Blob::of(b"elsewhere");
        names.add(&"127.0.0.1:5000/team/c:1".parse().unwrap(), Descriptor::new(MediaType::ImageManifest, blob.size, blob.digest));
        assert_eq!(names.repositories(), ["team/c", "docker.io/a/b", "a/b"], "no name of a repository has a port in it");
        assert_eq!(names.candidates(None, "team/c").len(), 1, "and it is found by that name");
    }

    #[test]
    fn images_without_a_registry_match_any_registry_after_its_own_images() {
        let mut names = names(&[("docker.io/a/b:1", "hub"), ("sea.hub:5000/pushed:1", "own")]);
        for (name, content) in [("sea.hub:5000/a/b:1", "other"), ("sea.hub:5000/pause:3.2", "pause")] {
            let blob = Blob::of(content.as_bytes());
            names.add_workload(&name.parse().unwrap(), Descriptor::new(MediaType::ImageManifest, blob.size, blob.digest));
        }
        for (namespace, repository, tag, expected) in [
            (Some("registry.k8s.io"), "pause", "3.2", Some("pause")),
            (None, "pause", "3.2", Some("pause")),
            (Some("registry.k8s.io"), "pause", "3.3", None),
            (Some("docker.io"), "a/b", "1", Some("hub")),
            (Some("quay.io"), "a/b", "1", Some("other")),
            (Some("quay.io"), "pushed", "1", None),
        ] {
            let found = match names.find(namespace, repository, tag) {
                Lookup::Found(found) => Some(found.digest().to_string()),
                _ => None,
            };
            assert_eq!(found, expected.map(|content| Digest::of(content.as_bytes()).to_string()), "{namespace:?} {repository}:{tag}");
        }
    }
}
