//! A host that joins a Kubernetes cluster: `kubeadm join`.

use std::net::IpAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::kubeadm_reset::reset_node;
use super::pod_network::Network;
use super::{Content, HostsEntry, Reconcile, Snapshot, State, System, kubeadm_member, kubeadm_unit};

/// A node that joins a cluster by `kubeadm join`, as a worker or as a further control plane node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeadmJoin {
    /// The name of its node.
    pub node: String,
    /// Whether it joins the control plane.
    pub master: bool,
    /// kubeadm's configuration, a YAML document. Holds tokens: never printed, never in the undo ledger.
    pub config: Content,
    /// The name of the control plane endpoint and its address while this node joins: its own API server answers only afterwards.
    #[serde(rename = "meanwhile")]
    pub join_endpoint: Option<(String, IpAddr)>,
    /// For `--ignore-preflight-errors`.
    #[serde(rename = "ignore", default)]
    pub ignore_preflight_errors: Vec<String>,
}

impl KubeadmJoin {
    /// Whether a host in this state is not a member of its cluster. What the cluster still has of it is left from an attempt that failed.
    pub fn has_not_joined(state: &State) -> bool {
        matches!(state, State::Absent) || matches!(state, State::Differs { actual, .. } if actual == kubeadm_member::UNFINISHED)
    }

    fn run(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        let mut arguments = vec!["join".to_owned()];
        if !self.ignore_preflight_errors.is_empty() {
            arguments.push(format!("--ignore-preflight-errors={}", self.ignore_preflight_errors.join(",")));
        }
        let Some((name, address)) = &self.join_endpoint else {
            return kubeadm_unit::run(system, &arguments, self.config.bytes(), log);
        };
        let entry = HostsEntry::new(name, *address);
        let previous = entry.snapshot(system)?;
        entry.apply(system, log)?;
        let joined = kubeadm_unit::run(system, &arguments, self.config.bytes(), log);
        entry.undo(system, &previous, log)?; // joining takes minutes: what others wrote to the file meanwhile stays
        joined
    }
}

impl Reconcile for KubeadmJoin {
    fn title(&self) -> String {
        format!("{} {}", if self.master { "control plane node" } else { "worker" }, self.node)
    }

    fn check(&self, system: &System) -> Result<State> {
        kubeadm_member::check(system, self.master)
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Network::of(system))?)
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        kubeadm_member::apply(system, self.master, |log| self.run(system, log), log)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()> {
        reset_node(system, &Network::deserialize(snapshot)?, log)
    }
}
