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

/// The timeout of the control plane's health, as v1beta4 calls it.
const HEALTH_TIMEOUT: &str = "controlPlaneComponentHealthCheck";
/// The fields that documents have since v1beta4, apart from `timeouts`.
const SINCE_V1BETA4: [&str; 10] = [
    "encryptionAlgorithm",
    "certificateValidityPeriod",
    "caCertificateValidityPeriod",
    "dns.disabled",
    "proxy.disabled",
    "apiServer.extraEnvs",
    "controllerManager.extraEnvs",
    "scheduler.extraEnvs",
    "etcd.local.extraEnvs",
    "nodeRegistration.imagePullSerial",
];

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
        self.move_timeouts(document);
        if self >= ApiVersion::V1Beta4 {
            arguments_to_lists(document);
        }
    }

    /// Moves the timeout of the control plane to where this version has it: until v1beta3 in ClusterConfiguration, which joining nodes
    /// find in the cluster; since v1beta4 in InitConfiguration and JoinConfiguration, each for itself.
    pub fn move_health_timeout(self, configuration: &mut Value, node: &mut Value) {
        if self >= ApiVersion::V1Beta4 {
            if let Some(timeout) = configuration.pointer("/apiServer/timeoutForControlPlane") {
                set_timeout(node, HEALTH_TIMEOUT, timeout.clone());
            }
        } else if let Some(timeout) = remove(node, &["timeouts", HEALTH_TIMEOUT]) {
            let api_server = object(configuration).entry("apiServer").or_insert(Value::Null);
            object(api_server).insert("timeoutForControlPlane".to_owned(), timeout);
        }
    }

    /// Moves the timeouts of one document to where this version has them: in the section `timeouts` since v1beta4.
    fn move_timeouts(self, document: &mut Value) {
        if self >= ApiVersion::V1Beta4 {
            remove(document, &["apiServer", "timeoutForControlPlane"]);
            if let Some(timeout) = remove(document, &["discovery", "timeout"]) {
                set_timeout(document, "discovery", timeout);
            }
            return;
        }
        // without a section `discovery`, which only JoinConfiguration has, it says nothing
        if let Some(timeout) = remove(document, &["timeouts", "discovery"])
            && let Some(section) = document.get_mut("discovery")
        {
            object(section).insert("timeout".to_owned(), timeout);
        }
        if document.get("timeouts").and_then(Value::as_object).is_some_and(Map::is_empty) {
            remove(document, &["timeouts"]);
        }
    }

    /// The fields of a document that this version does not have: those of v1beta4 in an older one. kubeadm only warns of them.
    pub fn lost_fields(self, document: &Value) -> Vec<String> {
        if self >= ApiVersion::V1Beta4 {
            return Vec::new();
        }
        let says_something = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        let is_set = |path: &String| document.pointer(&format!("/{}", path.replace('.', "/"))).is_some_and(says_something);
        let timeouts = document.get("timeouts").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let fields = SINCE_V1BETA4.into_iter().map(str::to_owned).chain(timeouts.map(|name| format!("timeouts.{name}")));
        fields.filter(is_set).chain(repeated_arguments("", document)).collect()
    }
}

/// The arguments that stand more than once, with the path of their field.
fn repeated_arguments(path: &str, document: &Value) -> Vec<String> {
    let Value::Object(fields) = document else { return Vec::new() };
    let repeated = fields.iter().flat_map(|(name, child)| match child {
        Value::Object(arguments) if is_arguments_field(name) => {
            let repeated = arguments.iter().filter(|(_, value)| value.is_array());
            repeated.map(|(argument, _)| format!("a second {path}{name}.{argument}")).collect()
        }
        _ => repeated_arguments(&format!("{path}{name}."), child),
    });
    repeated.collect()
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

/// Converts arguments to maps, as until v1beta3; since v1beta4 they are lists of name and value. Maps can be merged. An argument that
/// stands more than once has an array of values.
pub fn arguments_to_maps(document: &mut Value) {
    each_arguments(document, &|arguments| {
        let Value::Array(list) = arguments else { return };
        let mut map = Map::new();
        for item in list {
            let (Some(name), Some(value)) = (item.get("name").and_then(Value::as_str), item.get("value")) else { continue };
            match map.get_mut(name) {
                None => drop(map.insert(name.to_owned(), value.clone())),
                Some(Value::Array(values)) => values.push(value.clone()),
                Some(first) => *first = json!([first, value]),
            }
        }
        *arguments = Value::Object(map);
    });
}

fn arguments_to_lists(document: &mut Value) {
    each_arguments(document, &|arguments| {
        let Value::Object(map) = arguments else { return };
        let one = |name: &str, value: &Value| json!({ "name": name, "value": value });
        let each = |(name, value): (&String, &Value)| match value {
            Value::Array(values) => values.iter().map(|value| one(name, value)).collect::<Vec<_>>(),
            value => vec![one(name, value)],
        };
        *arguments = map.iter().flat_map(each).collect();
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
            match value {
                Value::Array(values) => values.iter_mut().for_each(to_text),
                value => to_text(value),
            }
        }
    });
}

fn to_text(value: &mut Value) {
    if !value.is_string() {
        *value = Value::String(value.to_string());
    }
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
            api.move_health_timeout(&mut configuration, &mut init);
            api.adapt(&mut configuration);
            assert_eq!(init, expected);
        }
        assert_eq!(configuration, json!({"apiServer": {}}));
    }
}
