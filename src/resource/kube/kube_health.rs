//! The health of a cluster: nodes ready, pods of `kube-system` running. Checked on a control plane node.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Reconcile, Snapshot, State, System, interrupted, kubectl};
use crate::error::Failure;

const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// An error lists at most this many findings.
const MAX_FINDINGS: usize = 6;

/// All nodes are Ready and all pods of `kube-system` run. Applying it waits until they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeHealth {
    /// The names of the nodes.
    pub nodes: Vec<String>,
    /// How long to wait for them, in seconds.
    #[serde(rename = "patience")]
    pub timeout_seconds: u64,
}

impl KubeHealth {
    fn findings(&self, system: &System) -> Result<Vec<String>> {
        if !kubectl::is_configured(system) {
            return Ok(vec!["no cluster on this host yet".to_owned()]);
        }
        let nodes = kubectl::get_json(system, &["get", "nodes"])?;
        let pods = kubectl::get_json(system, &["get", "pods", "--namespace=kube-system"])?;
        Ok(nodes_not_ready(&nodes, &self.nodes).into_iter().chain(pods_not_ready(&self.pods_on_nodes(pods))).collect())
    }

    /// Without the pods on other nodes, which may be switched off.
    fn pods_on_nodes(&self, mut pods: Value) -> Value {
        if let Some(items) = pods["items"].as_array_mut() {
            items.retain(|pod| pod["spec"]["nodeName"].as_str().is_none_or(|node| self.nodes.iter().any(|known| known == node)));
        }
        pods
    }
}

impl Reconcile for KubeHealth {
    fn title(&self) -> String {
        "cluster health".into()
    }

    fn check(&self, system: &System) -> Result<State> {
        Ok(match self.findings(system)?.as_slice() {
            [] => State::Present,
            [only] => State::differs(only, "healthy"),
            [first, rest @ ..] => State::differs(format!("{first}, and {} more", rest.len()), "healthy"),
        })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        wait_until_healthy(system, Duration::from_secs(self.timeout_seconds), log, || Ok(findings_or_error(self.findings(system))))
    }

    fn undo(&self, _: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
}

/// The findings; an error, such as an API server that does not answer, counts as a finding.
pub fn findings_or_error(findings: Result<Vec<String>>) -> Vec<String> {
    findings.unwrap_or_else(|error| vec![format!("{error:#}")])
}

/// Waits until `check` has no findings, and logs the first one whenever it changes.
///
/// # Errors
/// Of kind `Verification` after `timeout`, `Interrupted` if the call is stopped. An error of `check` ends the wait at once: it is for what
/// a wait cannot fix.
pub fn wait_until_healthy(
    system: &System,
    timeout: Duration,
    log: &mut dyn FnMut(&str),
    check: impl Fn() -> Result<Vec<String>>,
) -> Result<()> {
    let deadline = Instant::now() + timeout;
    let mut last_reported = String::new();
    loop {
        let findings = check()?;
        let Some(first) = findings.first() else { return Ok(()) };
        if *first != last_reported {
            log(&format!("waiting: {first}"));
            last_reported.clone_from(first);
        }
        if system.stop().is_cancelled() {
            return Err(interrupted(format!("stopped waiting: {first}")).into());
        }
        if Instant::now() > deadline {
            let text = findings.iter().take(MAX_FINDINGS).map(String::as_str).collect::<Vec<_>>().join("\n  ");
            return Err(Failure::verification(format!("not ready after {} s:\n  {text}", timeout.as_secs()))
                .hint("see `kubectl describe` and `kubectl logs` on a control plane node")
                .hint("run the same command again to continue")
                .into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Which of `names` are missing from a NodeList or not Ready.
fn nodes_not_ready(list: &Value, names: &[String]) -> Vec<String> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let find = |name: &String| items.iter().find(|node| node["metadata"]["name"] == **name);
    let finding = |name: &String| match find(name) {
        None => Some(format!("node {name} has not joined")),
        Some(node) => {
            let ready = node["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")?;
            (ready["status"] != "True")
                .then(|| format!("node {name} is not ready: {}", ready["message"].as_str().unwrap_or("no reason reported")))
        }
    };
    names.iter().filter_map(finding).collect()
}

/// Which pods of a PodList are not ready, and why.
pub fn pods_not_ready(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |pod: &Value| {
        let on = pod["spec"]["nodeName"].as_str().map(|node| format!(" (on node {node})")).unwrap_or_default();
        Some(format!("pod {}{on}: {}", pod["metadata"]["name"].as_str()?, pod_problem(pod)?))
    };
    items.iter().filter_map(text).collect()
}

/// Why a pod is not ready, if it is not.
fn pod_problem(pod: &Value) -> Option<String> {
    let status = &pod["status"];
    if status["phase"] == "Succeeded" || pod["metadata"].get("deletionTimestamp").is_some() {
        return None;
    }
    let containers = ["initContainerStatuses", "containerStatuses"].iter().filter_map(|key| status[key].as_array()).flatten();
    let reason = containers.filter_map(|container| container["state"].get("waiting")).find_map(|waiting| {
        let (reason, message) = (waiting["reason"].as_str()?, waiting["message"].as_str().unwrap_or_default());
        Some(if message.is_empty() { reason.to_owned() } else { format!("{reason}: {message}") })
    });
    let ready = status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    if ready.is_some_and(|ready| ready["status"] == "True") || (is_mirror_pod(pod) && all_running(status)) {
        return None;
    }
    let phase = status["phase"].as_str().unwrap_or("unknown");
    let scheduled =
        status["conditions"].as_array().into_iter().flatten().find(|it| it["type"] == "PodScheduled" && it["status"] == "False");
    let unscheduled = scheduled.and_then(|it| it["message"].as_str()).map(str::to_owned);
    Some(reason.or(unscheduled).unwrap_or_else(|| format!("{phase}, not ready")))
}

/// Whether it is the mirror pod of a static pod. The kubelet reports its readiness up to a minute late; so running containers
/// are enough.
fn is_mirror_pod(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
}

fn all_running(status: &Value) -> bool {
    let containers = status["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    !containers.is_empty() && containers.iter().all(|container| container["state"].get("running").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_are_missing_or_not_ready_are_named() {
        let list = json!({"items": [
            {"metadata": {"name": "h1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
            {"metadata": {"name": "h2"}, "status": {"conditions": [{"type": "Ready", "status": "False", "message": "no CNI"}]}},
        ]});
        let names = ["h1", "h2", "h3"].map(str::to_owned);
        assert_eq!(nodes_not_ready(&list, &names), ["node h2 is not ready: no CNI", "node h3 has not joined"]);
    }

    #[test]
    fn a_pod_that_is_not_ready_has_a_reason() {
        let pod = |status: Value| json!({"metadata": {"name": "p"}, "status": status});
        let cases = [
            (json!({"phase": "Succeeded"}), None),
            (json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}), None),
            (json!({"phase": "Running"}), Some("Running, not ready")),
            (
                json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull", "message": "404"}}}]}),
                Some("ErrImagePull: 404"),
            ),
            (
                json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes"}]}),
                Some("0/2 nodes"),
            ),
        ];
        for (status, why) in cases {
            assert_eq!(pod_problem(&pod(status.clone())).as_deref(), why, "{status}");
        }
    }
}
