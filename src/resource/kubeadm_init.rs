//! The first master of a Kubernetes cluster.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::kubeadm_reset::clean;
use super::pod_network::Network;
use super::{Content, Reconcile, Snapshot, State, System, kubeadm_member, kubeadm_unit};

/// The first master, made by `kubeadm init`. It goes on in a unit of its own when the agent goes away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeadmInit {
    /// The name of its node.
    pub node: String,
    /// kubeadm's documents, with tokens in them: never shown, never in the undo ledger.
    pub config: Content,
    /// Phases that are left out.
    #[serde(default)]
    pub skip_phases: Vec<String>,
    /// Checks of kubeadm that may fail.
    #[serde(default)]
    pub ignore: Vec<String>,
}

impl KubeadmInit {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["init".to_owned(), "--upload-certs".to_owned(), "--skip-token-print".to_owned()];
        let listed = |flag: &str, words: &[String]| (!words.is_empty()).then(|| format!("{flag}={}", words.join(",")));
        arguments.extend(listed("--skip-phases", &self.skip_phases));
        arguments.extend(listed("--ignore-preflight-errors", &self.ignore));
        arguments
    }
}

impl Reconcile for KubeadmInit {
    fn title(&self) -> String {
        format!("first master {}", self.node)
    }

    fn check(&self, system: &System) -> Result<State> {
        kubeadm_member::check(system, true)
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Network::of(system))?)
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        let kubeadm = |say: &mut dyn FnMut(&str)| kubeadm_unit::run(system, &self.arguments(), self.config.bytes(), say);
        kubeadm_member::apply(system, true, kubeadm, say)
    }

    fn undo(&self, system: &System, before: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()> {
        clean(system, &Network::deserialize(before)?, say)
    }
}
