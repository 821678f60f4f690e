//! Whether a cluster is as it shall be: nodes ready, pods running. Asked on a master.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Reconcile, Snapshot, State, System, kubectl};
use crate::error::Failure;

const PAUSE: Duration = Duration::from_millis(500);
/// A finding per line gets long: the first few tell enough.
const SHOWN: usize = 6;

/// The nodes of a cluster are ready and the pods of its own namespace run. Applied, it waits until they do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeHealth {
    /// The nodes.
    pub nodes: Vec<String>,
    /// How long they may take, in seconds.
    pub patience: u64,
}

impl KubeHealth {
    fn findings(&self, system: &System) -> Result<Vec<String>> {
        if !kubectl::is_there(system) {
            return Ok(vec!["there is no cluster yet".to_owned()]);
        }
        let nodes = kubectl::json(system, &["get", "nodes"])?;
        let pods = kubectl::json(system, &["get", "pods", "--namespace=kube-system"])?;
        Ok(nodes_not_ready(&nodes, &self.nodes).into_iter().chain(pods_not_ready(&pods)).collect())
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

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        wait("the cluster", Duration::from_secs(self.patience), say, || Ok(told(self.findings(system))))
    }

    fn undo(&self, _: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
}

/// What was found; an API server that does not answer is a finding like others.
pub fn told(findings: Result<Vec<String>>) -> Vec<String> {
    findings.unwrap_or_else(|error| vec![format!("{error:#}")])
}

/// Waits until there are no findings, telling the first one whenever it changes. An error is what waiting does not help
/// against: it ends it.
pub fn wait(what: &str, patience: Duration, say: &mut dyn FnMut(&str), look: impl Fn() -> Result<Vec<String>>) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut told = String::new();
    loop {
        let findings = look()?;
        let Some(first) = findings.first() else { return Ok(()) };
        if *first != told {
            say(&format!("waits: {first}"));
            told.clone_from(first);
        }
        if Instant::now() > deadline {
            let text = findings.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n  ");
            return Err(Failure::verification(format!("{what} is not healthy after {} s:\n  {text}", patience.as_secs()))
                .hint("`kubectl describe` and `kubectl logs` on a master tell more; the same command again goes on from here")
                .into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Which of `names` are not Ready among the nodes of a NodeList.
fn nodes_not_ready(list: &Value, names: &[String]) -> Vec<String> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    let find = |name: &String| items.iter().find(|node| node["metadata"]["name"] == **name);
    let judge = |name: &String| match find(name) {
        None => Some(format!("node {name} has not joined")),
        Some(node) => {
            let ready = node["status"]["conditions"].as_array()?.iter().find(|condition| condition["type"] == "Ready")?;
            (ready["status"] != "True")
                .then(|| format!("node {name} is not ready: {}", ready["message"].as_str().unwrap_or("no reason given")))
        }
    };
    names.iter().filter_map(judge).collect()
}

/// Which pods of a PodList do not run well, and why.
pub fn pods_not_ready(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(|pod| Some(format!("pod {}: {}", pod["metadata"]["name"].as_str()?, why_not(pod)?))).collect()
}

/// Why a pod does not run well, if it does not.
fn why_not(pod: &Value) -> Option<String> {
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
    if ready.is_some_and(|ready| ready["status"] == "True") || (is_mirror(pod) && all_run(status)) {
        return None;
    }
    let phase = status["phase"].as_str().unwrap_or("unknown");
    let scheduled =
        status["conditions"].as_array().into_iter().flatten().find(|it| it["type"] == "PodScheduled" && it["status"] == "False");
    let unscheduled = scheduled.and_then(|it| it["message"].as_str()).map(str::to_owned);
    Some(reason.or(unscheduled).unwrap_or_else(|| format!("{phase}, not ready")))
}

/// A static pod's image in the API. Its readiness is told up to a minute late; that the API server answers and pods come up
/// shows more than that.
fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get("kubernetes.io/config.mirror").is_some()
}

fn all_run(status: &Value) -> bool {
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
    fn pods_say_why_they_do_not_run() {
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
            assert_eq!(why_not(&pod(status.clone())).as_deref(), why, "{status}");
        }
    }
}
