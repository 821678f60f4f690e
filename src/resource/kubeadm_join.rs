//! A host that joins a Kubernetes cluster.

use std::net::IpAddr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::kubeadm_reset::clean;
use super::pod_network::Network;
use super::{Content, HostsEntry, Reconcile, Snapshot, State, System, kubeadm_member, kubeadm_unit};

/// A host that joins a cluster by `kubeadm join`, as a worker or as a further master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeadmJoin {
    /// The name of its node.
    pub node: String,
    /// Whether it runs the control plane too.
    pub master: bool,
    /// kubeadm's documents, with tokens in them: never shown, never in the undo ledger.
    pub config: Content,
    /// The name of the control plane and where it is while this master joins. Its own API server only answers afterwards.
    pub meanwhile: Option<(String, IpAddr)>,
    /// Checks of kubeadm that may fail.
    #[serde(default)]
    pub ignore: Vec<String>,
}

impl KubeadmJoin {
    /// Whether a host in this state is no member, and none that starts: what a cluster has of it is left from a try that failed.
    pub fn is_no_member(state: &State) -> bool {
        matches!(state, State::Absent) || matches!(state, State::Differs { actual, .. } if actual == kubeadm_member::UNFINISHED)
    }

    fn run(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        let mut arguments = vec!["join".to_owned()];
        if !self.ignore.is_empty() {
            arguments.push(format!("--ignore-preflight-errors={}", self.ignore.join(",")));
        }
        let hosts = system.text("/etc/hosts")?;
        if let Some((name, address)) = &self.meanwhile {
            HostsEntry { name: name.clone(), address: *address }.apply(system, say)?;
        }
        let joined = kubeadm_unit::run(system, &arguments, self.config.bytes(), say);
        if self.meanwhile.is_some() {
            system.write_text("/etc/hosts", &hosts)?;
        }
        joined
    }
}

impl Reconcile for KubeadmJoin {
    fn title(&self) -> String {
        format!("{} {}", if self.master { "further master" } else { "worker" }, self.node)
    }

    fn check(&self, system: &System) -> Result<State> {
        kubeadm_member::check(system, self.master)
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        Ok(serde_json::to_value(Network::of(system))?)
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        kubeadm_member::apply(system, self.master, |say| self.run(system, say), say)
    }

    fn undo(&self, system: &System, before: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()> {
        clean(system, &Network::deserialize(before)?, say)
    }
}
