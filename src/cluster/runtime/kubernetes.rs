//! Kubernetes clusters: the desired resources of their hosts, and the kubeadm configuration.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};

use super::kubeadm::config::{self, ClusterValues, Discovery, NodeValues};
use super::sealer;
use crate::cluster::{DesiredHost, DesiredState, ImagePart, JoinCredentials, api_server, file_overrides};
use crate::clusterfile::{self, Clusterfile, HostSpec, KubeadmDocuments, MASTER, NODE, Networks, Taint};
use crate::error::Failure;
use crate::kubefile::VersionRange;
use crate::resource::{Content, KubeNode, KubeadmInit, KubeadmJoin, Resource, SystemdUnit};

/// The image's defaults for the kubeadm configuration.
const DEFAULTS: &str = "etc/kubeadm.yml";
const CRI_SOCKET: &str = "/run/containerd/containerd.sock";

/// The desired resources of a host as a member of the cluster: `kubeadm init` or `join`, and a running kubelet.
pub fn resources(desired: &DesiredState, host: &DesiredHost) -> Vec<Resource> {
    let Some(config) = &host.kubeadm else { return Vec::new() };
    let kubelet = SystemdUnit { name: "kubelet.service".into(), enabled: true, running: true, inputs: Vec::new() };
    vec![member(desired, host, config.clone()), Resource::SystemdUnit(kubelet)]
}

fn member(desired: &DesiredState, host: &DesiredHost, config: Content) -> Resource {
    let node = host.name.clone();
    // kubeadm pulls every image of its list first, CoreDNS too: without it in the image that check must be ignored
    let has_coredns = desired.part(desired.leader()).workloads.iter().any(|name| name.contains("coredns"));
    let without_coredns = |what: &str| if has_coredns { Vec::new() } else { vec![what.to_owned()] };
    let ignore = without_coredns("ImagePull");
    if is_first(desired, host) {
        return Resource::KubeadmInit(KubeadmInit {
            node,
            config,
            skip_phases: without_coredns("addon/coredns"),
            ignore_preflight_errors: ignore,
        });
    }
    let master = host.spec.is_master();
    let join_endpoint = master.then(|| (api_server::NAME.to_owned(), desired.contact()));
    Resource::KubeadmJoin(KubeadmJoin { node, master, config, join_endpoint, ignore_preflight_errors: ignore })
}

fn is_first(desired: &DesiredState, host: &DesiredHost) -> bool {
    desired.is_new() && host.address() == desired.leader().address()
}

/// The kubeadm configuration of a host: YAML documents, with placeholders for the join credentials.
///
/// # Errors
/// Fails if the image does not name its Kubernetes version, or its defaults are not valid YAML.
pub fn documents(desired: &DesiredState, host: &DesiredHost) -> Result<Content> {
    let defaults = defaults(desired.part(desired.leader()))?;
    let (cluster, node) = (cluster_values(desired, &defaults)?, node_values(host));
    let overrides = &desired.clusterfile.kubeadm;
    let text = if is_first(desired, host) {
        config::init(&defaults, overrides, &cluster, &node)?
    } else {
        let discovery = Discovery::Token { ca_cert_hashes: vec![JoinCredentials::CA_HASH.to_owned()] };
        config::join(&defaults, overrides, &cluster, &node, &discovery)?
    };
    Ok(Content::from(text.expose_secret()))
}

/// The Kubernetes version that the image contains, such as `v1.20.2`.
///
/// # Errors
/// `Usage` if neither the image's configuration, nor its labels, nor its kubeadm defaults name it.
pub fn version(desired: &DesiredState, defaults: &KubeadmDocuments) -> Result<String> {
    let config = desired.config();
    let from_label = || config.labels.get("cluster.alpha.sealer.io/cluster-runtime-version").cloned();
    let from_defaults = || defaults.cluster.as_ref()?.get("kubernetesVersion")?.as_str().map(str::to_owned);
    config.runtime_version.clone().or_else(from_label).or_else(from_defaults).ok_or_else(|| {
        Failure::usage(format!("image {} does not name its Kubernetes version", desired.image.name.familiar()))
            .hint("build it with `LABEL cluster.alpha.sealer.io/cluster-runtime-version=v1.2.3`")
            .into()
    })
}

/// Checks the Kubernetes version of the image against the range that its applications need (KUBEVERSION).
///
/// # Errors
/// `Usage` if the version is out of the range, or the range is not valid.
pub fn check_kube_version(desired: &DesiredState) -> Result<()> {
    let Some(range) = desired.config().kube_version.as_deref().filter(|_| desired.is_kubernetes()) else { return Ok(()) };
    let version = version(desired, &defaults(desired.part(desired.leader()))?)?;
    check_version_range(range, &version).with_context(|| format!("image {}", desired.image.name.familiar()))
}

fn check_version_range(range: &str, version: &str) -> Result<()> {
    if range.parse::<VersionRange>()?.matches(version)? {
        return Ok(());
    }
    Err(Failure::usage(format!("its applications need Kubernetes {range} (KUBEVERSION), but it contains {version}"))
        .hint("build the image FROM a cluster image with a Kubernetes version in that range, or use another release of the application")
        .into())
}

/// The pod and service networks of a cluster, before facts about its hosts are known.
///
/// # Errors
/// Fails if an override does not apply, or the kubeadm defaults are not valid YAML.
pub fn networks(clusterfile: &Clusterfile, part: &ImagePart) -> Result<Networks> {
    Ok(config::networks(&early_defaults(clusterfile, part)?, &clusterfile.kubeadm, &clusterfile.cluster.networks))
}

/// Whether kube-proxy runs in the mode `ipvs`, before facts about the hosts are known.
///
/// # Errors
/// As [`networks`].
pub fn uses_ipvs(clusterfile: &Clusterfile, part: &ImagePart) -> Result<bool> {
    let defaults = early_defaults(clusterfile, part)?;
    let mode = |documents: &KubeadmDocuments| documents.kube_proxy.as_ref()?.get("mode")?.as_str().map(str::to_owned);
    Ok(mode(&clusterfile.kubeadm).or_else(|| mode(&defaults)).is_some_and(|mode| mode == "ipvs"))
}

/// The image's defaults as far as they are known before facts about the hosts: templates that need variables of hosts stay unrendered.
fn early_defaults(clusterfile: &Clusterfile, part: &ImagePart) -> Result<KubeadmDocuments> {
    let mut part = part.clone();
    file_overrides::apply(clusterfile, &mut part)?;
    let env = clusterfile.cluster.merge_image_env(&part.config.env);
    file_overrides::render(&mut part, &env).ok();
    defaults(&part)
}

fn defaults(part: &ImagePart) -> Result<KubeadmDocuments> {
    match part.text(DEFAULTS) {
        Some(text) => Ok(clusterfile::load(DEFAULTS, text).context("kubeadm defaults of the image")?.kubeadm),
        None => Ok(KubeadmDocuments::default()),
    }
}

/// The labels and taints of a node from the Clusterfile, without those that an earlier one had; `None` if there are none. Roles become
/// `node-role.kubernetes.io/` labels.
pub fn node_settings(desired: &DesiredState, host: &DesiredHost) -> Option<Resource> {
    let labels = node_labels(&host.spec);
    let mut taints: Vec<String> = host.spec.taints.iter().map(ToString::to_string).collect();
    let recorded = desired.membership.as_ref().and_then(|membership| membership.recorded.as_ref());
    let earlier = recorded.and_then(|recorded| recorded.cluster.host(host.address())).filter(|_| !host.rejoins);
    let absent_labels = earlier.map(node_labels).unwrap_or_default().into_keys().filter(|key| !labels.contains_key(key)).collect();
    let unwanted =
        |taint: &&Taint| !taint.remove && !host.spec.taints.iter().any(|other| other.key == taint.key && other.effect == taint.effect);
    let removed = |taint: &Taint| Taint { remove: true, ..taint.clone() }.to_string();
    taints.extend(earlier.into_iter().flat_map(|earlier| &earlier.taints).filter(unwanted).map(removed));
    let node = KubeNode { node: host.name.clone(), labels, taints, absent_labels };
    let is_empty = node.labels.is_empty() && node.taints.is_empty() && node.absent_labels.is_empty();
    (!is_empty).then_some(Resource::KubeNode(node))
}

fn node_labels(spec: &HostSpec) -> BTreeMap<String, String> {
    let mut labels = spec.labels.clone();
    let role = |role: &str| (format!("node-role.kubernetes.io/{role}"), String::new());
    labels.extend(spec.roles.iter().filter(|name| *name != MASTER && *name != NODE).map(|name| role(name)));
    if !spec.is_master() {
        labels.extend([role("worker")]);
    }
    labels
}

fn cluster_values(desired: &DesiredState, defaults: &KubeadmDocuments) -> Result<ClusterValues> {
    let cluster = &desired.clusterfile.cluster;
    let masters = desired.masters().map(|master| master.address().to_string());
    Ok(ClusterValues {
        version: version(desired, defaults)?,
        name: desired.name().to_owned(),
        endpoint: format!("{}:{}", api_server::NAME, api_server::PORT),
        cert_sans: masters.chain(cluster.cert_sans.iter().cloned()).collect(),
        networks: cluster.networks.clone(),
        image_repository: None,
        dns_repository: dns_repository(desired, defaults),
        cgroup_driver: cgroup_driver(desired),
        cri_socket: CRI_SOCKET.to_owned(),
        token: SecretString::from(JoinCredentials::TOKEN),
        certificate_key: SecretString::from(JoinCredentials::CERTIFICATE_KEY),
    })
}

/// The cgroup driver in the environment. Images in Sealer's layout default to systemd, whatever their KubeletConfiguration says.
fn cgroup_driver(desired: &DesiredState) -> Option<String> {
    let host = desired.leader();
    let from_env = desired.clusterfile.cluster.env.get("CgroupDriver").cloned();
    if !sealer::is_sealer_layout(desired.part(host)) {
        return from_env;
    }
    from_env.or_else(|| desired.config().env.get("CgroupDriver").cloned()).or_else(|| Some("systemd".to_owned()))
}

/// The repository of CoreDNS in the local registry, where images keep their paths. Since 1.21 CoreDNS has its own path, which kubeadm
/// omits if the repository is not its default.
fn dns_repository(desired: &DesiredState, defaults: &KubeadmDocuments) -> Option<String> {
    let url = desired.leader().env.get("RegistryURL")?;
    let repository = defaults.cluster.as_ref()?.get("imageRepository")?.as_str()?;
    let has_path = desired.part(desired.leader()).workloads.iter().any(|name| name.contains("/coredns/coredns:"));
    (repository == url && has_path).then(|| format!("{url}/coredns"))
}

fn node_values(host: &DesiredHost) -> NodeValues {
    NodeValues {
        name: host.name.clone(),
        address: host.address(),
        is_master: host.spec.is_master(),
        is_worker: host.spec.has_role(NODE),
        labels: BTreeMap::new(),
        taints: host.spec.taints.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_that_need_another_kubernetes_are_refused() {
        for (range, version, fits) in [
            (">=1.19.0 <1.23.0", "v1.20.2", true),
            (">=1.21", "v1.20.2", false),
            ("1.20.x || ^1.22", "v1.21.0", false),
            ("1.20.x", "v1.20.4-vendor.1", true),
        ] {
            assert_eq!(check_version_range(range, version).is_ok(), fits, "{range} {version}");
        }
        let error = check_version_range(">=1.21", "v1.20.2").unwrap_err().to_string();
        assert!(error.contains(">=1.21") && error.contains("v1.20.2"), "{error}");
        assert!(check_version_range(">=1.21", "latest").is_err());
    }
}
