//! An application made of Kubernetes manifests, applied by `kubectl apply` on a control plane node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kube_health::{findings_or_error, pods_not_ready, wait_until_healthy};
use super::{Reconcile, Snapshot, State, System, kubectl};
use crate::error::Failure;

/// Manifests that are applied to a cluster and whose workloads must become ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeApp {
    /// The application's name.
    pub name: String,
    /// The directory of its files, absolute on the host.
    pub directory: PathBuf,
    /// Its manifests, relative to the directory, in the order they are applied.
    pub files: Vec<PathBuf>,
    /// How long its workloads may take to become ready, in seconds.
    #[serde(rename = "patience")]
    pub timeout_seconds: u64,
    /// Whether to wait for its workloads. Those of a network plugin cannot run before the nodes have joined.
    pub wait: bool,
}

impl KubeApp {
    fn arguments<'a>(&'a self, system: &System, verb: &[&'a str]) -> Vec<String> {
        let files = self.files.iter().flat_map(|file| ["-f".to_owned(), system.path(self.directory.join(file)).display().to_string()]);
        verb.iter().map(|word| (*word).to_owned()).chain(files).collect()
    }

    fn kubectl(&self, system: &System, verb: &[&str]) -> Result<std::process::Output> {
        let arguments = self.arguments(system, verb);
        kubectl::run(system, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Which of its workloads are not ready, and why.
    fn findings(&self, system: &System) -> Result<Vec<String>> {
        let output = self.kubectl(system, &["get", "-o", "json"])?;
        if !output.status.success() {
            return Ok(vec![kubectl::last_stderr_lines(&output)]);
        }
        let list: Value = serde_json::from_slice(&output.stdout).context("kubectl get")?;
        let objects = list["items"].as_array().cloned().unwrap_or_else(|| vec![list]);
        let mut findings = Vec::new();
        for object in &objects {
            if let Some(finding) = unready(object) {
                findings.push(finding);
                findings.extend(self.pods_of(system, object).unwrap_or_default());
            }
        }
        Ok(findings)
    }

    /// Why the pods of a workload are not ready.
    fn pods_of(&self, system: &System, object: &Value) -> Result<Vec<String>> {
        let labels = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
        let selector: Vec<String> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        if selector.is_empty() {
            return Ok(Vec::new());
        }
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        Ok(pods_not_ready(&kubectl::get_json(system, &["get", "pods", "--namespace", namespace, "--selector", &selector.join(",")])?))
    }
}

/// Why a workload is not ready yet, as `kubectl rollout status` counts; `None` if it is, and for kinds that have no readiness.
fn unready(object: &Value) -> Option<String> {
    let (kind, name) = (object["kind"].as_str()?, object["metadata"]["name"].as_str()?);
    let (status, spec) = (&object["status"], &object["spec"]);
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let replicas = spec["replicas"].as_u64().unwrap_or(1);
    let (ready, desired) = match kind {
        "DaemonSet" => (
            count(&status["numberReady"]).min(count(&status["updatedNumberScheduled"])),
            status["desiredNumberScheduled"].as_u64().unwrap_or(1),
        ),
        "Deployment" => (count(&status["readyReplicas"]).min(count(&status["updatedReplicas"])), replicas),
        "StatefulSet" => (count(&status["readyReplicas"]), replicas),
        "Job" => (count(&status["succeeded"]), spec["completions"].as_u64().unwrap_or(1)),
        _ => return None,
    };
    let current = kind == "Job" || status["observedGeneration"].as_u64() >= object["metadata"]["generation"].as_u64();
    (!current || ready < desired).then(|| format!("{} {name}: {ready} of {desired} ready", kind.to_lowercase()))
}

/// Parts of kubectl's errors that go away by themselves: the API server is busy, the application's own CRDs and namespaces are
/// not known yet, or its own webhooks do not answer yet.
const TRANSIENT: [&str; 14] = [
    "no matches for kind",
    "namespaces \"",
    "failed calling webhook",
    "error looking up service account",
    "connection refused",
    "connection reset",
    "timeout",
    "timed out",
    "deadline exceeded",
    "unable to handle the request",
    "etcdserver:",
    "EOF",
    "(ServiceUnavailable)",
    "(Conflict)",
];

/// The errors in kubectl's stderr that a retry cannot fix.
fn permanent_error(stderr: &str) -> Option<String> {
    let is_error = |line: &str| line.to_lowercase().starts_with("error") || line.contains(" is invalid: ");
    let permanent = |line: &&str| is_error(line) && !TRANSIENT.iter().any(|transient| line.contains(transient));
    let lines: Vec<&str> = stderr.lines().map(str::trim).filter(permanent).take(3).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

impl Reconcile for KubeApp {
    fn title(&self) -> String {
        format!("app {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        if !kubectl::is_configured(system) || !self.files.iter().all(|file| system.path(self.directory.join(file)).exists()) {
            return Ok(State::Absent);
        }
        let diff = self.kubectl(system, &["diff"])?;
        match diff.status.code() {
            Some(0) => (),
            Some(1) if !diff.stdout.is_empty() => return Ok(State::differs("missing objects or drift", "as in the image")),
            _ => return Ok(State::Absent), // its namespace or CRDs do not exist yet
        }
        let findings = if self.wait { self.findings(system)? } else { Vec::new() };
        Ok(findings.first().map_or(State::Present, |first| State::differs(first, "ready")))
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        let subject = format!("app {}", self.name);
        wait_until_healthy(system, &subject, Duration::from_secs(60), log, || {
            let output = self.kubectl(system, &["apply"])?;
            match (output.status.success(), permanent_error(&String::from_utf8_lossy(&output.stderr))) {
                (true, _) => Ok(Vec::new()),
                (false, None) => Ok(vec![kubectl::last_stderr_lines(&output)]),
                (false, Some(why)) => Err(Failure::failed(format!("{subject}: kubectl apply: {why}"))
                    .hint("fix the manifest, build the image again, then run the same command again")
                    .into()),
            }
        })?;
        if !self.wait {
            return Ok(());
        }
        wait_until_healthy(system, &subject, Duration::from_secs(self.timeout_seconds), log, || {
            Ok(findings_or_error(self.findings(system)))
        })
    }

    /// Nothing to do: the application is removed with the cluster.
    fn undo(&self, _: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
}

/// Whether a file name ends like a manifest's: `.yaml`, `.yml` or `.json`.
pub fn is_manifest(file: &Path) -> bool {
    file.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transient_errors_are_tried_again() {
        let crd = "error: resource mapping not found for name: \"a\" namespace: \"\" from \"a.yaml\": no matches for kind \"A\" in version \"a/v1\"\n\
            ensure CRDs are installed first";
        let field = "Error from server (BadRequest): error when creating \"a.yaml\": Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.x\"";
        let value = "The Deployment \"web\" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0";
        let cases = [
            ("a kind that is defined beside it", crd.to_owned(), None),
            ("an API server that is away", "The connection to the server 10.0.0.1:6443 was refused".to_owned(), None),
            (
                "a namespace that comes later",
                "Error from server (NotFound): error when creating \"a.yaml\": namespaces \"shop\" not found".to_owned(),
                None,
            ),
            ("an unknown field", field.to_owned(), Some(field.to_owned())),
            ("a wrong value", format!("Warning: old\n{value}"), Some(value.to_owned())),
            ("a wrong value beside an unknown kind", format!("{crd}\n{value}"), Some(value.to_owned())),
        ];
        for (name, stderr, expected) in cases {
            assert_eq!(permanent_error(&stderr), expected, "{name}");
        }
    }

    #[test]
    fn workloads_are_ready_when_all_their_current_pods_are() {
        let cases = [
            (json!({"kind": "Service", "metadata": {"name": "s"}}), None),
            (
                json!({"kind": "DaemonSet", "metadata": {"name": "d", "generation": 1},
                    "status": {"observedGeneration": 1, "numberReady": 2, "updatedNumberScheduled": 3, "desiredNumberScheduled": 3}}),
                Some("daemonset d: 2 of 3 ready"),
            ),
            (
                json!({"kind": "Deployment", "metadata": {"name": "d", "generation": 2}, "spec": {"replicas": 1},
                    "status": {"observedGeneration": 1, "readyReplicas": 1, "updatedReplicas": 1}}),
                Some("deployment d: 1 of 1 ready"),
            ),
            (
                json!({"kind": "Deployment", "metadata": {"name": "d", "generation": 1}, "spec": {"replicas": 0}, "status": {"observedGeneration": 1}}),
                None,
            ),
            (json!({"kind": "Job", "metadata": {"name": "j", "generation": 1}, "spec": {}, "status": {"succeeded": 1}}), None),
        ];
        for (object, finding) in cases {
            assert_eq!(unready(&object).as_deref(), finding, "{object}");
        }
    }
}
