//! An application made of Kubernetes manifests, applied by `kubectl apply` on a control plane node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::kube_health::{findings_or_error, pods_not_ready, wait_until_healthy};
use super::{Reconcile, Snapshot, State, System, kubectl};
use crate::error::Failure;
use crate::image::{Digest, Hasher};
use crate::paths::STAMPS;

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

    /// Compares its manifests with the cluster. An API server that is away is asked again.
    ///
    /// # Errors
    /// Fails if the API server stays away.
    fn diff(&self, system: &System) -> Result<Diff> {
        for attempt in 1.. {
            let output = self.kubectl(system, &["diff"])?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            match output.status.code() {
                Some(0) => return Ok(Diff::Same),
                Some(1) if !output.stdout.is_empty() => return Ok(Diff::Drift),
                _ if is_not_there_yet(&stderr) => return Ok(Diff::Absent),
                _ => {}
            }
            match permanent_error(&stderr) {
                Some(why) => return Ok(Diff::Impossible(why)),
                None if attempt < DIFF_ATTEMPTS => std::thread::sleep(DIFF_PAUSE),
                None => {
                    return Err(Failure::failed(format!("kubectl diff: {}", kubectl::last_stderr_lines(&output)))
                        .hint("see `sealift status`; run the same command again when the API server answers")
                        .into());
                }
            }
        }
        Ok(Diff::Absent)
    }

    /// Whether these very manifests were applied, and all of their objects are there.
    fn was_applied(&self, system: &System) -> Result<bool> {
        let applied = system.read_text(self.stamp())? == self.digest(system)?;
        Ok(applied && self.kubectl(system, &["get", "-o", "name"])?.status.success())
    }

    fn stamp(&self) -> PathBuf {
        Path::new(STAMPS).join(Digest::of(self.title().as_bytes()).short())
    }

    /// The content of the stamp: a digest of the manifests as they are on the host.
    fn digest(&self, system: &System) -> Result<String> {
        let mut hasher = Hasher::new(std::io::sink());
        for file in &self.files {
            hasher.update(&fs_err::read(system.path(self.directory.join(file)))?);
        }
        Ok(format!("{}\n", hasher.finish().0.digest))
    }

    /// Which of its workloads are not ready, and why.
    fn findings(&self, system: &System) -> Result<Vec<String>> {
        let output = self.kubectl(system, &["get", "-o", "json"])?;
        if !output.status.success() {
            return Ok(vec![kubectl::last_stderr_lines(&output)]);
        }
        let list: Value = serde_json::from_slice(&output.stdout).context("kubectl get")?;
        let objects = list["items"].as_array().cloned().unwrap_or_else(|| vec![list]);
        let nodes = kubectl::get_json(system, &["get", "nodes"])?;
        let lost = lost_nodes(&nodes);
        let mut findings = Vec::new();
        for object in &objects {
            if let Some(finding) = unready(object, lost.len() as u64) {
                findings.push(finding);
                findings.extend(self.pods_of(system, object).unwrap_or_default());
            }
        }
        if !findings.is_empty() && !lost.is_empty() {
            let lost = lost.join(", ");
            findings.push(format!(
                "nodes without an answer, whose pods may wait for them: {lost} (switch them on, or remove them with `--forget`)"
            ));
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

/// The nodes of a NodeList that have been switched off or cut off: their kubelets do not say anything, and no daemon is expected there. A
/// node that says itself that it is not ready, as before its network plugin runs, is none of them.
fn lost_nodes(list: &Value) -> Vec<&str> {
    let is_lost = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "Unknown")
    };
    list["items"].as_array().into_iter().flatten().filter(is_lost).filter_map(|node| node["metadata"]["name"].as_str()).collect()
}

/// Why a workload is not ready yet, as `kubectl rollout status` counts; `None` if it is, and for kinds that have no readiness. Daemons
/// are not expected on `lost` nodes.
fn unready(object: &Value, lost: u64) -> Option<String> {
    let (kind, name) = (object["kind"].as_str()?, object["metadata"]["name"].as_str()?);
    let (status, spec) = (&object["status"], &object["spec"]);
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let replicas = spec["replicas"].as_u64().unwrap_or(1);
    let (ready, desired) = match kind {
        "DaemonSet" => (
            count(&status["numberReady"]).min(count(&status["updatedNumberScheduled"])),
            status["desiredNumberScheduled"].as_u64().unwrap_or(1).saturating_sub(lost),
        ),
        "Deployment" => (count(&status["readyReplicas"]).min(count(&status["updatedReplicas"])), replicas),
        "StatefulSet" => (count(&status["readyReplicas"]), replicas),
        "Job" => (count(&status["succeeded"]), spec["completions"].as_u64().unwrap_or(1)),
        _ => return None,
    };
    let current = kind == "Job" || status["observedGeneration"].as_u64() >= object["metadata"]["generation"].as_u64();
    (!current || ready < desired).then(|| format!("{} {name}: {ready} of {desired} ready", kind.to_lowercase()))
}

/// How often an API server that is away is asked for differences, and the time between.
const DIFF_ATTEMPTS: usize = 5;
const DIFF_PAUSE: Duration = Duration::from_secs(3);
/// Parts of kubectl's errors about objects whose kind or namespace comes with the application itself.
const NOT_THERE_YET: [&str; 3] = ["no matches for kind", "namespaces \"", "the server could not find the requested resource"];

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

/// What `kubectl diff` found.
#[derive(Debug, PartialEq, Eq)]
enum Diff {
    Same,
    Drift,
    /// Its namespace or its CRDs do not exist yet.
    Absent,
    /// An error that stays: a webhook that knows no dry run, a field that cannot be changed. Why.
    Impossible(String),
}

/// Whether kubectl's stderr says that the namespace or the kind of an object is not there yet, and nothing worse.
fn is_not_there_yet(stderr: &str) -> bool {
    let missing = |line: &str| NOT_THERE_YET.iter().any(|part| line.contains(part));
    let is_error = |line: &&str| line.to_lowercase().starts_with("error") || line.starts_with("Unable") || line.contains(" is invalid: ");
    let mut errors = stderr.lines().map(str::trim).filter(is_error).peekable();
    errors.peek().is_some() && errors.all(missing)
}

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
        match self.diff(system)? {
            Diff::Same => (),
            Diff::Drift => return Ok(State::differs("missing objects or drift", "as in the image")),
            Diff::Absent => return Ok(State::Absent),
            Diff::Impossible(_) if self.was_applied(system)? => (),
            Diff::Impossible(why) => return Ok(State::differs(format!("cannot be compared: {why}"), "as in the image")),
        }
        let findings = if self.wait { self.findings(system)? } else { Vec::new() };
        Ok(findings.first().map_or(State::Present, |first| State::differs(first, "ready")))
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        wait_until_healthy(system, Duration::from_secs(60), log, || {
            let output = self.kubectl(system, &["apply"])?;
            match (output.status.success(), permanent_error(&String::from_utf8_lossy(&output.stderr))) {
                (true, _) => system.write_text(self.stamp(), &self.digest(system)?).map(|()| Vec::new()),
                (false, None) => Ok(vec![kubectl::last_stderr_lines(&output)]),
                (false, Some(why)) => Err(Failure::failed(format!("kubectl apply: {why}"))
                    .hint("fix the manifest, build the image again, then run the same command again")
                    .into()),
            }
        })?;
        if !self.wait {
            return Ok(());
        }
        wait_until_healthy(system, Duration::from_secs(self.timeout_seconds), log, || Ok(findings_or_error(self.findings(system))))
    }

    /// The application itself is removed with the cluster.
    fn undo(&self, system: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        system.write_text(self.stamp(), "")
    }
}

/// Whether a file name ends like a manifest's: `.yaml`, `.yml` or `.json`.
pub fn is_manifest(file: &Path) -> bool {
    file.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

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

    /// A control plane node whose kubectl answers `diff` with `script`, and takes everything else.
    fn control_plane(diff: &str) -> (FakeHost, KubeApp) {
        let host = FakeHost::new();
        host.write(kubectl::ADMIN, "x");
        host.write("/app/a.yaml", "kind: Pod");
        host.program(
            "kubectl",
            &format!("case \"$*\" in *' diff '*) {diff} ;; *' get '*) exit $(cat $ROOT/get 2>/dev/null || echo 0) ;; esac"),
        );
        let app = KubeApp { name: "shop".into(), directory: "/app".into(), files: vec!["a.yaml".into()], timeout_seconds: 1, wait: false };
        (host, app)
    }

    #[test]
    fn an_app_is_absent_only_if_its_kinds_or_namespaces_are() {
        let absent = "Error from server (NotFound): namespaces \\\"shop\\\" not found";
        let webhook = "Error from server (BadRequest): admission webhook \\\"x\\\" does not support dry run";
        for (name, diff, expected) in [
            ("same", "exit 0".to_owned(), State::Present),
            ("drift", "echo +x; exit 1".to_owned(), State::differs("missing objects or drift", "as in the image")),
            ("no namespace", format!("echo \"{absent}\" >&2; exit 2"), State::Absent),
            ("no namespace, kubectl of 1.17", format!("echo \"{absent}\" >&2; exit 1"), State::Absent),
            (
                "no dry run",
                format!("echo \"{webhook}\" >&2; exit 2"),
                State::differs(format!("cannot be compared: {}", webhook.replace('\\', "")), "as in the image"),
            ),
            (
                "no namespace and no dry run",
                format!("printf '%s\\n' \"{absent}\" \"{webhook}\" >&2; exit 2"),
                State::differs(format!("cannot be compared: {}", webhook.replace('\\', "")), "as in the image"),
            ),
        ] {
            let (host, app) = control_plane(&diff);
            assert_eq!(app.check(&host.system).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn an_app_that_cannot_be_compared_is_present_once_it_was_applied() {
        let (host, app) = control_plane("echo 'Error from server: admission webhook does not support dry run' >&2; exit 2");
        assert!(matches!(app.check(&host.system).unwrap(), State::Differs { .. }));
        app.apply(&host.system, &mut |_| ()).unwrap();
        assert_eq!(app.check(&host.system).unwrap(), State::Present);
        host.write("/get", "1");
        assert!(matches!(app.check(&host.system).unwrap(), State::Differs { .. }), "an object is gone");
        host.write("/get", "0");
        host.write("/app/a.yaml", "kind: Pod # of another image");
        assert!(matches!(app.check(&host.system).unwrap(), State::Differs { .. }), "another image");
    }

    #[test]
    fn an_api_server_that_is_away_for_a_moment_is_asked_again() {
        let (host, app) = control_plane(
            "[ -e $ROOT/asked ] && exit 0; touch $ROOT/asked; echo 'The connection to the server 10.0.0.1:6443 was refused' >&2; exit 2",
        );
        assert_eq!(app.check(&host.system).unwrap(), State::Present);
    }

    #[test]
    fn only_nodes_whose_kubelets_are_silent_are_lost() {
        let node = |status: &str| json!({"metadata": {"name": status}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
        let list = json!({"items": [node("True"), node("False"), node("Unknown"), {"status": {}}]});
        assert_eq!(lost_nodes(&list), ["Unknown"]);
        let daemons = json!({"kind": "DaemonSet", "metadata": {"name": "d", "generation": 1},
            "status": {"observedGeneration": 1, "numberReady": 3, "updatedNumberScheduled": 4, "desiredNumberScheduled": 4}});
        assert_eq!((unready(&daemons, 0).is_some(), unready(&daemons, 1)), (true, None));
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
            assert_eq!(unready(&object, 0).as_deref(), finding, "{object}");
        }
    }
}
