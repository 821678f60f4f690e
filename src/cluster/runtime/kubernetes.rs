//! Kubernetes clusters: the desired resources of their hosts, and the kubeadm configuration.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};

use super::kubeadm::Release;
use super::kubeadm::config::{self, ClusterValues, Discovery, NodeValues};
use super::kubernetes_version::{numbers, release, version};
use super::sealer;
use crate::cluster::{DesiredHost, DesiredState, ImagePart, JoinCredentials, api_server, file_overrides};
use crate::clusterfile::{self, Clusterfile, HostSpec, KubeadmDocuments, MASTER, NODE, Networks, Taint};
use crate::resource::{Content, KubeNode, KubeadmInit, KubeadmJoin, Resource, SystemdUnit};

/// The image's defaults for the kubeadm configuration.
const DEFAULTS: &str = "etc/kubeadm.yml";
const KUBELET: &str = "kubelet.service";
const CRI_SOCKET: &str = "/run/containerd/containerd.sock";

/// The desired resources of a host before it is a member of the cluster: the kubelet, which kubeadm wants to find enabled. It is not
/// started before kubeadm has written its configuration.
pub fn enabled_kubelet() -> Resource {
    Resource::SystemdUnit(SystemdUnit::enabled(KUBELET))
}

/// The desired resources of a host as a member of the cluster: `kubeadm init` or `join`, and a running kubelet.
pub fn resources(desired: &DesiredState, host: &DesiredHost) -> Vec<Resource> {
    let Some(config) = &host.kubeadm else { return Vec::new() };
    let kubelet = SystemdUnit { running: true, ..SystemdUnit::enabled(KUBELET) };
    vec![member(desired, host, config.clone()), Resource::SystemdUnit(kubelet)]
}

fn member(desired: &DesiredState, host: &DesiredHost, config: Content) -> Resource {
    let node = host.name.clone();
    let (master, without_coredns) = (host.spec.is_master(), !has_coredns(desired));
    let only_if = |applies: bool, what: &str| if applies { vec![what.to_owned()] } else { Vec::new() };
    if is_first(desired, host) {
        let undisabled = without_coredns && !can_disable_dns(release(desired.part(desired.leader())));
        return Resource::KubeadmInit(KubeadmInit {
            node,
            config,
            skip_phases: only_if(undisabled, "addon/coredns"),
            ignore_preflight_errors: only_if(undisabled, "ImagePull"),
        });
    }
    let join_endpoint = master.then(|| (api_server::NAME.to_owned(), desired.contact()));
    // workers pull nothing before they join; of a master the configuration in the cluster decides, which an older sealift may have made
    let ignore_preflight_errors = only_if(master && without_coredns, "ImagePull");
    Resource::KubeadmJoin(KubeadmJoin { node, master, config, join_endpoint, ignore_preflight_errors })
}

fn has_coredns(desired: &DesiredState) -> bool {
    desired.part(desired.leader()).workloads.iter().any(|name| name.contains("coredns"))
}

/// Whether `dns.disabled` keeps kubeadm from pulling and launching CoreDNS. Older ones pull every image of their list before they
/// begin, CoreDNS too, whose name cannot be changed: without it in the image, that check must be ignored as a whole.
fn can_disable_dns(release: Option<Release>) -> bool {
    release.is_some_and(|release| release.is_at_least(31))
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

/// The kubeadm documents in the image.
pub(super) fn defaults(part: &ImagePart) -> Result<KubeadmDocuments> {
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
    let version = version(desired, defaults)?;
    Ok(ClusterValues {
        dns_disabled: !has_coredns(desired) && can_disable_dns(Release::parse(&version).ok()),
        dns_repository: dns_repository(desired, defaults, &version),
        version,
        name: desired.name().to_owned(),
        endpoint: format!("{}:{}", api_server::NAME, api_server::PORT),
        cert_sans: masters.chain(cluster.cert_sans.iter().cloned()).collect(),
        networks: cluster.networks.clone(),
        image_repository: None,
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
/// since 1.21.2 omits if the repository is not its default.
fn dns_repository(desired: &DesiredState, defaults: &KubeadmDocuments, version: &str) -> Option<String> {
    let url = desired.leader().env.get("RegistryURL")?;
    let repository = defaults.cluster.as_ref()?.get("imageRepository")?.as_str()?;
    let has_path = desired.part(desired.leader()).workloads.iter().any(|name| name.contains("/coredns/coredns:"));
    let adds_path = ["1.21.0", "1.21.1"].contains(&numbers(version));
    (repository == url && has_path && !adds_path).then(|| format!("{url}/coredns"))
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
pub(super) mod tests {
    use super::*;
    use crate::cluster::image_content::tests::part;
    use crate::cluster::stage::{Action, STAGES};
    use crate::cluster::{ImageContent, Membership, Node, Observed};
    use crate::host::facts::Facts;
    use crate::image::Blob;
    use oci_spec::image::{Descriptor, MediaType};
    use std::net::IpAddr;

    /// The hosts of that cluster.
    pub const HOSTS: [(&str, [u8; 4]); 3] = [("h1", [10, 0, 0, 1]), ("h2", [10, 0, 0, 2]), ("h3", [10, 0, 0, 3])];

    /// A cluster of two masters and a worker, with an image of this version that contains these container images.
    pub fn desired(version: &str, workloads: &[&str], membership: Option<Membership>) -> DesiredState {
        let text = "apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {name: shop}\nspec:\n  image: shop:2\n  hosts:\n  \
            - {ips: [10.0.0.1, 10.0.0.2], roles: [master]}\n  - {ips: [10.0.0.3], roles: [node]}\n";
        let mut part = part([]);
        part.config.runtime_version = Some(version.to_owned());
        part.workloads = workloads.iter().map(|name| (*name).to_owned()).collect();
        let blob = Blob::of(b"index");
        let descriptor =
            Descriptor::new(MediaType::ImageIndex, blob.size, blob.digest.to_string().parse::<oci_spec::image::Digest>().unwrap());
        let image = ImageContent { name: "shop:2".parse().unwrap(), descriptor, parts: vec![part] };
        let facts = HOSTS.map(|(name, address)| {
            let facts = Facts { hostname: name.to_owned(), machine: std::env::consts::ARCH.to_owned(), ..Facts::default() };
            (IpAddr::from(address), facts)
        });
        let observed = Observed { facts: facts.into(), membership, ..Observed::default() };
        DesiredState::new(clusterfile::load("Clusterfile", text).unwrap(), vec![image], observed).unwrap()
    }

    /// The members of that cluster, all of this version.
    pub fn membership(version: &str) -> Membership {
        let node = |(name, address): (&str, [u8; 4])| Node {
            name: name.to_owned(),
            addresses: vec![address.into()],
            version: version.to_owned(),
            ..Node::default()
        };
        Membership {
            leader: Some(IpAddr::from(HOSTS[0].1)),
            members: HOSTS.map(|(name, address)| (IpAddr::from(address), name != "h3")).into(),
            nodes: HOSTS.map(node).into(),
            version: Some(version.to_owned()),
            ..Membership::default()
        }
    }

    #[test]
    fn kubeadm_is_told_what_the_image_does_not_contain() {
        type Case = (&'static str, &'static [&'static str], &'static str, &'static str, &'static str, bool);
        let cases: [Case; 4] = [
            ("v1.20.2", &["registry.k8s.io/coredns:1.7.0"], "", "", "", false),
            ("v1.31.0", &["registry.k8s.io/coredns/coredns:v1.11.1"], "", "", "", false),
            ("v1.20.2", &["registry.k8s.io/pause:3.2"], "addon/coredns", "ImagePull", "ImagePull", false),
            ("v1.31.0", &["registry.k8s.io/pause:3.10"], "", "", "ImagePull", true),
        ];
        for (version, workloads, skipped, init_ignores, join_ignores, disabled) in cases {
            let desired = desired(version, workloads, None);
            let members: Vec<Resource> = desired.hosts.iter().map(|host| resources(&desired, host).remove(0)).collect();
            let [Resource::KubeadmInit(init), Resource::KubeadmJoin(master), Resource::KubeadmJoin(worker)] = members.as_slice() else {
                panic!("{members:?}")
            };
            assert_eq!(init.skip_phases.join(","), skipped, "{version} {workloads:?}");
            assert_eq!(init.ignore_preflight_errors.join(","), init_ignores, "{version} {workloads:?}");
            assert_eq!(master.ignore_preflight_errors.join(","), join_ignores, "{version} {workloads:?}");
            assert!(worker.ignore_preflight_errors.is_empty(), "{version} {workloads:?}");
            let config = String::from_utf8_lossy(init.config.bytes()).into_owned();
            assert_eq!(config.contains("dns:\n  disabled: true\n"), disabled, "{version} {workloads:?}: {config}");
        }
    }

    #[test]
    fn the_kubelet_is_enabled_before_kubeadm_runs_and_started_by_it() {
        let desired = desired("v1.20.2", &[], None);
        let stages = STAGES.iter().flat_map(|stage| (stage.desired_resources)(&desired));
        let of_h1 = stages.filter(|resource| resource.host == IpAddr::from(HOSTS[0].1));
        let found: Vec<String> = of_h1
            .filter_map(|resource| match resource.action {
                Action::Resource(Resource::SystemdUnit(unit)) if unit.name == KUBELET => {
                    Some(format!("enabled {}, running {}", unit.enabled, unit.running))
                }
                Action::Resource(Resource::KubeadmInit(_)) => Some("kubeadm".to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(found, ["enabled true, running false", "kubeadm", "enabled true, running true"]);
    }
}
