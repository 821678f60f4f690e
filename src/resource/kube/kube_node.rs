//! Labels and taints of a node, set by `kubectl` on a control plane node.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Reconcile, Snapshot, State, System, kubectl};

/// Labels and taints of a node. Others that the node has stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubeNode {
    /// The node's name.
    pub node: String,
    /// The labels that it must have.
    pub labels: BTreeMap<String, String>,
    /// Its taints, as `kubectl taint` takes them: `key=value:Effect`; with a `-` at the end they are removed.
    pub taints: Vec<String>,
    /// The labels that it must not have any more.
    #[serde(default)]
    pub absent_labels: Vec<String>,
}

/// A parsed argument of `kubectl taint`.
#[derive(Debug, PartialEq, Eq)]
struct Taint<'a> {
    key: &'a str,
    value: Option<&'a str>,
    effect: Option<&'a str>,
    remove: bool,
}

impl<'a> Taint<'a> {
    fn parse(text: &'a str) -> Self {
        let remove = text.ends_with('-');
        let text = text.strip_suffix('-').unwrap_or(text);
        let (left, effect) = text.split_once(':').map_or((text, None), |(left, effect)| (left, Some(effect)));
        let (key, value) = left.split_once('=').map_or((left, None), |(key, value)| (key, Some(value)));
        Taint { key, value, effect, remove }
    }

    fn is_in(&self, taints: &Value) -> bool {
        let has_field =
            |key: &str, value: Option<&str>, taint: &Value| taint[key].as_str().unwrap_or_default() == value.unwrap_or_default();
        taints.as_array().into_iter().flatten().any(|taint| {
            let value = self.remove || has_field("value", self.value, taint);
            let effect = self.effect.is_none() || has_field("effect", self.effect, taint);
            taint["key"] == self.key && value && effect
        })
    }
}

impl KubeNode {
    fn missing(&self, node: &Value) -> (Vec<String>, Vec<String>) {
        let labels = &node["metadata"]["labels"];
        let differs = |(key, value): &(&String, &String)| labels.get(key).and_then(Value::as_str) != Some(value);
        let unwanted = self.absent_labels.iter().filter(|key| labels.get(key.as_str()).is_some()).map(|key| format!("{key}-"));
        let labels = self.labels.iter().filter(differs).map(|(key, value)| format!("{key}={value}")).chain(unwanted).collect();
        let taints = self.taints.iter().filter(|text| {
            let taint = Taint::parse(text);
            taint.is_in(&node["spec"]["taints"]) == taint.remove
        });
        (labels, taints.cloned().collect())
    }

    /// What the node has in place of what is missing: `disk=hdd`, `no disk`.
    fn instead(&self, node: &Value, (labels, taints): &(Vec<String>, Vec<String>)) -> String {
        let label = |word: &String| {
            let key = word.split_once('=').map_or(word.trim_end_matches('-'), |(key, _)| key);
            node["metadata"]["labels"][key].as_str().map_or_else(|| format!("no {key}"), |value| format!("{key}={value}"))
        };
        let taint = |word: &String| {
            let key = Taint::parse(word).key;
            let text =
                |taint: &Value, field: &str, before: &str| taint[field].as_str().map(|text| format!("{before}{text}")).unwrap_or_default();
            let present = node["spec"]["taints"].as_array().into_iter().flatten().filter(|taint| taint["key"] == key);
            let present: Vec<String> =
                present.map(|taint| format!("{key}{}{}", text(taint, "value", "="), text(taint, "effect", ":"))).collect();
            if present.is_empty() { format!("no {key}") } else { present.join(", ") }
        };
        labels.iter().map(label).chain(taints.iter().map(taint)).collect::<Vec<_>>().join(", ")
    }

    fn read(&self, system: &System) -> Result<Value> {
        kubectl::get_json(system, &["get", "node", &self.node])
    }
}

impl Reconcile for KubeNode {
    fn title(&self) -> String {
        format!("node {}", self.node)
    }

    fn check(&self, system: &System) -> Result<State> {
        if !kubectl::is_configured(system) {
            return Ok(State::Absent);
        }
        let node = match self.read(system) {
            Ok(node) => node,
            // the host has not joined yet
            Err(error) if error.to_string().contains("(NotFound)") => return Ok(State::Absent),
            Err(error) => return Err(error),
        };
        let missing = self.missing(&node);
        let instead = self.instead(&node, &missing);
        let all = [missing.0, missing.1].concat();
        Ok(if all.is_empty() { State::Present } else { State::differs(instead, all.join(", ")) })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        let (labels, taints) = self.missing(&self.read(system)?);
        for (verb, kind, words) in [("label", "node", labels), ("taint", "node", taints)] {
            if !words.is_empty() {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                kubectl::output(system, &[&[verb, kind, &self.node, "--overwrite"], &words[..]].concat())?;
            }
        }
        Ok(())
    }

    /// Nothing to do: the node is removed with the cluster.
    fn undo(&self, _: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_set() {
        let node = json!({"metadata": {"labels": {"disk": "ssd", "old": "1"}},
            "spec": {"taints": [{"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}, {"key": "db", "value": "1", "effect": "NoExecute"}]}});
        let node_with = |labels: &[(&str, &str)], taints: &[&str]| KubeNode {
            node: "h1".into(),
            labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            taints: taints.iter().map(|taint| (*taint).to_owned()).collect(),
            absent_labels: Vec::new(),
        };
        let unwanted = KubeNode { absent_labels: vec!["old".into(), "none".into()], ..node_with(&[], &[]) };
        let cases: [(KubeNode, &[&str], &[&str]); 6] = [
            (unwanted, &["old-"], &[]),
            (node_with(&[("disk", "ssd")], &["db=1:NoExecute"]), &[], &[]),
            (node_with(&[("disk", "hdd"), ("new", "")], &[]), &["disk=hdd", "new="], &[]),
            (node_with(&[], &["db=2:NoExecute", "gone:NoSchedule-"]), &[], &["db=2:NoExecute"]),
            (node_with(&[], &["node-role.kubernetes.io/master:NoSchedule-"]), &[], &["node-role.kubernetes.io/master:NoSchedule-"]),
            (node_with(&[], &["db-"]), &[], &["db-"]),
        ];
        for (resource, labels, taints) in cases {
            let missing = resource.missing(&node);
            assert_eq!(
                (missing.0.as_slice(), missing.1.as_slice()),
                (strings(labels).as_slice(), strings(taints).as_slice()),
                "{resource:?}"
            );
        }
    }

    #[test]
    fn a_plan_says_what_a_node_has_instead_and_a_host_that_has_not_joined_has_no_node() {
        use crate::resource::tests::FakeHost;
        let labels = json!({"disk": "hdd", "old": "1"});
        let taints = json!([{"key": "db", "value": "1", "effect": "NoExecute"}]);
        let node = json!({"metadata": {"labels": labels}, "spec": {"taints": taints}}).to_string();
        let not_found = "echo 'Error from server (NotFound): nodes \"h1\" not found' >&2; exit 1";
        let resource = |label: &str, taints: &[&str], absent_labels: &[&str]| KubeNode {
            node: "h1".into(),
            labels: [(label.to_owned(), "ssd".to_owned())].into(),
            taints: strings(taints),
            absent_labels: strings(absent_labels),
        };
        let print = format!("cat <<'EOF'\n{node}\nEOF");
        for (program, resource, expected) in [
            (not_found, resource("disk", &[], &[]), State::Absent),
            (&print, resource("zone", &["gpu:NoSchedule"], &[]), State::differs("no zone, no gpu", "zone=ssd, gpu:NoSchedule")),
            (&print, resource("disk", &["db=2:NoExecute"], &[]), State::differs("disk=hdd, db=1:NoExecute", "disk=ssd, db=2:NoExecute")),
            (&print, resource("disk", &[], &["old"]), State::differs("disk=hdd, old=1", "disk=ssd, old-")),
        ] {
            let host = FakeHost::new();
            host.write(kubectl::ADMIN, "");
            host.program("kubectl", program);
            assert_eq!(resource.check(&host.system).unwrap(), expected);
        }
        let host = FakeHost::new();
        host.write(kubectl::ADMIN, "");
        host.program("kubectl", "echo 'The connection to the server was refused' >&2; exit 1");
        resource("disk", &[], &[]).check(&host.system).unwrap_err();
    }

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }
}
