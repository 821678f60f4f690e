//! Rendered files to manifests in the order they are installed, hooks apart. After Helm's `releaseutil`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::yaml;
use crate::template::Value;

/// One object that a chart makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The template it came from, with the path of its chart.
    pub source: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// The document.
    pub text: String,
}

/// An object that is made at a point of the release's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The object.
    pub manifest: Manifest,
    /// When: `pre-install`, `test`, …
    pub events: Vec<String>,
    /// Lower ones come first.
    pub weight: i64,
}

/// Kinds in the order they are installed; others come after, by name.
const KINDS: [&str; 38] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

const EVENTS: [&str; 10] = [
    "pre-install",
    "post-install",
    "pre-delete",
    "post-delete",
    "pre-upgrade",
    "post-upgrade",
    "pre-rollback",
    "post-rollback",
    "test",
    "test-success",
];

static BETWEEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:^|\s*\n)---\s*").expect("the pattern is constant and valid"));

/// Sorts rendered files into manifests and hooks.
///
/// # Errors
/// Fails with the template whose text is no YAML.
pub fn sort(rendered: &BTreeMap<String, String>) -> Result<(Vec<Manifest>, Vec<Hook>), String> {
    let (mut manifests, mut hooks) = (Vec::new(), Vec::new());
    for (source, text) in rendered.iter().filter(|(source, _)| !source.ends_with("NOTES.txt")) {
        for document in BETWEEN.split(text.trim()).map(str::trim).filter(|document| !document.is_empty()) {
            let head = yaml::read(document).map_err(|message| format!("YAML parse error on {source}: {message}"))?;
            let manifest = Manifest {
                source: source.clone(),
                kind: text_of(&head.get("kind")),
                name: text_of(&head.at("metadata.name")),
                text: document.to_owned(),
            };
            let annotations = head.at("metadata.annotations");
            match annotations.get("helm.sh/hook") {
                Value::Text(events) => hooks.extend(hook(manifest, &events, &annotations)),
                _ => manifests.push(manifest),
            }
        }
    }
    manifests.sort_by_key(|manifest| rank(&manifest.kind));
    hooks.sort_by_key(|hook| rank(&hook.manifest.kind));
    Ok((manifests, hooks))
}

fn text_of(value: &Value) -> String {
    if value.is_nil() { String::new() } else { crate::template::display(value) }
}

/// A hook of known events; one of an unknown event is never run.
fn hook(manifest: Manifest, events: &str, annotations: &Value) -> Option<Hook> {
    let events: Vec<String> = events.split(',').map(|event| event.trim().to_lowercase()).collect();
    if !events.iter().all(|event| EVENTS.contains(&event.as_str())) {
        return None;
    }
    let events = events.into_iter().map(|event| if event == "test-success" { "test".to_owned() } else { event }).collect();
    let weight = annotations.get("helm.sh/hook-weight").as_text().and_then(|weight| weight.parse().ok()).unwrap_or(0);
    Some(Hook { manifest, events, weight })
}

fn rank(kind: &str) -> (usize, String) {
    match KINDS.iter().position(|known| *known == kind) {
        Some(at) => (at, String::new()),
        None => (KINDS.len(), kind.to_owned()),
    }
}
