//! `.Capabilities`: the Kubernetes version and the API versions of the cluster.

use super::objects::ApiVersions;
use crate::template::functions::version::Version;
use crate::template::{Object as _, Struct, Value, display};

/// The Kubernetes version that charts are rendered for by default, as in Helm 3.6.
pub const DEFAULT_KUBE_VERSION: &str = "v1.20.0";

/// The API versions that every cluster has: Helm 3.6 without a cluster.
const API_VERSIONS: [&str; 45] = [
    "v1",
    "admissionregistration.k8s.io/v1",
    "admissionregistration.k8s.io/v1beta1",
    "internal.apiserver.k8s.io/v1alpha1",
    "apps/v1",
    "apps/v1beta1",
    "apps/v1beta2",
    "authentication.k8s.io/v1",
    "authentication.k8s.io/v1beta1",
    "authorization.k8s.io/v1",
    "authorization.k8s.io/v1beta1",
    "autoscaling/v1",
    "autoscaling/v2beta1",
    "autoscaling/v2beta2",
    "batch/v1",
    "batch/v1beta1",
    "certificates.k8s.io/v1",
    "certificates.k8s.io/v1beta1",
    "coordination.k8s.io/v1",
    "coordination.k8s.io/v1beta1",
    "discovery.k8s.io/v1",
    "discovery.k8s.io/v1beta1",
    "events.k8s.io/v1",
    "events.k8s.io/v1beta1",
    "extensions/v1beta1",
    "flowcontrol.apiserver.k8s.io/v1alpha1",
    "flowcontrol.apiserver.k8s.io/v1beta1",
    "networking.k8s.io/v1",
    "networking.k8s.io/v1beta1",
    "node.k8s.io/v1",
    "node.k8s.io/v1alpha1",
    "node.k8s.io/v1beta1",
    "policy/v1",
    "policy/v1beta1",
    "rbac.authorization.k8s.io/v1",
    "rbac.authorization.k8s.io/v1beta1",
    "rbac.authorization.k8s.io/v1alpha1",
    "scheduling.k8s.io/v1alpha1",
    "scheduling.k8s.io/v1beta1",
    "scheduling.k8s.io/v1",
    "storage.k8s.io/v1beta1",
    "storage.k8s.io/v1",
    "storage.k8s.io/v1alpha1",
    "apiextensions.k8s.io/v1beta1",
    "apiextensions.k8s.io/v1",
];

/// Makes `.Capabilities` for a Kubernetes version and additional API versions, such as those of `crds/`.
///
/// # Errors
/// Fails where the Kubernetes version is not a semantic version.
pub fn capabilities(kube_version: &str, additional: &[String]) -> Result<Value, String> {
    let version = Version::parse(kube_version).map_err(|_| format!("invalid kube version {kube_version:?}"))?;
    let number = |name: &str| match version.member(name, &[]) {
        Some(Ok(value)) => Value::text(display(&value)),
        _ => Value::text(""),
    };
    let full = format!("v{}", kube_version.trim_start_matches('v'));
    let object = |ty, fields| Value::object(Struct { ty, fields, methods: Vec::new() });
    let kube = Value::object(Struct {
        ty: "chartutil.KubeVersion",
        fields: vec![("Version", Value::text(&full)), ("Major", number("Major")), ("Minor", number("Minor"))],
        methods: vec![("GitVersion", Value::text(&full)), ("String", Value::text(&full))],
    });
    let versions = API_VERSIONS.iter().map(|version| (*version).to_owned()).chain(additional.iter().cloned()).collect();
    let versions = Value::object(ApiVersions(versions));
    let helm = object(
        "version.BuildInfo",
        vec![
            ("Version", Value::text("v3.6.2")),
            ("GitCommit", Value::text("")),
            ("GitTreeState", Value::text("clean")),
            ("GoVersion", Value::text("")),
        ],
    );
    Ok(object("*chartutil.Capabilities", vec![("KubeVersion", kube), ("APIVersions", versions), ("HelmVersion", helm)]))
}
