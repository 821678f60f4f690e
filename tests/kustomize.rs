//! The images of kustomizations, held to what `kubectl kustomize` makes of them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use common::building::{context, write};
use common::{kubefiles, run};
use sealift::image::Reference;

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      initContainers: [{name: i, image: busybox}]
      containers: [{name: c, image: 'nginx:1'}, {name: s, image: 'quay.io/a/side:3'}]
";

const PATCH: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec: {template: {spec: {containers: [{name: c, image: 'patched:2'}, {name: new, image: 'new:1'}]}}}
";

/// The images in manifests.
fn images(manifests: &str) -> BTreeSet<Reference> {
    let values = manifests.lines().filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("image: "));
    values.map(|value| value.trim_matches(['"', '\'']).parse().unwrap()).collect()
}

#[test]
fn images_are_those_that_kubectl_makes() {
    let kubectl = kubefiles::kubernetes().join("kubectl");
    // what is patched stays among the images that are brought: only there more may be found than is made
    for (name, exact, kustomization) in [
        ("nothing", true, ""),
        (
            "tags",
            true,
            "images: [{name: nginx, newTag: '2'}, {name: busybox, newName: b, newTag: '3'}, {name: quay.io/a/side, newTag: v9}]\n",
        ),
        ("names", true, "images: [{name: quay.io/a/side, newName: x/y}]\n"),
        ("digest", true, "images: [{name: nginx, digest: 'sha256:aa7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'}]\n"),
        ("pattern", true, "images: [{name: 'ngin.', newTag: '5'}]\n"),
        ("full name", false, "images: [{name: docker.io/library/nginx, newTag: '2'}]\n"),
        ("decorations", true, "namePrefix: a-\nnameSuffix: -b\ncommonLabels: {q: r}\nimages: [{name: nginx, newTag: '2'}]\n"),
        ("generated", true, "configMapGenerator: [{name: c, files: [patch.yaml]}]\nimages: [{name: nginx, newTag: '2'}]\n"),
        ("merged", false, "patchesStrategicMerge: [patch.yaml]\nimages: [{name: patched, newTag: '8'}]\n"),
        ("json", false, "patchesJson6902:\n- target: {group: apps, version: v1, kind: Deployment, name: d}\n  path: json.yaml\n"),
        ("custom resource", true, "resources: [base/d.yaml, custom.yaml]\nimages: [{name: nginx, newTag: '2'}]\n"),
    ] {
        let (sealift, dir) = context(&[
            ("Kubefile", "FROM scratch\nCOPY app manifests/app\n"),
            ("app/base/d.yaml", DEPLOYMENT),
            ("app/base/kustomization.yaml", "resources: [d.yaml]\n"),
        ]);
        let app = Path::new(&dir).join("app");
        let base = if kustomization.starts_with("resources") { "" } else { "bases: [base]\n" };
        if base.is_empty() {
            write(&app.join("custom.yaml"), "apiVersion: x/v1\nkind: Prometheus\nmetadata: {name: p}\nspec: {image: 'nginx:1'}\n");
            std::fs::remove_file(app.join("base/kustomization.yaml")).unwrap();
        }
        if kustomization.contains("patch.yaml") && !exact {
            write(&app.join("patch.yaml"), PATCH);
        } else if kustomization.contains("patch.yaml") {
            write(&app.join("patch.yaml"), "some: text\n");
        }
        if kustomization.contains("json.yaml") {
            write(&app.join("json.yaml"), "- {op: replace, path: /spec/template/spec/containers/0/image, value: 'json:2'}\n");
        }
        write(&app.join("kustomization.yaml"), &format!("{base}{kustomization}"));
        let made = images(&run(kubectl.to_str().unwrap(), &["kustomize", app.to_str().unwrap()]));
        let checked = sealift.json(&["build", "--check", &dir]);
        let wanted = checked["wanted"]["images"].as_object().unwrap().keys();
        let wanted: BTreeSet<Reference> = wanted.map(|name| name.parse().unwrap()).collect();
        assert!(made.is_subset(&wanted), "{name}: {made:?} of {wanted:?}");
        assert!(!exact || made == wanted, "{name}: {made:?}, not {wanted:?}");
    }
}
