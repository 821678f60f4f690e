//! The cluster config: what kind of cluster an image installs, its applications and defaults. One JSON document in the annotation
//! `io.sealift.cluster` of the rootfs manifest; and Sealer's annotation with the same content.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Whether an image installs a cluster, or applications into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterKind {
    /// Installs a whole cluster.
    #[default]
    KubeInstaller,
    /// Installs applications into a running cluster.
    AppInstaller,
}

/// What kind of cluster an image installs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeKind {
    /// Kubernetes, by kubeadm.
    #[default]
    Kubernetes,
    /// Whatever the image's scripts bring up.
    None,
}

/// How an application is launched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AppKind {
    /// YAML or JSON manifests, applied.
    Kube,
    /// A Helm chart.
    Helm,
    /// Shell scripts.
    Shell,
    /// A kustomization.
    Kustomize,
    /// Only launch commands say how.
    #[serde(rename = "")]
    Unknown,
}

/// A role that an application has in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The network plugin: launched before all other applications.
    Cni,
    /// The storage plugin: launched after the network plugin.
    Csi,
}

/// One application of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Its name; its files are in `application/apps/<name>/`.
    pub name: String,
    /// How it is launched.
    #[serde(rename = "type")]
    pub kind: AppKind,
    /// What is launched, relative to its folder, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// Its environment, from APPENV.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Its launch commands, from APPCMDS, instead of those its kind implies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmds: Vec<String>,
    /// Its role, from CNI and CSI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
}

impl App {
    /// Where its files are, relative to the rootfs.
    pub fn root(&self) -> String {
        format!("application/apps/{}", self.name)
    }
}

/// What is launched when the cluster is up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Launch {
    /// Raw commands, from CMDS and CMD.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cmds: Vec<String>,
    /// Names of applications, from LAUNCH, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<String>,
}

/// The cluster config.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfig {
    /// The version of this schema, [`ClusterConfig::SCHEMA`]. Changes when layer boundaries change too.
    pub schema_version: String,
    /// Whether the image installs a cluster or applications.
    #[serde(rename = "type")]
    pub kind: ClusterKind,
    /// What kind of cluster.
    #[serde(default)]
    pub runtime: RuntimeKind,
    /// The Kubernetes version that it installs, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_version: Option<String>,
    /// The range of Kubernetes versions that an application image needs, from KUBEVERSION.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kube_version: Option<String>,
    /// All applications, inherited ones first, in the order of their declaration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apps: Vec<App>,
    /// What is launched.
    #[serde(default)]
    pub launch: Launch,
    /// Defaults for the Clusterfile's env, from ENV.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// The image's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl ClusterConfig {
    /// The schema version written today.
    pub const SCHEMA: &'static str = "v1";

    /// An empty config of today's schema.
    pub fn new(kind: ClusterKind) -> Self {
        ClusterConfig { schema_version: Self::SCHEMA.to_owned(), kind, ..Default::default() }
    }

    /// The application with this name.
    pub fn app(&self, name: &str) -> Option<&App> {
        self.apps.iter().find(|app| app.name == name)
    }

    /// Converts to Sealer's annotation `sealer.image.extension` (schema `v1alpha1`).
    pub fn to_sealer(&self) -> SealerExtension {
        SealerExtension {
            build_client: BTreeMap::from([("sealerVersion".to_owned(), String::new()), ("buildahVersion".to_owned(), String::new())]),
            schema_version: "v1alpha1".to_owned(),
            kind: self.kind,
            applications: self
                .apps
                .iter()
                .map(|app| SealerApp {
                    name: app.name.clone(),
                    kind: if app.kind == AppKind::Kustomize { AppKind::Unknown } else { app.kind },
                    files: app.files.clone(),
                    version: "v1".to_owned(),
                    env: app.env.clone(),
                    cmds: app.cmds.clone(),
                })
                .collect(),
            labels: self.labels.clone(),
            env: self.env.clone(),
            launch: SealerLaunch { cmds: self.launch.cmds.clone(), app_names: self.launch.apps.clone() },
        }
    }

    /// Converts from Sealer's annotation, for images that Sealer built.
    pub fn from_sealer(extension: SealerExtension) -> Self {
        let role_of = |name: &str| {
            let named = |kind: &str| {
                extension.labels.get(&format!("cluster.alpha.sealer.io/kube-{kind}-{name}")).is_some_and(|value| value == "true")
            };
            if named("cni") {
                Some(Role::Cni)
            } else if named("csi") {
                Some(Role::Csi)
            } else {
                None
            }
        };
        ClusterConfig {
            schema_version: Self::SCHEMA.to_owned(),
            kind: extension.kind,
            runtime: match extension.labels.get("cluster.alpha.sealer.io/cluster-runtime-type").map(String::as_str) {
                Some("none") => RuntimeKind::None,
                _ => RuntimeKind::Kubernetes,
            },
            runtime_version: extension.labels.get("cluster.alpha.sealer.io/cluster-runtime-version").cloned(),
            kube_version: extension.labels.get("app.alpha.sealer.io/supported-kube-version").cloned(),
            apps: extension
                .applications
                .iter()
                .map(|app| App {
                    name: app.name.clone(),
                    kind: app.kind,
                    files: app.files.clone(),
                    env: app.env.clone(),
                    cmds: app.cmds.clone(),
                    role: role_of(&app.name),
                })
                .collect(),
            launch: Launch { cmds: extension.launch.cmds, apps: extension.launch.app_names },
            env: extension.env,
            labels: extension.labels,
        }
    }
}

/// Sealer's annotation `sealer.image.extension` (Sealer 0.9 to 0.11; 0.9.0 wrote `launchfiles` for `files`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SealerExtension {
    /// What built it.
    pub build_client: BTreeMap<String, String>,
    /// `v1alpha1`.
    pub schema_version: String,
    /// Whether it installs a cluster or applications.
    #[serde(rename = "type")]
    pub kind: ClusterKind,
    /// The applications.
    #[serde(deserialize_with = "null_is_default")]
    pub applications: Vec<SealerApp>,
    /// The labels.
    #[serde(deserialize_with = "null_is_default")]
    pub labels: BTreeMap<String, String>,
    /// The global env.
    #[serde(deserialize_with = "null_is_default")]
    pub env: BTreeMap<String, String>,
    /// What is launched.
    pub launch: SealerLaunch,
}

/// An application in Sealer's annotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealerApp {
    /// Its name.
    pub name: String,
    /// How it is launched.
    #[serde(rename = "type", default = "unknown_kind")]
    pub kind: AppKind,
    /// What is launched.
    #[serde(alias = "launchfiles", default, deserialize_with = "null_is_default")]
    pub files: Vec<String>,
    /// `v1`.
    #[serde(default)]
    pub version: String,
    /// Its environment.
    #[serde(default, deserialize_with = "null_is_default")]
    pub env: BTreeMap<String, String>,
    /// Its launch commands.
    #[serde(default, deserialize_with = "null_is_default")]
    pub cmds: Vec<String>,
}

fn unknown_kind() -> AppKind {
    AppKind::Unknown
}

/// What Sealer's annotation says is launched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SealerLaunch {
    /// Raw commands.
    #[serde(deserialize_with = "null_is_default")]
    pub cmds: Vec<String>,
    /// Names of applications.
    #[serde(deserialize_with = "null_is_default")]
    pub app_names: Vec<String>,
}

/// Go writes empty lists and maps as `null`.
fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn converting_to_sealers_annotation_and_back_loses_nothing() {
        let mut config = ClusterConfig::new(ClusterKind::AppInstaller);
        config.labels.insert("cluster.alpha.sealer.io/kube-cni-net".to_owned(), "true".to_owned());
        config.apps.push(App {
            name: "net".to_owned(),
            kind: AppKind::Kube,
            files: vec!["net.yaml".to_owned()],
            env: BTreeMap::new(),
            cmds: vec![],
            role: Some(Role::Cni),
        });
        config.launch.apps.push("net".to_owned());
        let text = serde_json::to_string(&config.to_sealer()).unwrap();
        assert_eq!(ClusterConfig::from_sealer(serde_json::from_str(&text).unwrap()), config);
    }

    #[test]
    fn go_nulls_and_missing_fields_are_empty() {
        let text = r#"{"schemaVersion":"v1alpha1","type":"kube-installer","applications":null,"labels":null,
            "launch":{"cmds":null,"app_names":["a"]}}"#;
        let config = ClusterConfig::from_sealer(serde_json::from_str(text).unwrap());
        assert_eq!((config.apps.len(), config.launch.apps.len()), (0, 1));
    }
}
