//! A node that is not in the cluster any more: deleted by `kubectl` on a control plane node.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Reconcile, Snapshot, State, System, kubectl};

/// A node that the cluster does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentNode {
    /// The node's name.
    pub node: String,
}

impl Reconcile for AbsentNode {
    fn title(&self) -> String {
        format!("node {}", self.node)
    }

    fn check(&self, system: &System) -> Result<State> {
        let found = kubectl::output(system, &["get", "node", &self.node, "--ignore-not-found", "-o", "name"])?;
        Ok(if found.trim_ascii().is_empty() { State::Present } else { State::differs("a node of the cluster", "removed") })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        kubectl::output(system, &["delete", "node", &self.node, "--ignore-not-found"]).map(drop)
    }

    /// Nothing to do: the node is no part of this host.
    fn undo(&self, _: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    #[test]
    fn a_node_is_deleted_once() {
        let host = FakeHost::new();
        host.write("/node", "node/h2\n");
        host.program("kubectl", "case \"$*\" in *delete*) : >$ROOT/node ;; *get*) cat $ROOT/node ;; esac");
        let absent = AbsentNode { node: "h2".into() };
        assert!(matches!(absent.check(&host.system).unwrap(), State::Differs { .. }));
        absent.apply(&host.system, &mut |_| ()).unwrap();
        assert_eq!(absent.check(&host.system).unwrap(), State::Present);
    }
}
