//! The desired state: a Clusterfile, an image, and the hosts they are for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;

use super::quorum::{self, MemberChanges};
use super::runtime::kubernetes;
use super::{ImageContent, ImagePart, Membership, RegistryCertificate, file_overrides};
use crate::app::Applications;
use crate::clusterfile::{Clusterfile, Env, HostSpec, merged};
use crate::error::{Failure, Kind};
use crate::host::facts::Facts;
use crate::image::{ClusterConfig, ClusterKind, Reference, RuntimeKind};
use crate::paths;
use crate::resource::{Content, Resource, Rootfs};

/// The desired state of a cluster. Stages read it and nothing else.
#[derive(Debug, Clone)]
pub struct DesiredState {
    /// The Clusterfile, checked and defaulted.
    pub clusterfile: Clusterfile,
    /// The image that brings the cluster, with the files that the Clusterfile overrides and its templates rendered.
    pub image: ImageContent,
    /// The images with more applications, with their templates rendered.
    pub app_images: Vec<ImageContent>,
    /// The hosts, in the order of the Clusterfile.
    pub hosts: Vec<DesiredHost>,
    /// The Clusterfile as masters store it: YAML, its secrets sealed.
    pub stored_clusterfile: String,
    /// The certificates of the local registries, by host; empty if they serve plain HTTP.
    pub registry_certificates: BTreeMap<IpAddr, RegistryCertificate>,
    /// The members of the cluster; `None` if it does not exist yet.
    pub membership: Option<Membership>,
    /// The hosts that left the Clusterfile.
    pub departing: Vec<DepartingHost>,
    /// How long the pods of a node that leaves may take, in seconds.
    pub drain_timeout: u64,
    leader: IpAddr,
}

/// What was observed before anything is changed.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// The facts about the hosts that are reachable.
    pub facts: BTreeMap<IpAddr, Facts>,
    /// The members of the cluster; `None` if it does not exist yet.
    pub membership: Option<Membership>,
    /// The hosts that left the Clusterfile.
    pub departing: Vec<DepartingHost>,
    /// How long the pods of a node that leaves may take, in seconds.
    pub drain_timeout: u64,
}

/// A host of the cluster that left the Clusterfile.
#[derive(Debug, Clone)]
pub struct DepartingHost {
    /// Its settings in the Clusterfile of the last run.
    pub spec: HostSpec,
    /// Whether it is reachable: else its changes cannot be undone.
    pub reachable: bool,
    /// Whether it has changes to undo.
    pub changed: bool,
    /// Whether it is removed from the cluster even if it is not reachable.
    pub forget: bool,
}

impl DepartingHost {
    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.spec.address
    }

    /// Whether it is removed now. A host that is not reachable may still run: it stays until it is, or is forgotten.
    pub fn is_removed(&self) -> bool {
        self.reachable || self.forget
    }
}

/// One host: its settings in the Clusterfile, and what was found on it before anything is changed.
#[derive(Debug, Clone)]
pub struct DesiredHost {
    /// Its settings in the Clusterfile.
    pub spec: HostSpec,
    /// Its host name in lower case, which becomes the name of its node; empty if it is not known.
    pub name: String,
    /// Whether it is connected: else nothing is changed on it.
    pub reachable: bool,
    /// Whether it leaves the cluster and joins again, because its role changes.
    pub rejoins: bool,
    /// Its architecture as `uname -m` prints it, such as `x86_64`.
    pub machine: String,
    /// The environment of scripts and templates on it.
    pub env: Env,
    /// The kubeadm configuration for it, with placeholders for the join credentials; `None` if the cluster is not Kubernetes.
    pub kubeadm: Option<Content>,
}

impl DesiredHost {
    fn new(spec: &HostSpec, facts: Option<&Facts>, membership: Option<&Membership>, kubernetes: bool) -> Self {
        let address = spec.address;
        let node = membership.and_then(|membership| membership.node(address));
        let name = match (facts, node) {
            (Some(facts), _) => facts.hostname.to_lowercase(),
            (None, Some(node)) => node.name.clone(),
            (None, None) => String::new(),
        };
        let machine = match (facts, node) {
            (Some(facts), _) => facts.machine.clone(),
            (None, Some(node)) => node.machine.clone(),
            (None, None) => String::new(),
        };
        let control_plane = membership.and_then(|membership| membership.members.get(&address).copied());
        let rejoins = kubernetes && control_plane.is_some_and(|control_plane| control_plane != spec.is_master());
        DesiredHost { spec: spec.clone(), name, reachable: facts.is_some(), rejoins, machine, env: Env::new(), kubeadm: None }
    }

    /// The address that sealift and the other hosts reach it at.
    pub fn address(&self) -> IpAddr {
        self.spec.address
    }
}

/// The master where what is for the whole cluster is applied.
fn leader(hosts: &[DesiredHost], membership: Option<&Membership>) -> Result<IpAddr> {
    let masters: Vec<&DesiredHost> = hosts.iter().filter(|host| host.spec.is_master()).collect();
    if masters.is_empty() {
        return Err(Failure::usage("the cluster has no master")
            .hint("name at least one host with `--masters`, or with `roles: [master]` in the Clusterfile")
            .into());
    }
    let stays = |host: &&&DesiredHost| host.reachable && !host.rejoins;
    let answered = membership.and_then(|membership| membership.leader);
    let is_member = |host: &&&DesiredHost| membership.is_some_and(|membership| membership.is_member(host.address()));
    let staying = || masters.iter().filter(stays);
    staying()
        .find(|host| Some(host.address()) == answered)
        .or_else(|| staying().find(is_member))
        .or_else(|| staying().next())
        .or_else(|| masters.iter().find(|host| host.reachable))
        .map(|host| host.address())
        .ok_or_else(|| {
            let list = masters.iter().map(|host| host.address().to_string()).collect::<Vec<_>>().join(", ");
            Failure::network(format!("no master is reachable: {list}"))
                .hint("bring one of them back, or name one that is reachable")
                .hint("if the cluster has other masters by now, `sealift adopt --host MASTER` learns them")
                .into()
        })
}

/// Refuses images after the first that bring a cluster of their own, and applications with one name.
fn check_app_images(first: &ImageContent, others: &[ImageContent]) -> Result<()> {
    let mut seen: BTreeMap<&str, &ImageContent> = first.config().apps.iter().map(|app| (app.name.as_str(), first)).collect();
    for image in others {
        let name = image.name.familiar();
        if image.config().kind == ClusterKind::KubeInstaller {
            return Err(Failure::usage(format!("{name} is a cluster image: of several images only the first brings the cluster"))
                .hint("name the cluster image first, and after it application images (`sealift build --type app-installer`)")
                .into());
        }
        for app in &image.config().apps {
            if let Some(other) = seen.insert(&app.name, image) {
                return Err(Failure::usage(format!("{name} and {} have an application `{}` each", other.name.familiar(), app.name))
                    .hint("give one of them another name with `APP` in its Kubefile")
                    .into());
            }
        }
    }
    Ok(())
}

/// The Clusterfile that hosts store: without secrets, and with the hosts that left it but could not be removed yet.
fn stored(clusterfile: &Clusterfile, departing: &[DepartingHost]) -> Result<String> {
    let mut stored = clusterfile.clone();
    stored.cluster.hosts.extend(departing.iter().filter(|host| !host.is_removed()).map(|host| host.spec.clone()));
    stored.to_kept_yaml()
}

impl DesiredState {
    /// Combines a Clusterfile and an image with what was observed.
    ///
    /// # Errors
    /// `Usage` if the image is not built for the platform of a host, no host is a master, or an override or a template does not fit the
    /// image; `Preflight` if etcd would lose its quorum.
    pub fn new(clusterfile: Clusterfile, images: Vec<ImageContent>, observed: Observed) -> Result<DesiredState> {
        let Observed { facts, membership, departing, drain_timeout } = observed;
        let mut images = images.into_iter();
        let image = images.next().ok_or_else(|| Failure::usage("no image"))?;
        let app_images: Vec<ImageContent> = images.collect();
        check_app_images(&image, &app_images)?;
        let kubernetes = image.config().runtime == RuntimeKind::Kubernetes;
        let mut hosts = Vec::new();
        for spec in &clusterfile.cluster.hosts {
            let host = DesiredHost::new(spec, facts.get(&spec.address), membership.as_ref(), kubernetes);
            if host.reachable {
                image.part(&host.machine)?;
            }
            hosts.push(host);
        }
        let leader = leader(&hosts, membership.as_ref())?;
        let machine = hosts.iter().find(|host| host.address() == leader).map(|host| host.machine.clone()).unwrap_or_default();
        app_images.iter().try_for_each(|image| image.part(&machine).map(drop))?;
        hosts.iter_mut().filter(|host| host.machine.is_empty()).for_each(|host| host.machine.clone_from(&machine));
        let stored_clusterfile = stored(&clusterfile, &departing)?;
        let registry_certificates = BTreeMap::new();
        let mut desired = DesiredState {
            clusterfile,
            image,
            app_images,
            hosts,
            stored_clusterfile,
            registry_certificates,
            membership,
            departing,
            drain_timeout,
            leader,
        };
        desired.check_membership()?;
        let env = desired.cluster_env();
        for part in &mut desired.image.parts {
            file_overrides::apply(&desired.clusterfile, part)?;
            file_overrides::render(part, &env)?;
        }
        let envs: Vec<Env> = desired.app_images.iter().map(|image| merged(&image.config().env, &env)).collect();
        for (image, env) in desired.app_images.iter_mut().zip(envs) {
            image.parts.iter_mut().try_for_each(|part| file_overrides::render(part, &env))?;
        }
        let envs: Vec<Env> = desired.hosts.iter().map(|host| desired.host_env(host)).collect();
        desired.hosts.iter_mut().zip(envs).for_each(|(host, env)| host.env = env);
        desired.registry_certificates = desired.certificates(&facts)?;
        if desired.is_kubernetes() {
            let documents = desired.hosts.iter().map(|host| kubernetes::documents(&desired, host)).collect::<Result<Vec<_>>>()?;
            desired.hosts.iter_mut().zip(documents).for_each(|(host, documents)| host.kubeadm = Some(documents));
        }
        Ok(desired)
    }

    /// The cluster's name.
    pub fn name(&self) -> &str {
        &self.clusterfile.cluster.name
    }

    /// The cluster configuration of the image.
    pub fn config(&self) -> &ClusterConfig {
        self.image.config()
    }

    /// Whether the cluster is Kubernetes, set up by kubeadm; else the image's scripts set it up.
    pub fn is_kubernetes(&self) -> bool {
        self.config().runtime == RuntimeKind::Kubernetes
    }

    /// The names of the hosts in `/etc/hosts`, with their addresses: those that are known.
    pub fn named_hosts(&self) -> impl Iterator<Item = &DesiredHost> {
        self.hosts.iter().filter(|host| !host.name.is_empty())
    }

    /// The hosts with the role `master`, in the order of the Clusterfile.
    pub fn masters(&self) -> impl Iterator<Item = &DesiredHost> {
        self.hosts.iter().filter(|host| host.spec.is_master())
    }

    /// The hosts without the role `master`, in the order of the Clusterfile.
    pub fn workers(&self) -> impl Iterator<Item = &DesiredHost> {
        self.hosts.iter().filter(|host| !host.spec.is_master())
    }

    /// The master where what is for the whole cluster is applied: a member whose API server is ready, if there is one among the masters
    /// of the Clusterfile; on a cluster that does not exist yet, the first master, which runs `kubeadm init`.
    pub fn leader(&self) -> &DesiredHost {
        self.hosts.iter().find(|host| host.address() == self.leader).expect("`new` chooses one of the hosts")
    }

    /// The control plane node that lets others join: the one that answered, even if it leaves in the end.
    pub fn contact(&self) -> IpAddr {
        self.membership.as_ref().and_then(|membership| membership.leader).unwrap_or(self.leader)
    }

    /// Whether no host is a member of the cluster yet: then `kubeadm init` makes it.
    pub fn is_new(&self) -> bool {
        self.membership.is_none()
    }

    /// Whether a host is connected.
    pub fn is_reachable(&self, address: IpAddr) -> bool {
        self.hosts.iter().any(|host| host.address() == address && host.reachable)
            || self.departing.iter().any(|host| host.address() == address && host.reachable)
            || self.contact() == address
    }

    /// The hosts that leave the cluster for good.
    pub fn removals(&self) -> Vec<IpAddr> {
        self.departing.iter().filter(|host| host.is_removed()).map(DepartingHost::address).collect()
    }

    /// The hosts that leave the cluster to join it again in another role.
    pub fn role_changes(&self) -> Vec<&DesiredHost> {
        self.hosts.iter().filter(|host| host.rejoins && host.reachable).collect()
    }

    /// The images that the cluster runs by its own record and that are not desired any more, whatever their version. What their
    /// applications brought stays in the cluster.
    pub fn dropped_images(&self) -> Vec<&str> {
        let recorded = self.membership.as_ref().and_then(|membership| membership.recorded.as_ref());
        let recorded = recorded.into_iter().flat_map(|recorded| &recorded.cluster.images).skip(1);
        let repository = |text: &str| text.parse::<Reference>().ok().map(|name| (name.registry().to_owned(), name.repository().to_owned()));
        let desired: Vec<_> = self.clusterfile.cluster.images.iter().map(|image| repository(image)).collect();
        recorded.filter(|image| !desired.contains(&repository(image))).map(String::as_str).collect()
    }

    /// Refuses what cannot be done with the members that the cluster has.
    fn check_membership(&self) -> Result<()> {
        let Some(membership) = self.membership.as_ref().filter(|_| self.is_kubernetes()) else { return Ok(()) };
        if let Some(host) = self.hosts.iter().find(|host| host.rejoins && host.address() == self.contact()) {
            return Err(Failure::new(
                Kind::Preflight,
                format!("{} ({}) is the only master of the cluster that is ready: it cannot become a worker", host.name, host.address()),
            )
            .hint("first add another master, then write this one as a worker")
            .into());
        }
        let kubernetes_masters = |host: &&DesiredHost| host.spec.is_master() && host.reachable;
        let joins = |host: &&DesiredHost| host.rejoins || !membership.is_member(host.address());
        let rejoining = self.hosts.iter().filter(|host| host.reachable && joins(host)).map(DesiredHost::address);
        let has_member = |address: &IpAddr| membership.etcd_member(*address).is_some();
        let removed = self.departing.iter().filter(|host| host.is_removed()).map(DepartingHost::address);
        quorum::check(
            membership,
            &MemberChanges {
                first_out: rejoining.filter(has_member).collect(),
                joining: self.hosts.iter().filter(kubernetes_masters).filter(joins).map(DesiredHost::address).collect(),
                out: removed.filter(has_member).collect(),
            },
        )
    }

    /// The content of the image for the platform of a host.
    pub fn part(&self, host: &DesiredHost) -> &ImagePart {
        self.image.part(&host.machine).expect("`new` refuses hosts that the image is not built for")
    }

    /// The applications of the image that brings the cluster, with the environment and files of the leader, which launches them.
    pub fn applications(&self) -> Applications<'_> {
        let leader = self.leader();
        let part = self.part(leader);
        let overrides = &self.clusterfile.application;
        let directory = Path::new(paths::ROOTFS_CURRENT);
        Applications {
            config: self.config(),
            overrides,
            files: &part.files,
            env: &leader.env,
            rootfs: part.rootfs.digest,
            directory,
            image: None,
        }
    }

    /// The resources that launch the applications of the other images, in the order of the images.
    pub fn launch_app_images(&self) -> Vec<Resource> {
        self.app_images.iter().flat_map(|image| self.of_app_image(image, |applications| applications.launch())).collect()
    }

    /// An error for each application that no image has, or whose kind is not supported yet.
    pub fn unsupported_applications(&self) -> Vec<String> {
        let configs: Vec<&ClusterConfig> = self.app_images.iter().map(ImageContent::config).chain([self.config()]).collect();
        let mut errors = self.applications().unsupported(&configs);
        for image in &self.app_images {
            errors.extend(self.of_app_image(image, |applications| applications.unsupported(&configs)));
        }
        errors.dedup();
        errors
    }

    fn of_app_image<T>(&self, image: &ImageContent, with: impl FnOnce(Applications<'_>) -> T) -> T {
        let leader = self.leader();
        let part = image.part(&leader.machine).expect("`new` refuses app images that are not built for the leader");
        let rootfs = Rootfs { manifest: part.rootfs, current: false }.path();
        let env = merged(&image.config().env, &leader.env);
        // its commands are known by it, whatever its version
        let name = image.name.familiar();
        let tag = image.name.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
        let name = name.strip_suffix(&tag).unwrap_or(&name);
        with(Applications {
            config: image.config(),
            overrides: &self.clusterfile.application,
            files: &part.files,
            env: &env,
            rootfs: part.rootfs.digest,
            directory: &rootfs,
            image: Some(name),
        })
    }

    /// The hosts that run the local registry: none if the registry is external, or if the image contains no container images.
    pub fn registry_hosts(&self) -> Vec<&DesiredHost> {
        match &self.clusterfile.cluster.registry.local {
            Some(_) if self.part(self.leader()).workloads.is_empty() && !self.app_images_have_workloads() => Vec::new(),
            Some(local) if local.ha => self.masters().collect(),
            Some(_) => vec![self.leader()],
            None => Vec::new(),
        }
    }

    fn app_images_have_workloads(&self) -> bool {
        self.app_images.iter().flat_map(|image| &image.parts).any(|part| !part.workloads.is_empty())
    }

    /// The certificate of each local registry: the one that its host has already, or a new one.
    fn certificates(&self, facts: &BTreeMap<IpAddr, Facts>) -> Result<BTreeMap<IpAddr, RegistryCertificate>> {
        let Some(local) = self.clusterfile.cluster.registry.local.as_ref().filter(|local| !local.insecure) else {
            return Ok(BTreeMap::new());
        };
        // a registry that is not reachable keeps the certificate that the others trust
        let bundles: Vec<&str> = facts.values().map(|facts| facts.installed.registry_authorities.as_str()).collect();
        let certificate = |host: &DesiredHost| {
            let address = host.address();
            let names = [local.domain.clone(), address.to_string()].into_iter().chain(local.cert_sans.iter().cloned());
            if !host.reachable {
                return Ok(bundles.iter().find_map(|bundle| RegistryCertificate::find(bundle, address)).map(|found| (address, found)));
            }
            // a host that joins again has lost its certificate by then
            let existing = facts.get(&address).filter(|_| !host.rejoins).and_then(|facts| facts.installed.registry_certificate.as_deref());
            Ok(Some((address, RegistryCertificate::reuse_or_generate(existing, &names.collect::<Vec<_>>())?)))
        };
        self.registry_hosts().into_iter().map(certificate).filter_map(Result::transpose).collect()
    }

    /// The environment of scripts and templates on a host. Later ones win: the image's, the cluster's, the host's, computed variables.
    fn host_env(&self, host: &DesiredHost) -> Env {
        let mut env = merged(&host.spec.merge_image_env(&self.config().env), &self.computed_env());
        let mut set = |key: &str, value: String| drop(env.insert(key.to_owned(), value));
        set("HostIP", host.address().to_string());
        set("HostName", host.name.clone());
        set("Roles", host.spec.roles.join(","));
        env
    }

    /// The environment of the image's templates: as [`Self::host_env`], without the variables of a host.
    fn cluster_env(&self) -> Env {
        merged(&self.clusterfile.cluster.merge_image_env(&self.config().env), &self.computed_env())
    }

    fn computed_env(&self) -> Env {
        let mut env = Env::new();
        let addresses = |hosts: Vec<&DesiredHost>| hosts.iter().map(|host| host.address().to_string()).collect::<Vec<_>>().join(",");
        let mut set = |key: &str, value: String| drop(env.insert(key.to_owned(), value));
        set("ClusterName", self.name().to_owned());
        set("HostIPFamily", if self.leader().address().is_ipv6() { "6" } else { "4" }.to_owned());
        set("Masters", addresses(self.masters().collect()));
        set("Nodes", addresses(self.workers().collect()));
        let registry = &self.clusterfile.cluster.registry;
        if let Some(local) = &registry.local {
            set("RegistryDomain", local.domain.clone());
            set("RegistryPort", local.port.to_string());
            set("RegistryURL", format!("{}:{}", local.domain, local.port));
        }
        if let Some(external) = &registry.external {
            let port = external.port.map(|port| port.to_string()).unwrap_or_default();
            set("RegistryURL", if port.is_empty() { external.domain.clone() } else { format!("{}:{port}", external.domain) });
            set("RegistryDomain", external.domain.clone());
            set("RegistryPort", port);
        }
        env
    }
}
