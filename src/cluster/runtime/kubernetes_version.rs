//! The version of Kubernetes: what an image contains, and whether it may be run where a cluster or an application wants another.

use std::net::IpAddr;

use anyhow::{Context as _, Result};

use super::kubeadm::Release;
use super::kubernetes::defaults;
use crate::cluster::{DesiredHost, DesiredState, ImagePart, Membership};
use crate::clusterfile::KubeadmDocuments;
use crate::error::Failure;
use crate::image::ClusterConfig;
use crate::kubefile::VersionRange;

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
pub(super) fn numbers(version: &str) -> &str {
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

#[cfg(test)]
mod tests {
    use super::super::kubernetes::tests::{HOSTS, desired, membership};
    use super::*;
    use crate::cluster::Node;
    use crate::error::{Kind, hints_of, kind_of};

    #[test]
    fn images_are_checked_against_the_cluster_that_runs() {
        assert!(check_running_version(&desired("v1.21.0", &[], None)).is_ok());
        assert!(check_running_version(&desired("v1.20.2", &[], Some(membership("v1.20.2")))).is_ok());
        let error = check_running_version(&desired("v1.21.0", &[], Some(membership("v1.20.2")))).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "image shop:2: it has Kubernetes v1.21.0, but the cluster runs v1.20.2: the version of a running cluster cannot be changed"
        );
        assert_eq!(kind_of(&error), Kind::Usage);
    }

    #[test]
    fn nodes_that_leave_or_join_again_need_no_kubelet_of_the_images_version() {
        let mut membership = membership("v1.21.0");
        let left = Node { name: "left".into(), addresses: vec![[10, 0, 0, 9].into()], version: "v1.20.2".into(), ..Node::default() };
        membership.nodes.push(left);
        membership.nodes[1].version = "v1.20.2".into();
        assert!(check_running_version(&desired("v1.21.0", &[], Some(membership.clone()))).is_err());
        membership.members.insert(HOSTS[1].1.into(), false); // a worker that becomes a master
        assert!(check_running_version(&desired("v1.21.0", &[], Some(membership))).is_ok());
    }

    #[test]
    fn another_version_than_that_of_the_running_cluster_is_refused() {
        type Kubelets = &'static [(&'static str, &'static str)];
        type Case = (&'static str, Option<&'static str>, Kubelets, &'static str, &'static [&'static str]);
        let cases: [Case; 14] = [
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
            let text = error.as_ref().map(|error| format!("{error:#} {:?}", hints_of(error))).unwrap_or_default();
            assert_eq!(text.is_empty(), expected.is_empty(), "{name}: {text}");
            assert!(expected.iter().all(|words| text.contains(words)), "{name}: {text}");
            assert!(error.is_none_or(|error| kind_of(&error) == Kind::Usage), "{name}");
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
