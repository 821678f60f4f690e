//! Kubernetes clusters: the desired resources of their hosts, and the kubeadm configuration.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use secrecy::{ExposeSecret as _, SecretString};

use super::kubeadm::Release;
use super::kubeadm::config::{self, ClusterValues, Discovery, NodeValues};
use super::sealer;
use crate::cluster::{DesiredHost, DesiredState, ImagePart, JoinCredentials, Membership, api_server, file_overrides};
use crate::clusterfile::{self, Clusterfile, HostSpec, KubeadmDocuments, MASTER, NODE, Networks, Taint};
use crate::error::Failure;
use crate::image::ClusterConfig;
use crate::kubefile::VersionRange;
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
    let kubelet = SystemdUnit { name: KUBELET.into(), enabled: true, running: true, inputs: Vec::new() };
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

/// The Kubernetes version that the image contains, such as `v1.20.2`.
///
/// # Errors
/// `Usage` if neither the image's configuration, nor its labels, nor its kubeadm defaults name it.
pub fn version(desired: &DesiredState, defaults: &KubeadmDocuments) -> Result<String> {
    version_of(desired.config(), defaults).ok_or_else(|| {
        Failure::usage(format!("image {} does not name its Kubernetes version", desired.image.name.familiar()))
            .hint("build it with `LABEL cluster.alpha.sealer.io/cluster-runtime-version=v1.2.3`")
            .into()
    })
}

fn version_of(config: &ClusterConfig, defaults: &KubeadmDocuments) -> Option<String> {
    let from_label = || config.labels.get("cluster.alpha.sealer.io/cluster-runtime-version").cloned();
    let from_defaults = || defaults.cluster.as_ref()?.get("kubernetesVersion")?.as_str().map(str::to_owned);
    config.runtime_version.clone().or_else(from_label).or_else(from_defaults)
}

/// The release of Kubernetes in an image; `None` if it names none.
pub fn release(part: &ImagePart) -> Option<Release> {
    Release::parse(&version_of(&part.config, &defaults(part).unwrap_or_default())?).ok()
}

/// Refuses an image with another version of Kubernetes than the running cluster has.
///
/// # Errors
/// `Usage` that names both versions.
pub fn check_running_version(desired: &DesiredState) -> Result<()> {
    let Some(membership) = desired.membership.as_ref().filter(|_| desired.is_kubernetes()) else { return Ok(()) };
    let image = version(desired, &defaults(desired.part(desired.leader()))?)?;
    let stays: Vec<IpAddr> = desired.hosts.iter().filter(|host| !host.rejoins).map(DesiredHost::address).collect();
    check_version_change(&RunningVersions::of(membership, &stays), &image)
        .with_context(|| format!("image {}", desired.image.name.familiar()))
}

/// The versions of Kubernetes in a running cluster.
#[derive(Debug, Default)]
struct RunningVersions<'a> {
    /// That of the control plane; `None` if kubeadm's record of it is gone.
    control_plane: Option<&'a str>,
    /// The nodes that stay, and the versions of their kubelets.
    kubelets: Vec<(&'a str, &'a str)>,
}

impl<'a> RunningVersions<'a> {
    fn of(membership: &'a Membership, stays: &[IpAddr]) -> Self {
        let nodes = membership.nodes.iter().filter(|node| node.addresses.iter().any(|address| stays.contains(address)));
        let kubelets = nodes.map(|node| (node.name.as_str(), node.version.as_str()));
        RunningVersions { control_plane: membership.version.as_deref(), kubelets: kubelets.collect() }
    }
}

/// Refuses another version of Kubernetes than the control plane has, also another patch of the same minor: the programs on the hosts
/// would change, while the control plane, which only `kubeadm upgrade` changes, would go on with its old containers. Its images, which
/// hosts that join and kube-proxy still need, would be gone from the registry; a security fix would look applied and not be.
///
/// Where the control plane has the version of the image, kubelets of an older minor are refused: they would skip `kubeadm upgrade node`.
/// Newer ones are not: they have no right to be newer than the API servers, and the image sets that right.
fn check_version_change(running: &RunningVersions<'_>, image: &str) -> Result<()> {
    let refuse = |what: &str, is: &str, hint: String| -> Result<()> {
        let message = format!("it has Kubernetes {image}, but {what} {is}: the version of a running cluster cannot be changed");
        Err(Failure::usage(message).hint(hint).hint("nothing was changed").into())
    };
    let same_version = |is: &str| format!("use an image with Kubernetes {is}: build the application FROM a cluster image of that version");
    if let Some(is) = running.control_plane.filter(|is| plain(is) != plain(image)) {
        return refuse("the cluster runs", is, same_version(is));
    }
    let release = Release::parse(image)?;
    for (node, is) in &running.kubelets {
        let Ok(kubelet) = Release::parse(is) else { continue };
        match running.control_plane {
            None if numbers(is) != numbers(image) => return refuse(&format!("the kubelet of {node} is"), is, same_version(is)),
            Some(_) if kubelet < release => {
                let hint = format!("upgrade the node {node} first, as the control plane was: by kubeadm's own `kubeadm upgrade node`");
                return refuse(&format!("the kubelet of {node} is still"), is, hint);
            }
            _ => {}
        }
    }
    Ok(())
}

fn plain(version: &str) -> &str {
    version.trim().trim_start_matches('v')
}

/// The numbers of a version. Kubelets do not always report what comes after.
fn numbers(version: &str) -> &str {
    plain(version).split(['-', '+']).next().unwrap_or_default()
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
mod tests {
    use super::*;

    #[test]
    fn another_version_than_that_of_the_running_cluster_is_refused() {
        let cases: [(&str, Option<&str>, &[(&str, &str)], &str, &[&str]); 14] = [
            ("the same", Some("v1.20.2"), &[("h1", "v1.20.2")], "v1.20.2", &[]),
            ("the same, without v", Some("v1.20.2"), &[("h1", "v1.20.2")], "1.20.2", &[]),
            (
                "the next minor",
                Some("v1.20.2"),
                &[("h1", "v1.20.2")],
                "v1.21.0",
                &["v1.21.0", "the cluster runs v1.20.2", "image with Kubernetes v1.20.2"],
            ),
            ("an older minor", Some("v1.24.1"), &[("h1", "v1.24.1")], "v1.23.9", &["v1.23.9", "the cluster runs v1.24.1"]),
            ("another patch", Some("v1.20.2"), &[("h1", "v1.20.2")], "v1.20.15", &["v1.20.15", "the cluster runs v1.20.2"]),
            ("another vendor's", Some("v1.20.4-a.1"), &[("h1", "v1.20.4-a.1")], "v1.20.4-a.2", &["v1.20.4-a.2", "v1.20.4-a.1"]),
            ("a vendor's whose kubelet says less", Some("v1.20.4-a.1"), &[("h1", "v1.20.4")], "v1.20.4-a.1", &[]),
            ("a node of another patch", Some("v1.20.5"), &[("h1", "v1.20.5"), ("h2", "v1.20.2")], "v1.20.5", &[]),
            (
                "a node behind",
                Some("v1.21.0"),
                &[("h1", "v1.21.0"), ("h2", "v1.20.2")],
                "v1.21.0",
                &["kubelet of h2 is still v1.20.2", "kubeadm upgrade node"],
            ),
            ("a node ahead, which goes back", Some("v1.20.2"), &[("h1", "v1.21.0"), ("h2", "v1.20.2")], "v1.20.2", &[]),
            ("a node that says nothing", Some("v1.20.2"), &[("h1", "")], "v1.20.2", &[]),
            ("no record, the same", None, &[("h1", "v1.20.2+local")], "v1.20.2", &[]),
            ("no record, another", None, &[("h1", "v1.20.2")], "v1.20.3", &["kubelet of h1 is v1.20.2"]),
            ("no record and no node", None, &[], "v1.20.3", &[]),
        ];
        for (name, control_plane, kubelets, image, expected) in cases {
            let running = RunningVersions { control_plane, kubelets: kubelets.to_vec() };
            let error = check_version_change(&running, image).err();
            let text = error.as_ref().map(|error| format!("{error:#} {:?}", crate::error::hints_of(error))).unwrap_or_default();
            assert_eq!(text.is_empty(), expected.is_empty(), "{name}: {text}");
            assert!(expected.iter().all(|words| text.contains(words)), "{name}: {text}");
            assert!(error.is_none_or(|error| crate::error::kind_of(&error) == crate::error::Kind::Usage), "{name}");
        }
    }

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
