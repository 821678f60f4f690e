//! Kubernetes: what its hosts shall have, from the Clusterfile, the image and the hosts.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};

use super::kubeadm::config::{self, ClusterValues, Discovery, NodeValues};
use super::sealer;
use crate::cluster::{DesiredHost, DesiredState, ImagePart, JoinCredentials, api_server, file_overrides};
use crate::clusterfile::{self, Clusterfile, KubeadmDocuments, MASTER, NODE, Networks};
use crate::error::Failure;
use crate::kubefile::VersionRange;
use crate::resource::{Content, KubeNode, KubeadmInit, KubeadmJoin, Resource, SystemdUnit};

/// The place in the image of the defaults of kubeadm's documents.
const DEFAULTS: &str = "etc/kubeadm.yml";
const CRI_SOCKET: &str = "/run/containerd/containerd.sock";

/// What a host shall have as a member of the cluster.
pub fn resources(desired: &DesiredState, host: &DesiredHost) -> Vec<Resource> {
    let Some(config) = &host.kubeadm else { return Vec::new() };
    let kubelet = SystemdUnit { name: "kubelet.service".into(), enabled: true, running: true, inputs: Vec::new() };
    vec![member(desired, host, config.clone()), Resource::Unit(kubelet)]
}

fn member(desired: &DesiredState, host: &DesiredHost, config: Content) -> Resource {
    let node = host.name.clone();
    // kubeadm wants to pull every image of its own list beforehand, CoreDNS too
    let dns = desired.part(desired.first_master()).workloads.iter().any(|name| name.contains("coredns"));
    let without_dns = |what: &str| if dns { Vec::new() } else { vec![what.to_owned()] };
    let ignore = without_dns("ImagePull");
    if is_first(desired, host) {
        return Resource::KubeadmInit(KubeadmInit { node, config, skip_phases: without_dns("addon/coredns"), ignore });
    }
    let master = host.spec.is_master();
    let meanwhile = master.then(|| (api_server::NAME.to_owned(), desired.first_master().address()));
    Resource::KubeadmJoin(KubeadmJoin { node, master, config, meanwhile, ignore })
}

fn is_first(desired: &DesiredState, host: &DesiredHost) -> bool {
    host.address() == desired.first_master().address()
}

/// The documents that kubeadm reads on a host. Tickets are filled in when they are applied.
///
/// # Errors
/// Fails if the image does not say which version it brings, or its defaults are no YAML.
pub fn documents(desired: &DesiredState, host: &DesiredHost) -> Result<Content> {
    let defaults = defaults(desired.part(desired.first_master()))?;
    let (cluster, node) = (cluster_values(desired, &defaults)?, node_values(host));
    let own = &desired.clusterfile.kubeadm;
    let text = if is_first(desired, host) {
        config::init(&defaults, own, &cluster, &node)?
    } else {
        let discovery = Discovery::Token { ca_cert_hashes: vec![JoinCredentials::CA_HASH.to_owned()] };
        config::join(&defaults, own, &cluster, &node, &discovery)?
    };
    Ok(Content::from(text.expose_secret()))
}

/// The Kubernetes version that the image brings.
pub fn version(desired: &DesiredState, defaults: &KubeadmDocuments) -> Result<String> {
    let config = desired.config();
    let labelled = || config.labels.get("cluster.alpha.sealer.io/cluster-runtime-version").cloned();
    let in_defaults = || defaults.cluster.as_ref()?.get("kubernetesVersion")?.as_str().map(str::to_owned);
    config.runtime_version.clone().or_else(labelled).or_else(in_defaults).ok_or_else(|| {
        Failure::usage(format!("image {} does not say which Kubernetes it brings", desired.image.name.familiar()))
            .hint("build it with `LABEL cluster.alpha.sealer.io/cluster-runtime-version=v1.2.3`")
            .into()
    })
}

/// Refuses an image whose applications need another Kubernetes than it brings (KUBEVERSION).
///
/// # Errors
/// `Usage` if it is out of the range, or the range is none.
pub fn refuse_version(desired: &DesiredState) -> Result<()> {
    let Some(range) = desired.config().kube_version.as_deref().filter(|_| desired.is_kubernetes()) else { return Ok(()) };
    let brought = version(desired, &defaults(desired.part(desired.first_master()))?)?;
    suits(range, &brought).with_context(|| format!("image {}", desired.image.name.familiar()))
}

fn suits(range: &str, version: &str) -> Result<()> {
    if range.parse::<VersionRange>()?.matches(version)? {
        return Ok(());
    }
    Err(Failure::usage(format!("its applications need Kubernetes {range} (KUBEVERSION), but it brings {version}"))
        .hint(
            "build the image FROM a cluster image with a Kubernetes in that range, or ask the maker of the application for one that suits",
        )
        .into())
}

/// The networks of pods and services that a cluster will have.
pub fn networks(clusterfile: &Clusterfile, part: &ImagePart) -> Result<Networks> {
    let mut part = part.clone();
    file_overrides::apply(clusterfile, &mut part)?;
    // what templates want besides is known when hosts are; until then they say nothing
    let env = clusterfile.cluster.merge_image_env(&part.config.env);
    file_overrides::render(&mut part, &env).ok();
    Ok(config::networks(&defaults(&part)?, &clusterfile.kubeadm, &clusterfile.cluster.networks))
}

fn defaults(part: &ImagePart) -> Result<KubeadmDocuments> {
    match part.text(DEFAULTS) {
        Some(text) => Ok(clusterfile::load(DEFAULTS, text).context("the image's defaults for kubeadm")?.kubeadm),
        None => Ok(KubeadmDocuments::default()),
    }
}

/// What the Clusterfile says about a node besides, if anything. Roles become labels.
pub fn node(host: &DesiredHost) -> Option<Resource> {
    let mut labels = host.spec.labels.clone();
    let role = |role: &str| (format!("node-role.kubernetes.io/{role}"), String::new());
    labels.extend(host.spec.roles.iter().filter(|own| *own != MASTER && *own != NODE).map(|own| role(own)));
    if !host.spec.is_master() {
        labels.extend([role("worker")]);
    }
    let taints: Vec<String> = host.spec.taints.iter().map(ToString::to_string).collect();
    (!labels.is_empty() || !taints.is_empty()).then(|| Resource::KubeNode(KubeNode { node: host.name.clone(), labels, taints }))
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

/// What the environment says; where it says nothing, images of Sealer's mean systemd, whatever their kubelet documents say.
fn cgroup_driver(desired: &DesiredState) -> Option<String> {
    let host = desired.first_master();
    let said = desired.clusterfile.cluster.env.get("CgroupDriver").cloned();
    if !sealer::is_sealers(desired.part(host)) {
        return said;
    }
    said.or_else(|| desired.config().env.get("CgroupDriver").cloned()).or_else(|| Some("systemd".to_owned()))
}

/// Since 1.21 CoreDNS has a path of its own, which kubeadm leaves out where the repository is not its default. In the registry
/// on site, images keep their paths.
fn dns_repository(desired: &DesiredState, defaults: &KubeadmDocuments) -> Option<String> {
    let url = desired.first_master().env.get("RegistryURL")?;
    let repository = defaults.cluster.as_ref()?.get("imageRepository")?.as_str()?;
    let has_path = desired.part(desired.first_master()).workloads.iter().any(|name| name.contains("/coredns/coredns:"));
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
            assert_eq!(suits(range, version).is_ok(), fits, "{range} {version}");
        }
        let error = suits(">=1.21", "v1.20.2").unwrap_err().to_string();
        assert!(error.contains(">=1.21") && error.contains("v1.20.2"), "{error}");
        assert!(suits(">=1.21", "latest").is_err());
    }
}
