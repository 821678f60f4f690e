//! The documents of a Clusterfile, field by field; their JSON Schemas are derived from these types.
//!
//! What a field may hold stands only here: [`super::validate`] checks a file against the schema and turns it into what
//! these types read. Scalars are text because `port: 22`, `port: "22"` and `passwd: 0123` are all meant as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The API versions that are read: ours, and those of all of Sealer's generations.
const API_VERSIONS: &str = r"^(sealift\.io/v1|(sealer\.io|sealer\.cloud|sealer\.aliyun\.com|zlink\.aliyun\.com|sealer\.com)/.+)$";

/// A cluster: its images, its hosts and how to reach them.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "Cluster", extend("required" = ["apiVersion", "kind", "spec"]))]
pub struct ClusterDocument {
    /// `sealift.io/v1`; Sealer's `sealer.io/v2` and its older names are accepted too.
    #[serde(default)]
    #[schemars(regex(pattern = API_VERSIONS))]
    pub api_version: String,
    /// `Cluster`.
    #[serde(default)]
    #[schemars(extend("const" = "Cluster"))]
    pub kind: String,
    /// The cluster's name.
    #[serde(default)]
    pub metadata: Metadata,
    /// The desired cluster.
    #[serde(default)]
    pub spec: ClusterSpec,
}

/// The name of a document.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Its name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(with = "Scalar")]
    pub name: String,
    /// Kept for tools of the user; sealift does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Value>,
    /// Kept for tools of the user; sealift does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Value>,
    /// Written by Kubernetes' tools; sealift does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<Value>,
    /// Written by Kubernetes' tools; sealift does not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// The desired cluster.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The cluster image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Several images, run in order: the first brings the cluster, the others applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<String>>,
    /// The environment of every host: `NAME=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<EnvDocument>,
    /// Commands to launch instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Read by old versions of Sealer only.
    #[serde(default, rename = "cmd_args", skip_serializing_if = "Option::is_none")]
    pub cmd_args: Option<Vec<String>>,
    /// Applications to launch instead of the image's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_names: Option<Vec<String>>,
    /// How hosts are reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshDocument>,
    /// The hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostDocument>>,
    /// The container runtime of all hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_runtime: Option<ContainerRuntimeDocument>,
    /// Where hosts get container images from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<RegistryDocument>,
    /// Names for addresses, in `/etc/hosts` of every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_aliases: Option<Vec<HostAliasDocument>>,
    /// Where clusters keep their data on hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = crate::paths::DATA))]
    pub data_root: Option<String>,
}

/// An environment: a list of `NAME=value`, or a map as in old files.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EnvDocument {
    /// `NAME=value` each.
    List(#[schemars(with = "Vec<Scalar>")] Vec<String>),
    /// Names to values.
    Map(#[schemars(with = "BTreeMap<String, Scalar>")] BTreeMap<String, String>),
}

/// One text, or a list of texts.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMany {
    /// Several.
    Many(Vec<String>),
    /// One.
    One(String),
}

/// A text, also when written as a number or a boolean.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "only its schema is used")]
pub enum Scalar {
    /// Text.
    Text(String),
    /// A number, read as its text.
    Number(f64),
    /// A boolean, read as its text.
    Boolean(bool),
}

/// How hosts are reached over SSH.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SshDocument {
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    #[schemars(extend("default" = "root"))]
    pub user: Option<String>,
    /// The port of sshd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    #[schemars(extend("default" = 22))]
    pub port: Option<String>,
    /// The password. Better: a key, an agent, or `passwdFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub passwd: Option<String>,
    /// Where the password comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passwd_from: Option<SecretSourceDocument>,
    /// The private key's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pk: Option<String>,
    /// The private key's passphrase. Better: an agent, or `pkPasswdFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub pk_passwd: Option<String>,
    /// Where the private key's passphrase comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pk_passwd_from: Option<SecretSourceDocument>,
    /// How to become root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<SudoDocument>,
    /// The host to go through: `[user@]host[:port]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jump: Option<String>,
    /// Whether Sealer encrypted the password with the key that all its copies share. Not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypted: Option<bool>,
}

/// How to become root on a host.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SudoDocument {
    /// The password that sudo asks for. Better: `passwdFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub passwd: Option<String>,
    /// Where that password comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passwd_from: Option<SecretSourceDocument>,
}

/// Where a secret comes from: `prompt`, `{env: NAME}` or `{file: PATH}`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretSourceDocument {
    /// An environment variable or a file.
    Place(SecretPlace),
    /// `prompt`: sealift asks on the terminal.
    Word(String),
}

/// An environment variable or a file of the operator.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct SecretPlace {
    /// The environment variable's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// The file's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Asked on the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<bool>,
}

/// Hosts with the same settings.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["ips", "roles"]))]
pub struct HostDocument {
    /// Addresses, or ranges of them: `10.0.0.10-10.0.0.19`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ips: Option<OneOrMany>,
    /// `master`, `node`, or words of your own, which become node labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<OneOrMany>,
    /// Labels of their nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<BTreeMap<String, Scalar>>")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Taints of their nodes: `key=value:NoSchedule`, or `key:NoSchedule-` to remove one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taints: Option<Vec<String>>,
    /// Their environment, over the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<EnvDocument>,
    /// How they are reached, over what the cluster says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<SshDocument>,
}

/// The container runtime of hosts.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct ContainerRuntimeDocument {
    /// `containerd`, or what else the image brings.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// Where hosts get container images from.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryDocument {
    /// The local registry, which sealift runs on the control plane hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_registry: Option<LocalRegistryDocument>,
    /// A registry that exists already and holds the container images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_registry: Option<ExternalRegistryDocument>,
}

/// The local registry, which sealift runs on the control plane hosts.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
pub struct LocalRegistryDocument {
    /// The host name that hosts know it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "sea.hub"))]
    pub domain: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    #[schemars(extend("default" = 5000))]
    pub port: Option<String>,
    /// Whether every control plane host runs it; else only the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = true))]
    pub ha: Option<bool>,
    /// Whether it serves plain HTTP instead of HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub insecure: Option<bool>,
    /// The user that pulls need.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub username: Option<String>,
    /// That user's password. Better: `passwordFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub password: Option<String>,
    /// Where the password comes from.
    #[serde(default, rename = "passwordFrom", skip_serializing_if = "Option::is_none")]
    pub password_from: Option<SecretSourceDocument>,
    /// Its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert: Option<CertificateDocument>,
}

/// Settings of the local registry's certificates.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateDocument {
    /// Further names and addresses the certificates are valid for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_alt_name: Option<SubjectAltNameDocument>,
}

/// Further names and addresses of a certificate.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SubjectAltNameDocument {
    /// DNS names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_names: Option<Vec<String>>,
    /// Addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ips: Option<Vec<String>>,
}

/// A registry that exists already and holds the container images.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["domain"]))]
pub struct ExternalRegistryDocument {
    /// Its host name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub port: Option<String>,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub username: Option<String>,
    /// That user's password. Better: `passwordFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Scalar>")]
    pub password: Option<String>,
    /// Where the password comes from.
    #[serde(default, rename = "passwordFrom", skip_serializing_if = "Option::is_none")]
    pub password_from: Option<SecretSourceDocument>,
}

/// Names for an address.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["ip", "hostnames"]))]
pub struct HostAliasDocument {
    /// The address.
    #[serde(default)]
    pub ip: String,
    /// Its names.
    #[serde(default)]
    pub hostnames: Vec<String>,
}

/// A file of the rootfs, or of an application, to overwrite or to merge into.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "Config", extend("required" = ["apiVersion", "kind", "spec"]))]
pub struct ConfigDocument {
    /// `sealift.io/v1`; Sealer's names are accepted too.
    #[serde(default)]
    #[schemars(regex(pattern = API_VERSIONS))]
    pub api_version: String,
    /// `Config`.
    #[serde(default)]
    #[schemars(extend("const" = "Config"))]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub metadata: Metadata,
    /// Which file, and what gets into it.
    #[serde(default)]
    pub spec: ConfigSpec,
}

/// Which file, and what gets into it.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["path", "data"]))]
pub struct ConfigSpec {
    /// The file, relative to the rootfs or to the application's folder.
    #[serde(default)]
    pub path: String,
    /// What is written or merged: text, or YAML.
    #[serde(default)]
    pub data: Value,
    /// Whether `data` replaces the file or is merged into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["overwrite", "merge", null], "default" = "overwrite"))]
    pub strategy: Option<String>,
    /// What is done to the data first: `value`, `toJson`, `toBase64`, `toSecret`, joined with `|`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// The application that `path` belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_name: Option<String>,
}

/// A hook: something to do at a phase, on a scope of hosts.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "Plugin", extend("required" = ["apiVersion", "kind", "spec"]))]
pub struct PluginDocument {
    /// `sealift.io/v1`; Sealer's names are accepted too.
    #[serde(default)]
    #[schemars(regex(pattern = API_VERSIONS))]
    pub api_version: String,
    /// `Plugin`.
    #[serde(default)]
    #[schemars(extend("const" = "Plugin"))]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub metadata: Metadata,
    /// What, when, where.
    #[serde(default)]
    pub spec: PluginSpec,
}

/// What a hook does, when and where.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
pub struct PluginSpec {
    /// `SHELL`, `HOSTNAME`, `LABEL`, `TAINT`, `CLUSTERCHECK` or `ETCD`.
    #[serde(default, rename = "type")]
    #[schemars(extend("enum" = ["SHELL", "HOSTNAME", "LABEL", "TAINT", "CLUSTERCHECK", "ETCD"]))]
    pub kind: String,
    /// The phases, joined with `|`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub action: String,
    /// The hosts it runs on.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub scope: String,
    /// The hosts it runs on, in older files.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(with = "Scalar")]
    pub on: String,
    /// The script, or the lines of the other types.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub data: String,
}

/// The applications that are launched once the cluster is up, and their settings.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "Application", extend("required" = ["apiVersion", "kind", "spec"]))]
pub struct ApplicationDocument {
    /// `sealift.io/v1`; Sealer's names are accepted too.
    #[serde(default)]
    #[schemars(regex(pattern = API_VERSIONS))]
    pub api_version: String,
    /// `Application`.
    #[serde(default)]
    #[schemars(extend("const" = "Application"))]
    pub kind: String,
    /// Its name.
    #[serde(default)]
    pub metadata: Metadata,
    /// What is launched.
    #[serde(default)]
    pub spec: ApplicationSpec,
}

/// What is launched.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationSpec {
    /// Raw commands instead of launching applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmds: Option<Vec<String>>,
    /// The applications to launch, in order; `[""]` launches none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_apps: Option<Vec<String>>,
    /// Settings of applications.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configs: Option<Vec<AppConfigDocument>>,
}

/// The settings of one application.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["name"]))]
pub struct AppConfigDocument {
    /// The application's name.
    #[serde(default)]
    pub name: String,
    /// Its environment, over the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<EnvDocument>,
    /// Files of its folder to overwrite or to merge into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Vec<AppFileDocument>>,
    /// How it is launched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<AppLaunchDocument>,
}

/// A file of an application to overwrite or to merge into.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["path", "data"]))]
pub struct AppFileDocument {
    /// The file, relative to the application's folder.
    #[serde(default)]
    pub path: String,
    /// Whether `data` replaces the file or is merged into it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["overwrite", "merge", null], "default" = "overwrite"))]
    pub strategy: Option<String>,
    /// What is written or merged: text, or YAML.
    #[serde(default)]
    pub data: Value,
}

/// How an application is launched.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
pub struct AppLaunchDocument {
    /// Launch commands instead of those of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmds: Option<Vec<String>>,
}
