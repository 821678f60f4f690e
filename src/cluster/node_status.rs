//! The status of nodes, as `kubectl get nodes` shows it.

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::events::Context;
use crate::host::{Exec, Host};

/// The status of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name, which is the host name in lower case.
    pub name: String,
    /// `Ready v1.20.2` with the version of its kubelet, `not ready: <message of its Ready condition>`, or `unknown`.
    pub status: String,
}

/// The status of all nodes, by kubectl on a master.
///
/// # Errors
/// Fails if the API server does not answer within 5 seconds.
pub async fn node_statuses(master: &Host, ctx: &Context) -> Result<Vec<NodeStatus>> {
    let command = Exec::new(["kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "--request-timeout=5s", "get", "nodes", "-o", "json"]);
    let output = master.exec(&command.quiet(), ctx).await?.ensure_success("kubectl get nodes")?;
    Ok(parse_node_list(&serde_json::from_slice(&output.stdout).context("kubectl get nodes")?))
}

fn parse_node_list(list: &Value) -> Vec<NodeStatus> {
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
    fn nodes_are_ready_or_show_the_message_of_their_condition() {
        let node = |name: &str, status: &str, message: &str| {
            json!({"metadata": {"name": name}, "status": {"nodeInfo": {"kubeletVersion": "v1.20.2"},
                "conditions": [{"type": "Ready", "status": status, "message": message}]}})
        };
        let list = json!({"items": [node("h1", "True", ""), node("h2", "Unknown", "no heartbeat")]});
        let statuses: Vec<String> = parse_node_list(&list).into_iter().map(|node| format!("{} {}", node.name, node.status)).collect();
        assert_eq!(statuses, ["h1 Ready v1.20.2", "h2 not ready: no heartbeat"]);
    }
}
