//! The checked state back to a Clusterfile, without secrets: what `--dry-run` prints and what is kept of a running cluster.

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::document::{
    AppConfigDocument, AppFileDocument, AppLaunchDocument, ApplicationDocument, ApplicationSpec, CertificateDocument, ClusterDocument,
    ClusterSpec, ConfigDocument, ConfigSpec, ContainerRuntimeDocument, EnvDocument, ExternalRegistryDocument, HostAliasDocument,
    HostDocument, LocalRegistryDocument, Metadata, OneOrMany, PluginDocument, PluginSpec, RegistryDocument, SecretPlace,
    SecretSourceDocument, SshDocument, SubjectAltNameDocument, SudoDocument,
};
use super::load::API_VERSION;
use super::model::{
    AppConfig, Application, Cluster, Clusterfile, Config, Env, HostSpec, LocalRegistry, Plugin, Process, Registry, SecretSource, Ssh,
    Strategy,
};

impl Clusterfile {
    /// Writes it as documents of our own kind, without any password; loading them gives the same state.
    pub fn to_yaml(&self) -> Result<String> {
        let mut documents = vec![yaml(&cluster_document(&self.cluster))?];
        if self.application != Application::default() {
            documents.push(yaml(&application_document(&self.application))?);
        }
        for config in &self.configs {
            documents.push(yaml(&config_document(config))?);
        }
        for plugin in &self.plugins {
            documents.push(yaml(&plugin_document(plugin))?);
        }
        for (kind, document) in self.kubeadm.each() {
            documents.push(yaml(&with_kind(kind, document))?);
        }
        for other in &self.others {
            documents.push(yaml(&other.value)?);
        }
        Ok(documents.join("---\n"))
    }
}

fn yaml(document: &impl Serialize) -> Result<String> {
    // by way of a value, so that every document is written in one style
    let value = serde_json::to_value(document)?;
    let mut text = serde_saphyr::to_string(&value).context("write YAML")?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn with_kind(kind: &str, document: &Value) -> Value {
    let mut fields = Map::from_iter([("kind".to_owned(), json!(kind))]);
    fields.extend(document.as_object().cloned().unwrap_or_default());
    Value::Object(fields)
}

fn metadata(name: &str) -> Metadata {
    Metadata { name: name.to_owned(), ..Metadata::default() }
}

fn cluster_document(cluster: &Cluster) -> ClusterDocument {
    let (image, images) = match cluster.images.as_slice() {
        [] => (None, None),
        [image] => (Some(image.clone()), None),
        images => (None, Some(images.to_vec())),
    };
    let aliases =
        cluster.host_aliases.iter().map(|alias| HostAliasDocument { ip: alias.ip.to_string(), hostnames: alias.hostnames.clone() });
    ClusterDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Cluster".to_owned(),
        metadata: metadata(&cluster.name),
        spec: ClusterSpec {
            image,
            images,
            env: env_document(&cluster.env),
            ssh: ssh_document(&cluster.ssh, &Ssh::default()),
            hosts: some(host_documents(cluster)),
            container_runtime: cluster.container_runtime.clone().map(|kind| ContainerRuntimeDocument { kind: Some(kind) }),
            registry: Some(registry_document(&cluster.registry)),
            host_aliases: some(aliases.collect()),
            data_root: Some(cluster.data_root.clone()),
            ..ClusterSpec::default()
        },
    }
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn env_document(env: &Env) -> Option<EnvDocument> {
    (!env.is_empty()).then(|| EnvDocument::List(env.iter().map(|(name, value)| format!("{name}={value}")).collect()))
}

/// The hosts, neighbours that are alike in one entry.
fn host_documents(cluster: &Cluster) -> Vec<HostDocument> {
    let mut documents: Vec<(Value, HostDocument)> = Vec::new();
    for host in &cluster.hosts {
        let mut document = host_document(host, cluster);
        let alike = serde_json::to_value(&document).unwrap_or_default();
        let address = host.address.to_string();
        match documents.last_mut() {
            Some((last, HostDocument { ips: Some(OneOrMany::Many(ips)), .. })) if *last == alike => ips.push(address),
            _ => {
                document.ips = Some(OneOrMany::Many(vec![address]));
                documents.push((alike, document));
            }
        }
    }
    documents.into_iter().map(|(_, document)| document).collect()
}

/// A host without its address: what it says over the cluster.
fn host_document(host: &HostSpec, cluster: &Cluster) -> HostDocument {
    let own: Env =
        host.env.iter().filter(|(name, value)| cluster.env.get(*name) != Some(value)).map(|(n, v)| (n.clone(), v.clone())).collect();
    HostDocument {
        ips: None,
        roles: Some(OneOrMany::Many(host.roles.clone())),
        labels: (!host.labels.is_empty()).then(|| host.labels.clone()),
        taints: some(host.taints.iter().map(ToString::to_string).collect()),
        env: env_document(&own),
        ssh: ssh_document(&host.ssh, &cluster.ssh),
    }
}

/// What an access says over another, without passwords.
fn ssh_document(ssh: &Ssh, under: &Ssh) -> Option<SshDocument> {
    let changed = |own: &Option<String>, under: &Option<String>| own.clone().filter(|_| own != under);
    let source = |own: &Option<SecretSource>, under: &Option<SecretSource>| own.as_ref().filter(|_| own != under).map(source_document);
    let sudo_source = |ssh: &Ssh| ssh.sudo.as_ref().map(|sudo| sudo.passwd_from.clone());
    let document = SshDocument {
        user: (ssh.user != under.user).then(|| ssh.user.clone()),
        port: (ssh.port != under.port).then(|| ssh.port.to_string()),
        passwd_from: source(&ssh.passwd_from, &under.passwd_from),
        pk: changed(&ssh.pk, &under.pk),
        pk_passwd_from: source(&ssh.pk_passwd_from, &under.pk_passwd_from),
        sudo: sudo_source(ssh)
            .filter(|_| sudo_source(ssh) != sudo_source(under))
            .map(|from| SudoDocument { passwd: None, passwd_from: from.as_ref().map(source_document) }),
        jump: changed(&ssh.jump, &under.jump),
        ..SshDocument::default()
    };
    let said = serde_json::to_value(&document).is_ok_and(|value| value.as_object().is_some_and(|fields| !fields.is_empty()));
    said.then_some(document)
}

fn source_document(source: &SecretSource) -> SecretSourceDocument {
    let place = |env, file| SecretSourceDocument::Place(SecretPlace { env, file, prompt: None });
    match source {
        SecretSource::Prompt => SecretSourceDocument::Word("prompt".to_owned()),
        SecretSource::Env(name) => place(Some(name.clone()), None),
        SecretSource::File(path) => place(None, Some(path.clone())),
    }
}

fn registry_document(registry: &Registry) -> RegistryDocument {
    RegistryDocument {
        local_registry: registry.local.as_ref().map(local_document),
        external_registry: registry.external.as_ref().map(|external| ExternalRegistryDocument {
            domain: Some(external.domain.clone()),
            port: external.port.map(|port| port.to_string()),
            username: external.username.clone(),
            password: None,
            password_from: external.password_from.as_ref().map(source_document),
        }),
    }
}

fn local_document(local: &LocalRegistry) -> LocalRegistryDocument {
    let names = some(local.cert_sans.clone()).map(|names| SubjectAltNameDocument { dns_names: Some(names), ips: None });
    LocalRegistryDocument {
        domain: Some(local.domain.clone()),
        port: Some(local.port.to_string()),
        ha: Some(local.ha),
        insecure: Some(local.insecure),
        username: local.username.clone(),
        password: None,
        password_from: local.password_from.as_ref().map(source_document),
        cert: names.map(|names| CertificateDocument { subject_alt_name: Some(names) }),
    }
}

fn config_document(config: &Config) -> ConfigDocument {
    let steps = config.process.iter().map(|step| match step {
        Process::Value => "value",
        Process::ToJson => "toJson",
        Process::ToBase64 => "toBase64",
        Process::ToSecret => "toSecret",
    });
    let process = steps.collect::<Vec<_>>().join("|");
    ConfigDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Config".to_owned(),
        metadata: metadata(&config.name),
        spec: ConfigSpec {
            path: config.path.clone(),
            data: config.data.clone().into(),
            strategy: strategy(config.strategy),
            process: (!process.is_empty()).then_some(process),
            app_name: config.app.clone(),
        },
    }
}

fn strategy(strategy: Strategy) -> Option<String> {
    (strategy == Strategy::Merge).then(|| "merge".to_owned())
}

fn plugin_document(plugin: &Plugin) -> PluginDocument {
    PluginDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Plugin".to_owned(),
        metadata: metadata(&plugin.name),
        spec: PluginSpec {
            kind: plugin.kind.clone(),
            action: plugin.phases.join("|"),
            scope: plugin.scope.clone(),
            on: String::new(),
            data: plugin.data.clone(),
        },
    }
}

fn application_document(application: &Application) -> ApplicationDocument {
    ApplicationDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Application".to_owned(),
        metadata: Metadata::default(),
        spec: ApplicationSpec {
            cmds: application.cmds.clone(),
            launch_apps: application.launch_apps.clone(),
            configs: some(application.configs.iter().map(app_config_document).collect()),
        },
    }
}

fn app_config_document(config: &AppConfig) -> AppConfigDocument {
    let files = config.files.iter().map(|file| AppFileDocument {
        path: file.path.clone(),
        strategy: strategy(file.strategy),
        data: file.data.clone().into(),
    });
    AppConfigDocument {
        name: config.name.clone(),
        env: env_document(&config.env),
        files: some(files.collect()),
        launch: config.cmds.clone().map(|cmds| AppLaunchDocument { cmds: Some(cmds) }),
    }
}
