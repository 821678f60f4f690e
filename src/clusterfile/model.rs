//! The checked desired state that a Clusterfile says: ranges expanded, defaults filled in, host merged over cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use secrecy::SecretString;
use serde_json::Value;

use super::sealed::SecretsKey;
use crate::diagnostic::Diagnostic;

/// An environment: names to values, as scripts and templates see them.
pub type Env = BTreeMap<String, String>;

/// The role of hosts that run the control plane.
pub const MASTER: &str = "master";
/// The role of hosts that run workloads.
pub const NODE: &str = "node";

/// Everything a Clusterfile says, checked.
#[derive(Debug, Clone, Default)]
pub struct Clusterfile {
    /// The `Cluster` document.
    pub cluster: Cluster,
    /// kubeadm's own documents, as far as the Clusterfile has them.
    pub kubeadm: KubeadmDocuments,
    /// Files of the rootfs to change, in order.
    pub configs: Vec<Config>,
    /// Hooks, in order.
    pub plugins: Vec<Plugin>,
    /// What is launched and with which settings.
    pub application: Application,
    /// Documents of kinds that are read but not judged here.
    pub others: Vec<OtherDocument>,
    /// What is worth a look in the file that it was loaded from.
    pub warnings: Vec<Diagnostic>,
    /// What its secrets are sealed with where it is kept; see [`Clusterfile::to_kept_yaml`].
    pub secrets_key: Option<SecretsKey>,
}

impl Clusterfile {
    /// What it says that is not carried out yet: fields by their path, documents by kind and name. A run refuses them.
    pub fn unsupported(&self) -> Vec<String> {
        let named = |kind: &str, name: &str| if name.is_empty() { kind.to_owned() } else { format!("{kind} `{name}`") };
        let fields = self.cluster.unsupported_fields().into_iter().map(|(path, value)| format!("{path}{value}"));
        let plugins = self.plugins.iter().map(|plugin| named("Plugin", &plugin.name));
        fields.chain(plugins).chain(self.others.iter().map(|other| named(&other.kind, &other.name))).collect()
    }
}

/// The hosts, how to reach them, and what they shall run.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// The images to run, in order: the first brings the cluster, the others applications. May be empty.
    pub images: Vec<String>,
    /// The environment of every host. The image's defaults are not in it, see [`Cluster::merge_image_env`].
    pub env: Env,
    /// How hosts are reached that say nothing else.
    pub ssh: Ssh,
    /// The hosts, one for each address, in the order of the file.
    pub hosts: Vec<HostSpec>,
    /// Where hosts get container images from.
    pub registry: Registry,
    /// Which container runtime the hosts use; `None` leaves it to the image.
    pub container_runtime: Option<String>,
    /// Where clusters keep their data on hosts.
    pub data_root: String,
    /// Names for addresses, on every host.
    pub host_aliases: Vec<HostAlias>,
    /// Subject alternative names of the API server besides those that are computed.
    pub cert_sans: Vec<String>,
    /// The networks of pods and services, as far as the Clusterfile says them.
    pub networks: Networks,
}

impl Cluster {
    /// The name of clusters that have none.
    pub const DEFAULT_NAME: &'static str = "my-cluster";
    /// Where clusters keep their data on hosts unless the Clusterfile says otherwise.
    pub const DEFAULT_DATA_ROOT: &'static str = crate::paths::DATA;

    /// The hosts with the role [`MASTER`], in order.
    pub fn masters(&self) -> impl Iterator<Item = &HostSpec> {
        self.hosts.iter().filter(|host| host.is_master())
    }

    /// The hosts without the role [`MASTER`], in order: they join as workers.
    pub fn workers(&self) -> impl Iterator<Item = &HostSpec> {
        self.hosts.iter().filter(|host| !host.is_master())
    }

    /// The host with this address.
    pub fn host(&self, address: IpAddr) -> Option<&HostSpec> {
        self.hosts.iter().find(|host| host.address == address)
    }

    /// The cluster's environment over the image's defaults.
    pub fn merge_image_env(&self, image: &Env) -> Env {
        merged(image, &self.env)
    }

    /// The fields that say something which is not carried out yet: each path below `spec`, and the value where it matters.
    pub fn unsupported_fields(&self) -> Vec<(&'static str, String)> {
        let runtime = self.container_runtime.as_deref().filter(|kind| *kind != "containerd");
        let root = Some(self.data_root.as_str()).filter(|root| *root != Self::DEFAULT_DATA_ROOT);
        let value = |text: Option<&str>| text.map(|text| format!(" `{text}`"));
        let fields = [("containerRuntime.type", value(runtime)), ("dataRoot", value(root))];
        fields.into_iter().filter_map(|(path, value)| Some((path, value?))).collect()
    }
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            name: Self::DEFAULT_NAME.to_owned(),
            images: Vec::new(),
            env: Env::new(),
            ssh: Ssh::default(),
            hosts: Vec::new(),
            registry: Registry::default(),
            container_runtime: None,
            data_root: Self::DEFAULT_DATA_ROOT.to_owned(),
            host_aliases: Vec::new(),
            cert_sans: Vec::new(),
            networks: Networks::default(),
        }
    }
}

/// One host. What it does not say itself is filled in from the cluster.
#[derive(Debug, Clone)]
pub struct HostSpec {
    /// Its address, which nodes and the operator reach it by.
    pub address: IpAddr,
    /// Its roles: [`MASTER`], [`NODE`], or any other, which becomes a node label.
    pub roles: Vec<String>,
    /// Labels of its node.
    pub labels: BTreeMap<String, String>,
    /// Taints of its node.
    pub taints: Vec<Taint>,
    /// Its environment: the cluster's with its own over it.
    pub env: Env,
    /// How it is reached.
    pub ssh: Ssh,
}

impl HostSpec {
    /// Whether it has this role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|own| own == role)
    }

    /// Whether it runs the control plane.
    pub fn is_master(&self) -> bool {
        self.has_role(MASTER)
    }

    /// Its environment over the image's defaults.
    pub fn merge_image_env(&self, image: &Env) -> Env {
        merged(image, &self.env)
    }
}

/// The entries of both, those of `over` winning.
pub fn merged(under: &Env, over: &Env) -> Env {
    let mut env = under.clone();
    env.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
    env
}

/// How a host is reached over SSH.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The user to log in as.
    pub user: String,
    /// The port of sshd.
    pub port: u16,
    /// The password, where the Clusterfile holds it.
    pub passwd: Option<SecretString>,
    /// Where else the password comes from.
    pub passwd_from: Option<SecretSource>,
    /// The private key's file, `~` not expanded; `None` tries the agent and the usual files.
    pub pk: Option<String>,
    /// The private key's passphrase, where the Clusterfile holds it.
    pub pk_passwd: Option<SecretString>,
    /// Where else the private key's passphrase comes from.
    pub pk_passwd_from: Option<SecretSource>,
    /// How to become root; `None` tries sudo without a password where the user is not root.
    pub sudo: Option<Sudo>,
    /// The host to go through, `[user@]host[:port]`.
    pub jump: Option<String>,
}

impl Default for Ssh {
    fn default() -> Self {
        Ssh {
            user: "root".to_owned(),
            port: 22,
            passwd: None,
            passwd_from: None,
            pk: None,
            pk_passwd: None,
            pk_passwd_from: None,
            sudo: None,
            jump: None,
        }
    }
}

/// How to become root on a host.
#[derive(Debug, Clone, Default)]
pub struct Sudo {
    /// The password that sudo asks for, where the Clusterfile holds it.
    pub passwd: Option<SecretString>,
    /// Where else that password comes from.
    pub passwd_from: Option<SecretSource>,
}

/// Where a secret comes from that is not written in the Clusterfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// An environment variable of the operator.
    Env(String),
    /// A file of the operator; one trailing newline does not count.
    File(String),
    /// The operator, asked on the terminal.
    Prompt,
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value, may be empty.
    pub value: String,
    /// Its effect; `None` only where it is to be removed whatever its effect.
    pub effect: Option<TaintEffect>,
    /// Whether it is to be removed (`key:Effect-`).
    pub remove: bool,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TaintEffect {
    /// They are not scheduled here.
    NoSchedule,
    /// They are evicted.
    NoExecute,
    /// They are scheduled here only if need be.
    PreferNoSchedule,
}

impl fmt::Display for TaintEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Writes the form that `kubectl taint` and [`str::parse`] read.
impl fmt::Display for Taint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if !self.value.is_empty() {
            write!(f, "={}", self.value)?;
        }
        if let Some(effect) = self.effect {
            write!(f, ":{effect}")?;
        }
        f.write_str(if self.remove { "-" } else { "" })
    }
}

/// Where hosts get container images from. Both may be set: the local one is installed, hosts are told of the external one.
#[derive(Debug, Clone)]
pub struct Registry {
    /// The registry that sealift brings up on site; present unless only an external one is named.
    pub local: Option<LocalRegistry>,
    /// A registry of the site.
    pub external: Option<ExternalRegistry>,
}

impl Registry {
    /// The registries of which only a user or only a password is known.
    pub fn half_known_users(&self) -> Vec<String> {
        let local = self.local.as_ref().map(|local| ("localRegistry", &local.username, local.password.is_some()));
        let external = self.external.as_ref().map(|external| ("externalRegistry", &external.username, external.password.is_some()));
        let wrong = local.into_iter().chain(external).filter_map(|(registry, user, password)| match (user, password) {
            (Some(user), false) => Some(format!(
                "registry.{registry}: the password of `{user}` is not known here: give the Clusterfile that says it, or `passwordFrom`"
            )),
            (None, true) => Some(format!("registry.{registry}: a password without a user")),
            _ => None,
        });
        wrong.collect()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Registry { local: Some(LocalRegistry::default()), external: None }
    }
}

/// The registry that sealift brings up on the first master, or on all of them.
#[derive(Debug, Clone)]
pub struct LocalRegistry {
    /// The name that hosts know it by.
    pub domain: String,
    /// Its port.
    pub port: u16,
    /// Whether it is on every master.
    pub ha: bool,
    /// Whether it speaks HTTP without TLS.
    pub insecure: bool,
    /// The user that pulls need, if any.
    pub username: Option<String>,
    /// That user's password.
    pub password: Option<SecretString>,
    /// Where it comes from.
    pub password_from: Option<SecretSource>,
    /// Further names and addresses of its certificate.
    pub cert_sans: Vec<String>,
}

impl Default for LocalRegistry {
    fn default() -> Self {
        LocalRegistry {
            domain: "sea.hub".to_owned(),
            port: 5000,
            ha: true,
            insecure: false,
            username: None,
            password: None,
            password_from: None,
            cert_sans: Vec::new(),
        }
    }
}

/// A registry of the site that holds the workloads.
#[derive(Debug, Clone)]
pub struct ExternalRegistry {
    /// Its host name.
    pub domain: String,
    /// Its port; `None` is HTTPS's own.
    pub port: Option<u16>,
    /// The user.
    pub username: Option<String>,
    /// That user's password.
    pub password: Option<SecretString>,
    /// Where it comes from.
    pub password_from: Option<SecretSource>,
}

/// Names for an address, in `/etc/hosts` of every host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAlias {
    /// The address.
    pub ip: IpAddr,
    /// Its names.
    pub hostnames: Vec<String>,
}

/// The networks inside a cluster. Empty where nothing is said; two of different families for dual stack.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks {
    /// The networks that pods get addresses from.
    pub pods: Vec<IpNet>,
    /// The networks that services get addresses from.
    pub services: Vec<IpNet>,
}

/// kubeadm's own documents as the Clusterfile has them, without `apiVersion` and `kind`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct KubeadmDocuments {
    /// `ClusterConfiguration`.
    pub cluster: Option<Value>,
    /// `InitConfiguration`.
    pub init: Option<Value>,
    /// `JoinConfiguration`.
    pub join: Option<Value>,
    /// `KubeletConfiguration`.
    pub kubelet: Option<Value>,
    /// `KubeProxyConfiguration`.
    pub kube_proxy: Option<Value>,
}

impl KubeadmDocuments {
    /// The place of a kind's document.
    pub fn slot(&mut self, kind: &str) -> Option<&mut Option<Value>> {
        match kind {
            "ClusterConfiguration" => Some(&mut self.cluster),
            "InitConfiguration" => Some(&mut self.init),
            "JoinConfiguration" => Some(&mut self.join),
            "KubeletConfiguration" => Some(&mut self.kubelet),
            "KubeProxyConfiguration" => Some(&mut self.kube_proxy),
            _ => None,
        }
    }

    /// The documents that there are, with their kinds.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let all = [
            ("ClusterConfiguration", &self.cluster),
            ("InitConfiguration", &self.init),
            ("JoinConfiguration", &self.join),
            ("KubeletConfiguration", &self.kubelet),
            ("KubeProxyConfiguration", &self.kube_proxy),
        ];
        all.into_iter().filter_map(|(kind, document)| Some((kind, document.as_ref()?)))
    }
}

/// A file of the rootfs, or of an application, to overwrite or to merge into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// The file, relative to the rootfs or to the application's folder.
    pub path: String,
    /// What is written or merged.
    pub data: String,
    /// How.
    pub strategy: Strategy,
    /// What is done to the data first, in order.
    pub process: Vec<Process>,
    /// The application that `path` belongs to.
    pub app: Option<String>,
}

/// How data gets into a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Replaces the file.
    #[default]
    Overwrite,
    /// Merged deeply into every YAML document of the file; lists are replaced.
    Merge,
}

/// A step that data goes through before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The steps after it act on each top-level value instead of on the whole text.
    Value,
    /// To JSON.
    ToJson,
    /// To base64.
    ToBase64,
    /// Merged into `data` of the Secret in the file.
    ToSecret,
}

/// A hook: something to do at a phase, on a scope of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// Its name.
    pub name: String,
    /// `SHELL`, `HOSTNAME`, `LABEL`, `TAINT`, `CLUSTERCHECK`, `ETCD` or what else the file says.
    pub kind: String,
    /// The phases, as written (`pre-install`, or `PreInstall` of older files).
    pub phases: Vec<String>,
    /// The hosts: roles, addresses, ranges or a label selector, as written.
    pub scope: String,
    /// The script, or the lines of the other types.
    pub data: String,
}

/// What is launched once the cluster is up, and with which settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Application {
    /// Raw commands instead of launching applications; `None` leaves it to the image.
    pub cmds: Option<Vec<String>>,
    /// The applications to launch, in order; `None` leaves it to the image, an empty list launches none.
    pub launch_apps: Option<Vec<String>>,
    /// Settings of applications.
    pub configs: Vec<AppConfig>,
}

impl Application {
    /// The settings of an application.
    pub fn config(&self, app: &str) -> Option<&AppConfig> {
        self.configs.iter().find(|config| config.name == app)
    }
}

/// The settings of one application.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppConfig {
    /// The application's name.
    pub name: String,
    /// Its environment, over the host's.
    pub env: Env,
    /// Files of its folder to overwrite or to merge into.
    pub files: Vec<Config>,
    /// Launch commands instead of those of the image.
    pub cmds: Option<Vec<String>>,
}

/// A document of a kind that is read but not judged here.
#[derive(Debug, Clone, PartialEq)]
pub struct OtherDocument {
    /// Its kind.
    pub kind: String,
    /// Its name, may be empty.
    pub name: String,
    /// The document.
    pub value: Value,
}
