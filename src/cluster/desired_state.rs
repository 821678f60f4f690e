//! What shall be: a Clusterfile, an image, and the hosts they meet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;

use super::runtime::kubernetes;
use super::{ImageContent, ImagePart, RegistryCertificate, file_overrides};
use crate::app::Applications;
use crate::clusterfile::{Clusterfile, Env, HostSpec, merged};
use crate::error::Failure;
use crate::host::facts::Facts;
use crate::image::{ClusterConfig, RuntimeKind};
use crate::resource::Content;

/// What shall be. Stages read it and nothing else.
#[derive(Debug, Clone)]
pub struct DesiredState {
    /// The Clusterfile.
    pub clusterfile: Clusterfile,
    /// The image.
    pub image: ImageContent,
    /// The hosts, as the Clusterfile orders them.
    pub hosts: Vec<DesiredHost>,
    /// The Clusterfile as it is kept on masters: without secrets.
    pub state: String,
    /// The certificates of the registries on site; empty where they speak HTTP.
    pub registry_certificates: BTreeMap<IpAddr, RegistryCertificate>,
}

/// One host, with what is known about it before anything is changed.
#[derive(Debug, Clone)]
pub struct DesiredHost {
    /// What the Clusterfile says.
    pub spec: HostSpec,
    /// Its name, which becomes its node's.
    pub name: String,
    /// Its architecture, as `uname -m` names it.
    pub machine: String,
    /// What scripts and templates see on it.
    pub env: Env,
    /// What kubeadm reads on it, without tickets; `None` where kubeadm does not make the cluster.
    pub kubeadm: Option<Content>,
}

impl DesiredHost {
    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.spec.address
    }
}

impl DesiredState {
    /// Puts a Clusterfile and an image together with the facts of the hosts.
    ///
    /// # Errors
    /// `Usage` if the image is not built for a host, or does not bring a cluster.
    pub fn new(clusterfile: Clusterfile, image: ImageContent, facts: &BTreeMap<IpAddr, Facts>) -> Result<DesiredState> {
        let mut hosts = Vec::new();
        for spec in &clusterfile.cluster.hosts {
            let facts = facts.get(&spec.address).ok_or_else(|| Failure::failed(format!("no facts about {}", spec.address)))?;
            image.part(&facts.machine)?;
            let name = facts.hostname.to_lowercase();
            hosts.push(DesiredHost { spec: spec.clone(), name, machine: facts.machine.clone(), env: Env::new(), kubeadm: None });
        }
        let state = clusterfile.to_yaml()?;
        let mut desired = DesiredState { clusterfile, image, hosts, state, registry_certificates: BTreeMap::new() };
        if desired.masters().next().is_none() {
            return Err(Failure::usage("the cluster has no master")
                .hint("name at least one with `--masters`, or `roles: [master]`")
                .into());
        }
        let env = desired.cluster_env();
        for part in &mut desired.image.parts {
            file_overrides::apply(&desired.clusterfile, part)?;
            file_overrides::render(part, &env)?;
        }
        let envs: Vec<Env> = desired.hosts.iter().map(|host| desired.env_of(host)).collect();
        desired.hosts.iter_mut().zip(envs).for_each(|(host, env)| host.env = env);
        desired.registry_certificates = desired.certificates(facts)?;
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

    /// What the image says about the cluster.
    pub fn config(&self) -> &ClusterConfig {
        self.image.config()
    }

    /// Whether kubeadm makes the cluster; else the image's scripts do.
    pub fn is_kubernetes(&self) -> bool {
        self.config().runtime == RuntimeKind::Kubernetes
    }

    /// The hosts with the role master, in order.
    pub fn masters(&self) -> impl Iterator<Item = &DesiredHost> {
        self.hosts.iter().filter(|host| host.spec.is_master())
    }

    /// The other hosts, in order.
    pub fn workers(&self) -> impl Iterator<Item = &DesiredHost> {
        self.hosts.iter().filter(|host| !host.spec.is_master())
    }

    /// The master that is made first, and that everything that concerns the whole cluster runs on.
    pub fn first_master(&self) -> &DesiredHost {
        self.masters().next().expect("a desired state without masters is refused when it is made")
    }

    /// What the image brings for a host.
    pub fn part(&self, host: &DesiredHost) -> &ImagePart {
        self.image.part(&host.machine).expect("hosts that the image is not built for are refused when the desired state is made")
    }

    /// The applications, as the first master launches them.
    pub fn applications(&self) -> Applications<'_> {
        let master = self.first_master();
        let part = self.part(master);
        let said = &self.clusterfile.application;
        Applications { config: self.config(), said, files: &part.files, env: &master.env, rootfs: part.rootfs.digest }
    }

    /// The hosts that the registry on site runs on: none where an external one is used or nothing needs it.
    pub fn registry_hosts(&self) -> Vec<&DesiredHost> {
        match &self.clusterfile.cluster.registry.local {
            Some(_) if self.part(self.first_master()).workloads.is_empty() => Vec::new(),
            Some(local) if local.ha => self.masters().collect(),
            Some(_) => vec![self.first_master()],
            None => Vec::new(),
        }
    }

    /// What each registry on site shows: what its host has already, or new ones.
    fn certificates(&self, facts: &BTreeMap<IpAddr, Facts>) -> Result<BTreeMap<IpAddr, RegistryCertificate>> {
        let Some(local) = self.clusterfile.cluster.registry.local.as_ref().filter(|local| !local.insecure) else {
            return Ok(BTreeMap::new());
        };
        let certificate = |host: &DesiredHost| {
            let names = [local.domain.clone(), host.address().to_string()].into_iter().chain(local.cert_sans.iter().cloned());
            let kept = facts.get(&host.address()).and_then(|facts| facts.installed.registry_certificate.as_deref());
            Ok((host.address(), RegistryCertificate::kept_or_new(kept, &names.collect::<Vec<_>>())?))
        };
        self.registry_hosts().into_iter().map(certificate).collect()
    }

    /// What scripts and templates see on a host: the image's environment, the cluster's and the host's over it, and what is
    /// computed over all.
    fn env_of(&self, host: &DesiredHost) -> Env {
        let mut env = merged(&host.spec.merge_image_env(&self.config().env), &self.computed_env());
        let mut set = |key: &str, value: String| drop(env.insert(key.to_owned(), value));
        set("HostIP", host.address().to_string());
        set("HostName", host.name.clone());
        set("Roles", host.spec.roles.join(","));
        env
    }

    /// What the image's templates see: nothing of a host's own.
    fn cluster_env(&self) -> Env {
        merged(&self.clusterfile.cluster.merge_image_env(&self.config().env), &self.computed_env())
    }

    fn computed_env(&self) -> Env {
        let mut env = Env::new();
        let addresses = |hosts: Vec<&DesiredHost>| hosts.iter().map(|host| host.address().to_string()).collect::<Vec<_>>().join(",");
        let mut set = |key: &str, value: String| drop(env.insert(key.to_owned(), value));
        set("ClusterName", self.name().to_owned());
        set("HostIPFamily", if self.first_master().address().is_ipv6() { "6" } else { "4" }.to_owned());
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
