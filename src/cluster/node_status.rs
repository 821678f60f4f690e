//! What a cluster says about its nodes.

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::events::Context;
use crate::host::{Exec, Host};

/// What a cluster says about a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `Ready` with its version, or why it is not.
    pub status: String,
}

/// Asks a master about all nodes.
pub async fn node_statuses(master: &Host, ctx: &Context) -> Result<Vec<NodeStatus>> {
    let command = Exec::new(["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--request-timeout=5s", "get", "nodes", "-o", "json"]);
    let output = master.exec(&command.quiet(), ctx).await?.success("kubectl get nodes")?;
    Ok(of_list(&serde_json::from_slice(&output.stdout).context("kubectl get nodes")?))
}

fn of_list(list: &Value) -> Vec<NodeStatus> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|node| Some(NodeStatus { name: node["metadata"]["name"].as_str()?.to_owned(), status: status(node) })).collect()
}

fn status(node: &Value) -> String {
    let ready = node["status"]["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == "Ready");
    match ready {
        Some(ready) if ready["status"] == "True" => {
            format!("Ready {}", node["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default())
        }
        Some(ready) => format!("not ready: {}", ready["message"].as_str().unwrap_or_default()),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_are_ready_or_say_why_not() {
        let node = |name: &str, status: &str, message: &str| {
            json!({"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": "v1.20.2"},
                "conditions": [{"type": "Ready", "status": status, "message": message}]}})
        };
        let list = json!({"items": [node("h1", "True", ""), node("h2", "Unknown", "no heartbeat")]});
        let statuses: Vec<String> = of_list(&list).into_iter().map(|node| format!("{} {}", node.name, node.status)).collect();
        assert_eq!(statuses, ["h1 Ready v1.20.2", "h2 not ready: no heartbeat"]);
    }
}
