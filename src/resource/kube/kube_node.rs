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
        let (labels, taints) = self.missing(&self.read(system)?);
        let all = [labels, taints].concat();
        Ok(if all.is_empty() { State::Present } else { State::differs("other labels or taints", all.join(", ")) })
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

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }
}
