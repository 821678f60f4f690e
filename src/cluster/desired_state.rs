//! The desired state: a Clusterfile, an image, and the hosts they are for.

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

/// The desired state of a cluster. Stages read it and nothing else.
#[derive(Debug, Clone)]
pub struct DesiredState {
    /// The Clusterfile, checked and defaulted.
    pub clusterfile: Clusterfile,
    /// The image, with the files that the Clusterfile overrides and its templates rendered.
    pub image: ImageContent,
    /// The hosts, in the order of the Clusterfile.
    pub hosts: Vec<DesiredHost>,
    /// The Clusterfile as masters store it: YAML, its secrets sealed.
    pub stored_clusterfile: String,
    /// The certificates of the local registries, by host; empty if they serve plain HTTP.
    pub registry_certificates: BTreeMap<IpAddr, RegistryCertificate>,
}

/// One host: its settings in the Clusterfile, and what was found on it before anything is changed.
#[derive(Debug, Clone)]
pub struct DesiredHost {
    /// Its settings in the Clusterfile.
    pub spec: HostSpec,
    /// Its host name in lower case, which becomes the name of its node.
    pub name: String,
    /// Its architecture as `uname -m` prints it, such as `x86_64`.
    pub machine: String,
    /// The environment of scripts and templates on it.
    pub env: Env,
    /// The kubeadm configuration for it, with placeholders for the join credentials; `None` if the cluster is not Kubernetes.
    pub kubeadm: Option<Content>,
}

impl DesiredHost {
    /// The address that sealift and the other hosts reach it at.
    pub fn address(&self) -> IpAddr {
        self.spec.address
    }
}

impl DesiredState {
    /// Combines a Clusterfile and an image with the facts about the hosts.
    ///
    /// # Errors
    /// `Usage` if the image is not built for the platform of a host, no host is a master, or an override or a template does not fit the image.
    pub fn new(clusterfile: Clusterfile, image: ImageContent, facts: &BTreeMap<IpAddr, Facts>) -> Result<DesiredState> {
        let mut hosts = Vec::new();
        for spec in &clusterfile.cluster.hosts {
            let facts = facts.get(&spec.address).ok_or_else(|| Failure::failed(format!("{}: no facts were gathered", spec.address)))?;
            image.part(&facts.machine)?;
            let name = facts.hostname.to_lowercase();
            hosts.push(DesiredHost { spec: spec.clone(), name, machine: facts.machine.clone(), env: Env::new(), kubeadm: None });
        }
        let stored_clusterfile = clusterfile.to_kept_yaml()?;
        let mut desired = DesiredState { clusterfile, image, hosts, stored_clusterfile, registry_certificates: BTreeMap::new() };
        if desired.masters().next().is_none() {
            return Err(Failure::usage("the cluster has no master")
                .hint("name at least one host with `--masters`, or with `roles: [master]` in the Clusterfile")
                .into());
        }
        let env = desired.cluster_env();
        for part in &mut desired.image.parts {
            file_overrides::apply(&desired.clusterfile, part)?;
            file_overrides::render(part, &env)?;
        }
        let envs: Vec<Env> = desired.hosts.iter().map(|host| desired.host_env(host)).collect();
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

    /// The cluster configuration of the image.
    pub fn config(&self) -> &ClusterConfig {
        self.image.config()
    }

    /// Whether the cluster is Kubernetes, set up by kubeadm; else the image's scripts set it up.
    pub fn is_kubernetes(&self) -> bool {
        self.config().runtime == RuntimeKind::Kubernetes
    }

    /// The hosts with the role `master`, in the order of the Clusterfile.
    pub fn masters(&self) -> impl Iterator<Item = &DesiredHost> {
        self.hosts.iter().filter(|host| host.spec.is_master())
    }

    /// The hosts without the role `master`, in the order of the Clusterfile.
    pub fn workers(&self) -> impl Iterator<Item = &DesiredHost> {
        self.hosts.iter().filter(|host| !host.spec.is_master())
    }

    /// The master that runs `kubeadm init`, and every command that is for the whole cluster.
    pub fn first_master(&self) -> &DesiredHost {
        self.masters().next().expect("`new` refuses a cluster without masters")
    }

    /// The content of the image for the platform of a host.
    pub fn part(&self, host: &DesiredHost) -> &ImagePart {
        self.image.part(&host.machine).expect("`new` refuses hosts that the image is not built for")
    }

    /// The applications, with the environment and files of the first master, which launches them.
    pub fn applications(&self) -> Applications<'_> {
        let master = self.first_master();
        let part = self.part(master);
        let overrides = &self.clusterfile.application;
        Applications { config: self.config(), overrides, files: &part.files, env: &master.env, rootfs: part.rootfs.digest }
    }

    /// The hosts that run the local registry: none if the registry is external, or if the image contains no container images.
    pub fn registry_hosts(&self) -> Vec<&DesiredHost> {
        match &self.clusterfile.cluster.registry.local {
            Some(_) if self.part(self.first_master()).workloads.is_empty() => Vec::new(),
            Some(local) if local.ha => self.masters().collect(),
            Some(_) => vec![self.first_master()],
            None => Vec::new(),
        }
    }

    /// The certificate of each local registry: the one that its host has already, or a new one.
    fn certificates(&self, facts: &BTreeMap<IpAddr, Facts>) -> Result<BTreeMap<IpAddr, RegistryCertificate>> {
        let Some(local) = self.clusterfile.cluster.registry.local.as_ref().filter(|local| !local.insecure) else {
            return Ok(BTreeMap::new());
        };
        let certificate = |host: &DesiredHost| {
            let names = [local.domain.clone(), host.address().to_string()].into_iter().chain(local.cert_sans.iter().cloned());
            let existing = facts.get(&host.address()).and_then(|facts| facts.installed.registry_certificate.as_deref());
            Ok((host.address(), RegistryCertificate::reuse_or_generate(existing, &names.collect::<Vec<_>>())?))
        };
        self.registry_hosts().into_iter().map(certificate).collect()
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
