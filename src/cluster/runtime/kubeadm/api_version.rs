//! The API versions of the kubeadm configuration, and the differences between them.

use anyhow::Result;
use serde_json::{Map, Value, json};

use crate::clusterfile::merge::object;
use crate::error::Failure;

/// An API version of the kubeadm configuration (https://kubernetes.io/docs/reference/config-api/).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApiVersion {
    /// Until Kubernetes 1.14.
    V1Beta1,
    /// Since Kubernetes 1.15.
    V1Beta2,
    /// Since Kubernetes 1.22.
    V1Beta3,
    /// Since Kubernetes 1.31.
    V1Beta4,
}

/// A Kubernetes release: major and minor version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    major: u32,
    minor: u32,
}

impl Release {
    /// Parses `v1.20.2`, `1.31`, `v1.22.15-aliyun.1`.
    ///
    /// # Errors
    /// `Usage` if it does not start with two numbers.
    pub fn parse(version: &str) -> Result<Release> {
        let mut parts = version.trim().trim_start_matches('v').split(['.', '-', '+']);
        let mut number = || parts.next().and_then(|part| part.parse().ok());
        match (number(), number()) {
            (Some(major), Some(minor)) => Ok(Release { major, minor }),
            _ => Err(Failure::usage(format!("`{version}` is not a Kubernetes version"))
                .hint("build the image with `LABEL cluster.alpha.sealer.io/cluster-runtime-version=v1.20.2`")
                .into()),
        }
    }

    /// Whether it is `1.minor` or later.
    pub fn is_at_least(self, minor: u32) -> bool {
        self >= Release { major: 1, minor }
    }

    /// The newest API version that the kubeadm of this release reads.
    pub fn api_version(self) -> ApiVersion {
        match self {
            _ if self.is_at_least(31) => ApiVersion::V1Beta4,
            _ if self.is_at_least(22) => ApiVersion::V1Beta3,
            _ if self.is_at_least(15) => ApiVersion::V1Beta2,
            _ => ApiVersion::V1Beta1,
        }
    }
}

impl ApiVersion {
    /// The `apiVersion` of documents.
    pub fn name(self) -> &'static str {
        match self {
            ApiVersion::V1Beta1 => "kubeadm.k8s.io/v1beta1",
            ApiVersion::V1Beta2 => "kubeadm.k8s.io/v1beta2",
            ApiVersion::V1Beta3 => "kubeadm.k8s.io/v1beta3",
            ApiVersion::V1Beta4 => "kubeadm.k8s.io/v1beta4",
        }
    }

    /// Converts a document, with arguments as maps, to this version: removes unknown fields, moves those that have moved.
    pub fn adapt(self, document: &mut Value) {
        if self < ApiVersion::V1Beta2 {
            remove(document, &["certificateKey"]);
            remove(document, &["controlPlane", "certificateKey"]);
        }
        if self < ApiVersion::V1Beta3 {
            for field in ["skipPhases", "patches"] {
                remove(document, &[field]);
            }
            remove(document, &["nodeRegistration", "imagePullPolicy"]);
        } else {
            remove(document, &["dns", "type"]);
            remove(document, &["useHyperKubeImage"]);
        }
        if self >= ApiVersion::V1Beta4 {
            self.move_timeouts(document);
            arguments_to_lists(document);
        }
    }

    /// Moves the timeout of the control plane from ClusterConfiguration to InitConfiguration, where v1beta4 has it.
    pub fn move_health_timeout(self, configuration: &Value, init: &mut Value) {
        if let Some(timeout) = configuration.pointer("/apiServer/timeoutForControlPlane")
            && self >= ApiVersion::V1Beta4
        {
            set_timeout(init, "controlPlaneComponentHealthCheck", timeout.clone());
        }
    }

    /// Moves timeouts to the section `timeouts`, where v1beta4 has them.
    fn move_timeouts(self, document: &mut Value) {
        remove(document, &["apiServer", "timeoutForControlPlane"]);
        if let Some(timeout) = remove(document, &["discovery", "timeout"]) {
            set_timeout(document, "discovery", timeout);
        }
    }
}

/// Sets a timeout, unless the document sets it already.
fn set_timeout(document: &mut Value, name: &str, timeout: Value) {
    object(object(document).entry("timeouts").or_insert(Value::Null)).entry(name).or_insert(timeout);
}

fn remove(document: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(document, |value, key| value.get_mut(key))?;
    parent.as_object_mut()?.shift_remove(*last)
}

/// Whether a field contains the arguments of a program.
fn is_arguments_field(field: &str) -> bool {
    ["extraArgs", "kubeletExtraArgs"].contains(&field)
}

/// Converts arguments to maps, as until v1beta3; since v1beta4 they are lists of name and value. Maps can be merged.
pub fn arguments_to_maps(document: &mut Value) {
    each_arguments(document, &|arguments| {
        let Value::Array(list) = arguments else { return };
        let pairs = list.iter().filter_map(|item| Some((item.get("name")?.as_str()?.to_owned(), item.get("value")?.clone())));
        *arguments = Value::Object(pairs.collect());
    });
}

fn arguments_to_lists(document: &mut Value) {
    each_arguments(document, &|arguments| {
        let Value::Object(map) = arguments else { return };
        *arguments = map.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
    });
}

fn each_arguments(value: &mut Value, change: &dyn Fn(&mut Value)) {
    match value {
        Value::Object(fields) => {
            for (name, child) in fields.iter_mut() {
                if is_arguments_field(name) { change(child) } else { each_arguments(child, change) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_arguments(item, change)),
        _ => {}
    }
}

/// Converts arguments to strings, as kubeadm requires, where YAML has a number or a boolean.
pub fn arguments_to_text(document: &mut Value) {
    each_arguments(document, &|arguments| {
        for value in arguments.as_object_mut().into_iter().flat_map(Map::values_mut) {
            if !value.is_string() {
                *value = Value::String(value.to_string());
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_gets_the_newest_documents_that_it_reads() {
        let cases = [
            ("v1.14.10", "v1beta1"),
            ("1.15.0", "v1beta2"),
            ("v1.20.2", "v1beta2"),
            ("v1.22.15-aliyun.1", "v1beta3"),
            ("v1.24.0", "v1beta3"),
            ("1.30", "v1beta3"),
            ("v1.31.0+build", "v1beta4"),
            ("v2.0.0", "v1beta4"),
        ];
        for (version, expected) in cases {
            assert_eq!(Release::parse(version).unwrap().api_version().name(), format!("kubeadm.k8s.io/{expected}"), "{version}");
        }
        for wrong in ["", "latest", "v1", "v1.x.2"] {
            assert!(Release::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arguments_are_converted_to_maps_and_to_lists() {
        let mut document = json!({"apiServer": {"extraArgs": [{"name": "v", "value": 4}, {"name": "a", "value": "b"}]}});
        arguments_to_maps(&mut document);
        arguments_to_text(&mut document);
        assert_eq!(document, json!({"apiServer": {"extraArgs": {"v": "4", "a": "b"}}}));
        ApiVersion::V1Beta4.adapt(&mut document);
        assert_eq!(document["apiServer"]["extraArgs"][0], json!({"name": "v", "value": "4"}));
    }

    #[test]
    fn timeouts_move_to_the_section_timeouts() {
        let (mut configuration, mut init) = (json!({"apiServer": {"timeoutForControlPlane": "9m0s"}}), json!({}));
        for (api, expected) in
            [(ApiVersion::V1Beta3, json!({})), (ApiVersion::V1Beta4, json!({"timeouts": {"controlPlaneComponentHealthCheck": "9m0s"}}))]
        {
            api.move_health_timeout(&configuration, &mut init);
            api.adapt(&mut configuration);
            assert_eq!(init, expected);
        }
        assert_eq!(configuration, json!({"apiServer": {}}));
    }
}
