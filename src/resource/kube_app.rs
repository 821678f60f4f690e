//! An application made of Kubernetes manifests. Applied on a master.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kube_health::{pods_not_ready, told, wait};
use super::{Reconcile, Snapshot, State, System, kubectl};
use crate::error::Failure;

/// Manifests that a cluster shall have, and whose workloads shall run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeApp {
    /// The application's name.
    pub name: String,
    /// Where its files are on the host.
    pub directory: PathBuf,
    /// Its manifests, relative to the directory, in order.
    pub files: Vec<PathBuf>,
    /// How long its workloads may take, in seconds.
    pub patience: u64,
    /// Whether to wait for its workloads; a network plugin's cannot run before the nodes have joined.
    pub wait: bool,
}

impl KubeApp {
    fn named<'a>(&'a self, system: &System, verb: &[&'a str]) -> Vec<String> {
        let files = self.files.iter().flat_map(|file| ["-f".to_owned(), system.path(self.directory.join(file)).display().to_string()]);
        verb.iter().map(|word| (*word).to_owned()).chain(files).collect()
    }

    fn kubectl(&self, system: &System, verb: &[&str]) -> Result<std::process::Output> {
        let arguments = self.named(system, verb);
        kubectl::run(system, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What of its workloads does not run.
    fn findings(&self, system: &System) -> Result<Vec<String>> {
        let output = self.kubectl(system, &["get", "-o", "json"])?;
        if !output.status.success() {
            return Ok(vec![kubectl::complaint(&output)]);
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

    /// What the pods of a workload say for themselves.
    fn pods_of(&self, system: &System, object: &Value) -> Result<Vec<String>> {
        let labels = object["spec"]["selector"]["matchLabels"].as_object().into_iter().flatten();
        let selector: Vec<String> = labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
        if selector.is_empty() {
            return Ok(Vec::new());
        }
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
        Ok(pods_not_ready(&kubectl::json(system, &["get", "pods", "--namespace", namespace, "--selector", &selector.join(",")])?))
    }
}

/// Why a workload does not run as a whole yet, if it does not. Other kinds of objects are as they shall be once they are there.
fn unready(object: &Value) -> Option<String> {
    let (kind, name) = (object["kind"].as_str()?, object["metadata"]["name"].as_str()?);
    let (status, spec) = (&object["status"], &object["spec"]);
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let replicas = spec["replicas"].as_u64().unwrap_or(1);
    let (ready, wanted) = match kind {
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
    (!current || ready < wanted).then(|| format!("{} {name}: {ready} of {wanted} ready", kind.to_lowercase()))
}

/// What goes away by itself: kinds and namespaces that the application itself defines are known a moment later, its own
/// webhooks answer later, an API server is busy.
const PASSING: [&str; 14] = [
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

/// What kubectl says that trying again does not help against, of all that it said on stderr.
fn refusal(said: &str) -> Option<String> {
    let is_error = |line: &str| line.to_lowercase().starts_with("error") || line.contains(" is invalid: ");
    let lasting = |line: &&str| is_error(line) && !PASSING.iter().any(|passing| line.contains(passing));
    let lines: Vec<&str> = said.lines().map(str::trim).filter(lasting).take(3).collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}

impl Reconcile for KubeApp {
    fn title(&self) -> String {
        format!("app {}", self.name)
    }

    fn check(&self, system: &System) -> Result<State> {
        if !kubectl::is_there(system) || !self.files.iter().all(|file| system.path(self.directory.join(file)).exists()) {
            return Ok(State::Absent);
        }
        let diff = self.kubectl(system, &["diff"])?;
        match diff.status.code() {
            Some(0) => (),
            Some(1) if !diff.stdout.is_empty() => return Ok(State::differs("otherwise, or not there", "as in the image")),
            _ => return Ok(State::Absent), // its namespace or kinds are not there yet
        }
        let findings = if self.wait { self.findings(system)? } else { Vec::new() };
        Ok(findings.first().map_or(State::Present, |first| State::differs(first, "ready")))
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        let what = format!("app {}", self.name);
        wait(&what, Duration::from_secs(60), say, || {
            let output = self.kubectl(system, &["apply"])?;
            match (output.status.success(), refusal(&String::from_utf8_lossy(&output.stderr))) {
                (true, _) => Ok(Vec::new()),
                (false, None) => Ok(vec![kubectl::complaint(&output)]),
                (false, Some(why)) => Err(Failure::failed(format!("kubectl apply: {why}")).hint("mend the manifest in the image").into()),
            }
        })?;
        if !self.wait {
            return Ok(());
        }
        wait(&what, Duration::from_secs(self.patience), say, || Ok(told(self.findings(system))))
    }

    /// The application goes with the cluster.
    fn undo(&self, _: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
}

/// Whether a file is a manifest by its name.
pub fn is_manifest(file: &Path) -> bool {
    file.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
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
        for (name, said, expected) in cases {
            assert_eq!(refusal(&said), expected, "{name}");
        }
    }

    #[test]
    fn workloads_are_ready_when_all_of_their_current_pods_are() {
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
