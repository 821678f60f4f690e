//! The first control plane node of a Kubernetes cluster: `kubeadm init`.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::kubeadm_reset::reset_node;
use super::pod_network::Network;
use super::{Content, Reconcile, Snapshot, State, System, kubeadm_member, kubeadm_unit};

/// The first control plane node, set up by `kubeadm init`.
///
/// kubeadm runs in a systemd unit of its own, so that it is not cut off when the connection is lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeadmInit {
    /// The name of its node.
    pub node: String,
    /// kubeadm's configuration, YAML documents. Holds tokens: never printed, never in the undo ledger.
    pub config: Content,
    /// For `--skip-phases`.
    #[serde(default)]
    pub skip_phases: Vec<String>,
    /// For `--ignore-preflight-errors`.
    #[serde(rename = "ignore", default)]
    pub ignore_preflight_errors: Vec<String>,
}

impl KubeadmInit {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["init".to_owned(), "--upload-certs".to_owned(), "--skip-token-print".to_owned()];
        let listed = |flag: &str, words: &[String]| (!words.is_empty()).then(|| format!("{flag}={}", words.join(",")));
        arguments.extend(listed("--skip-phases", &self.skip_phases));
        arguments.extend(listed("--ignore-preflight-errors", &self.ignore_preflight_errors));
        arguments
    }
}

impl Reconcile for KubeadmInit {
    fn title(&self) -> String {
        format!("control plane node {}", self.node)
    }

    fn check(&self, system: &System) -> Result<State> {
        kubeadm_member::check(system, true)
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Network::of(system))?)
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        let kubeadm = |log: &mut dyn FnMut(&str)| kubeadm_unit::run(system, &self.arguments(), self.config.bytes(), log);
        kubeadm_member::apply(system, true, kubeadm, log)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()> {
        reset_node(system, &Network::deserialize(snapshot)?, log)
    }
}
