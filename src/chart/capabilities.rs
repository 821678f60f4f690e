//! `.Capabilities`: the Kubernetes version and the API versions of the cluster.

use super::api_versions::of_kubernetes;
use super::objects::ApiVersions;
use super::render::Release;
use crate::template::functions::version::Version;
use crate::template::{JsonNames, Struct, Value};

/// A Kubernetes version as `.Capabilities` has it: with a `v` and all its numbers.
///
/// # Errors
/// Fails with Helm's message where it is not a semantic version.
pub fn kube_version(version: &str) -> Result<String, String> {
    match Version::parse(version) {
        Ok(version) => Ok(format!("v{version}")),
        Err(message) => Err(format!("invalid kube version '{version}': {message}")),
    }
}

/// Makes `.Capabilities`.
///
/// # Errors
/// Fails where the Kubernetes version is not a semantic version.
pub fn capabilities(release: &Release) -> Result<Value, String> {
    let full = kube_version(&release.kube_version)?;
    let [major, minor, _] = Version::parse(&full)?.numbers;
    let object = |ty, json, fields| Value::object(Struct { ty, fields, methods: Vec::new(), json });
    let kube = Value::object(Struct {
        ty: "chartutil.KubeVersion",
        fields: vec![("Version", Value::text(&full)), ("Major", Value::text(major.to_string())), ("Minor", Value::text(minor.to_string()))],
        methods: vec![("GitVersion", Value::text(&full)), ("String", Value::text(&full))],
        json: JsonNames::Fields,
    });
    let versions =
        of_kubernetes(if major > 1 { u64::MAX } else { minor }).map(str::to_owned).chain(release.api_versions.iter().cloned()).collect();
    let versions = Value::object(ApiVersions(versions));
    let helm = object(
        "version.BuildInfo",
        JsonNames::Snake,
        release.helm.build().iter().map(|(name, value)| (*name, Value::text(value))).collect(),
    );
    Ok(object("*chartutil.Capabilities", JsonNames::Fields, vec![("KubeVersion", kube), ("APIVersions", versions), ("HelmVersion", helm)]))
}
