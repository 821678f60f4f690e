//! Sorts rendered manifests into install order, and separates hooks. After Helm's `releaseutil`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;

use super::yaml;
use crate::template::Value;

/// A Kubernetes object of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The path of its template, starting with the chart's name.
    pub source: String,
    /// `kind`; empty where there is none.
    pub kind: String,
    /// `metadata.name`; empty where there is none.
    pub name: String,
    /// The YAML document.
    pub text: String,
}

/// A hook: an object that is installed at an event of the release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The object.
    pub manifest: Manifest,
    /// Its events: `pre-install`, `test`, …
    pub events: Vec<String>,
    /// `helm.sh/hook-weight`; lower weights run first.
    pub weight: i64,
}

/// Kinds in install order; others follow by name.
const INSTALL_ORDER: [&str; 36] = [
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
];

const HOOK_EVENTS: [&str; 10] = [
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

static DOCUMENT_SEPARATOR: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?:^|\s*\n)---\s*").expect("the pattern is constant and valid"));

/// Splits rendered files into manifests and hooks, each in install order.
///
/// # Errors
/// Fails with Helm's message where a template does not render to YAML.
pub fn sort_manifests(rendered: &BTreeMap<String, String>) -> Result<(Vec<Manifest>, Vec<Hook>), String> {
    let (mut manifests, mut hooks) = (Vec::new(), Vec::new());
    for (source, text) in rendered.iter().filter(|(source, _)| !source.ends_with("NOTES.txt")) {
        for document in DOCUMENT_SEPARATOR.split(text.trim()).map(str::trim).filter(|document| !document.is_empty()) {
            let object = yaml::read(document).and_then(head).map_err(|message| format!("YAML parse error on {source}: {message}"))?;
            let manifest = Manifest {
                source: source.clone(),
                kind: text_of(&object.get("kind")),
                name: text_of(&object.at("metadata.name")),
                text: document.to_owned(),
            };
            let annotations = object.at("metadata.annotations");
            match annotations.get("helm.sh/hook") {
                Value::Text(events) => hooks.extend(hook(manifest, &events, &annotations)),
                _ => manifests.push(manifest),
            }
        }
    }
    manifests.sort_by_key(|manifest| install_rank(&manifest.kind));
    hooks.sort_by_key(|hook| install_rank(&hook.manifest.kind));
    Ok((manifests, hooks))
}

/// The object of a document; nothing else has a kind and a name.
fn head(document: Value) -> Result<Value, String> {
    let found = match &document {
        Value::Map(_) | Value::Nil | Value::Absent => return Ok(document),
        Value::List(_) => "array",
        Value::Text(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    };
    Err(format!(
        "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {found} into Go value of type releaseutil.SimpleHead"
    ))
}

fn text_of(value: &Value) -> String {
    if value.is_nil() { String::new() } else { crate::template::display(value) }
}

/// A hook; `None` where an event is unknown, as Helm never runs it.
fn hook(manifest: Manifest, events: &str, annotations: &Value) -> Option<Hook> {
    let events: Vec<String> = events.split(',').map(|event| event.trim().to_lowercase()).collect();
    if !events.iter().all(|event| HOOK_EVENTS.contains(&event.as_str())) {
        return None;
    }
    let events = events.into_iter().map(|event| if event == "test-success" { "test".to_owned() } else { event }).collect();
    let weight = annotations.get("helm.sh/hook-weight").as_text().and_then(|weight| weight.parse().ok()).unwrap_or(0);
    Some(Hook { manifest, events, weight })
}

fn install_rank(kind: &str) -> (usize, String) {
    match INSTALL_ORDER.iter().position(|known| *known == kind) {
        Some(at) => (at, String::new()),
        None => (INSTALL_ORDER.len(), kind.to_owned()),
    }
}
