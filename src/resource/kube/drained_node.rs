//! A node without pods, drained by `kubectl drain` on a control plane node.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Reconcile, Snapshot, State, System, kubectl};
use crate::error::Failure;
use crate::paths::KUBECTL_CACHE;

/// A node that is cordoned and whose pods are evicted, before it leaves the cluster.
///
/// Pods are evicted by the eviction API, which honours PodDisruptionBudgets. Pods of DaemonSets and static pods stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainedNode {
    /// The node's name.
    pub node: String,
    /// How long its pods may take, in seconds.
    pub timeout_seconds: u64,
}

impl DrainedNode {
    /// Whether the node is cordoned, and how many of its pods can be evicted; `None` if there is no such node.
    fn observe(&self, system: &System) -> Result<Option<(bool, usize)>> {
        let nodes = kubectl::get_json(system, &["get", "nodes"])?;
        let items = nodes["items"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(node) = items.iter().find(|node| node["metadata"]["name"] == *self.node) else { return Ok(None) };
        let selector = format!("--field-selector=spec.nodeName={}", self.node);
        let pods = kubectl::get_json(system, &["get", "pods", "--all-namespaces", &selector])?;
        let count = pods["items"].as_array().into_iter().flatten().filter(|pod| is_evicted(pod)).count();
        Ok(Some((node["spec"]["unschedulable"] == true, count)))
    }
}

/// Whether a drain evicts a pod: it belongs to no DaemonSet, is not static, and has not ended.
fn is_evicted(pod: &Value) -> bool {
    let metadata = &pod["metadata"];
    let is_static = metadata["annotations"].get("kubernetes.io/config.mirror").is_some();
    let of_daemon_set = metadata["ownerReferences"].as_array().into_iter().flatten().any(|owner| owner["kind"] == "DaemonSet");
    let ended = pod["status"]["phase"] == "Succeeded" || pod["status"]["phase"] == "Failed";
    !is_static && !of_daemon_set && !ended
}

impl Reconcile for DrainedNode {
    fn title(&self) -> String {
        format!("drain node {}", self.node)
    }

    fn check(&self, system: &System) -> Result<State> {
        Ok(match self.observe(system)? {
            None | Some((true, 0)) => State::Present,
            Some((_, 0)) => State::differs("schedulable", "cordoned"),
            Some((_, 1)) => State::differs("1 pod", "drained"),
            Some((_, pods)) => State::differs(format!("{pods} pods"), "drained"),
        })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        // the flag has another name in kubectl before 1.20, and that one is gone since 1.31
        let help = system.output(&["kubectl", "drain", "--help"])?;
        let local_data = if help.contains("--delete-emptydir-data") { "--delete-emptydir-data" } else { "--delete-local-data" };
        let (config, timeout) = (system.path(kubectl::ADMIN).display().to_string(), format!("--timeout={}s", self.timeout_seconds));
        let cache = format!("--cache-dir={}", system.path(KUBECTL_CACHE).display());
        let drain =
            ["kubectl", &cache, "--kubeconfig", &config, "drain", &self.node, "--ignore-daemonsets", local_data, "--force", &timeout];
        system.run(&drain, log).map_err(|error| {
            // the node stays in the cluster: it may take pods again
            kubectl::run(system, &["uncordon", &self.node]).ok();
            Failure::over(&error, format!("node {} is not drained within {} s: {error:#}", self.node, self.timeout_seconds))
                .hint("a PodDisruptionBudget may forbid the eviction: `kubectl get pdb -A`; start more replicas, or allow more time with `--drain-timeout`")
                .hint("the node takes pods again, and stays in the cluster")
                .into()
        })
    }

    /// Nothing to do: the node has left the cluster.
    fn undo(&self, _: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    fn host(unschedulable: bool, pods: &Value) -> FakeHost {
        let host = FakeHost::new();
        let nodes = json!({"items": [{"metadata": {"name": "h2"}, "spec": {"unschedulable": unschedulable}}]});
        host.write("/nodes", &nodes.to_string());
        host.write("/pods", &json!({ "items": pods }).to_string());
        host.program(
            "kubectl",
            "case \"$*\" in *--help) echo '  --delete-emptydir-data' ;; *'get nodes'*) cat $ROOT/nodes ;; *'get pods'*) cat $ROOT/pods ;;
             *drain*) echo \"$*\" >>$ROOT/calls; [ ! -e $ROOT/refuse ] || { echo 'Cannot evict pod' >&2; exit 1; } ;; *) echo \"$*\" >>$ROOT/calls ;; esac",
        );
        host
    }

    fn pod(owner: &str, phase: &str) -> Value {
        json!({"metadata": {"ownerReferences": [{"kind": owner}]}, "status": {"phase": phase}})
    }

    #[test]
    fn a_node_is_drained_if_it_is_cordoned_and_only_daemons_are_left() {
        let drained = DrainedNode { node: "h2".into(), timeout_seconds: 5 };
        let static_pod = json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}});
        for (unschedulable, pods, expected) in [
            (true, json!([pod("DaemonSet", "Running"), pod("ReplicaSet", "Succeeded"), static_pod]), State::Present),
            (false, json!([]), State::differs("schedulable", "cordoned")),
            (true, json!([pod("ReplicaSet", "Running")]), State::differs("1 pod", "drained")),
        ] {
            assert_eq!(drained.check(&host(unschedulable, &pods).system).unwrap(), expected);
        }
        let gone = DrainedNode { node: "h9".into(), timeout_seconds: 5 };
        assert_eq!(gone.check(&host(true, &json!([])).system).unwrap(), State::Present);
    }

    #[test]
    fn a_node_that_cannot_be_drained_takes_pods_again() {
        let host = host(false, &json!([pod("ReplicaSet", "Running")]));
        let drained = DrainedNode { node: "h2".into(), timeout_seconds: 5 };
        drained.apply(&host.system, &mut |_| ()).unwrap();
        assert!(!host.read("/calls").contains("uncordon"));
        host.write("/refuse", "");
        let error = format!("{:#}", drained.apply(&host.system, &mut |_| ()).unwrap_err());
        assert!(error.contains("h2") && error.contains("Cannot evict pod"), "{error}");
        assert!(host.read("/calls").contains("uncordon h2"));
    }
}
