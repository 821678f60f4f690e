//! The `Cluster` document to its checked form.

use std::net::IpAddr;

use crate::diagnostic::Span;
use crate::image::Reference;
use crate::yaml::Node;

use super::document::{ClusterDocument, ClusterSpec, ExternalRegistryDocument, LocalRegistryDocument, RegistryDocument, SshDocument};
use super::finding::Findings;
use super::hosts::{self, Shared};
use super::model::{Application, Cluster, Env, ExternalRegistry, HostAlias, LocalRegistry, Registry, Ssh};
use super::sealer_v1;
use super::{env, secret, ssh, taint, validate};

/// The `Cluster` document, and what it says of applications.
pub struct Read {
    /// The cluster, its networks still unsaid.
    pub cluster: Cluster,
    /// `cmd` and `appNames`.
    pub application: Application,
    /// The networks that a document of Sealer v1 says: pods, services.
    pub legacy_networks: (Option<Node>, Option<Node>),
}

/// Reads a `Cluster` document.
pub fn read(node: &Node, strict: bool, findings: &mut Findings) -> Read {
    let old = sealer_v1::Legacy::take(node, strict, findings);
    let node = old.as_ref().map_or(node, |old| &old.rest);
    let document: ClusterDocument = validate::read(node, strict, findings);
    let empty = Node::null(node.span.clone());
    let spec_node = node.get("spec").unwrap_or(&empty);
    let spec = &document.spec;
    let env = env::read(spec_node.get("env"), strict, findings);
    let ssh = ssh::read(spec_node.get("ssh"), spec.ssh.as_ref().unwrap_or(&SshDocument::default()), &Ssh::default(), findings);
    let mut cluster = Cluster {
        name: read_name(node, &document, findings),
        images: read_images(spec_node, spec, findings),
        hosts: read_hosts(spec_node, spec, &Shared { env: &env, ssh: &ssh, strict }, findings),
        registry: read_registry(spec_node, spec.registry.as_ref(), findings),
        container_runtime: spec.container_runtime.as_ref().and_then(|runtime| runtime.kind.clone()).filter(|kind| !kind.is_empty()),
        host_aliases: read_host_aliases(spec_node, findings),
        cert_sans: cert_sans(&env),
        ..Cluster::default()
    };
    cluster.data_root = read_data_root(spec_node, spec).unwrap_or_else(|| Cluster::DEFAULT_DATA_ROOT.to_owned());
    check_data_root(spec_node, &cluster.data_root, findings);
    if let Some(args) = spec_node.get("cmd_args") {
        findings.warning(&args.span, "`cmd_args` is not used").help("write whole commands in `cmd`");
    }
    (cluster.env, cluster.ssh) = (env, ssh);
    let mut legacy_networks = (None, None);
    if let Some(old) = old {
        legacy_networks = old.apply(&mut cluster, findings);
    }
    let application = Application { cmds: spec.cmd.clone(), launch_apps: spec.app_names.clone().map(without_empty), configs: Vec::new() };
    Read { cluster, application, legacy_networks }
}

/// `[""]` launches nothing.
pub fn without_empty(names: Vec<String>) -> Vec<String> {
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

fn read_name(node: &Node, document: &ClusterDocument, findings: &mut Findings) -> String {
    let name = document.metadata.name.trim();
    if name.is_empty() {
        return Cluster::DEFAULT_NAME.to_owned();
    }
    let span = node.at(&["metadata", "name"]).map_or(&node.span, |name| &name.span);
    if let Err(why) = check_cluster_name(name) {
        findings.error(span, why);
    }
    name.to_owned()
}

/// Checks the name of a cluster, which also names files and host labels.
pub fn check_cluster_name(name: &str) -> Result<(), String> {
    taint::check_value(name).map_err(|why| format!("bad cluster name: {why}"))
}

fn read_images(node: &Node, spec: &ClusterSpec, findings: &mut Findings) -> Vec<String> {
    if let (Some(_), Some(_), Some(images)) = (&spec.image, &spec.images, node.get("images")) {
        findings.error(&images.span, "`image` and `images` exclude each other");
    }
    let places = node.get("images").or(node.get("image")).map(Node::items).unwrap_or_default();
    let named: Vec<&Node> = places.iter().filter(|place| place.text().is_some_and(|text| !text.is_empty())).collect();
    for place in &named {
        let text = place.text().unwrap_or_default();
        if let Err(error) = text.parse::<Reference>() {
            findings.error(&place.span, error.to_string());
        }
    }
    named.iter().filter_map(|place| place.text()).map(str::to_owned).collect()
}

fn read_hosts(node: &Node, spec: &ClusterSpec, shared: &Shared<'_>, findings: &mut Findings) -> Vec<super::model::HostSpec> {
    match (node.get("hosts"), &spec.hosts) {
        (Some(list), Some(documents)) => hosts::read(list, documents, shared, findings),
        _ => Vec::new(),
    }
}

fn read_registry(node: &Node, document: Option<&RegistryDocument>, findings: &mut Findings) -> Registry {
    let empty = RegistryDocument::default();
    let document = document.unwrap_or(&empty);
    let external = document
        .external_registry
        .as_ref()
        .map(|external| read_external(node.at(&["registry", "externalRegistry"]).unwrap_or(node), external, findings));
    let local = match &document.local_registry {
        Some(local) => Some(read_local(node.at(&["registry", "localRegistry"]).unwrap_or(node), local, findings)),
        None => external.is_none().then(LocalRegistry::default),
    };
    Registry { local, external }
}

fn read_local(node: &Node, document: &LocalRegistryDocument, findings: &mut Findings) -> LocalRegistry {
    let default = LocalRegistry::default();
    let names = document.cert.as_ref().and_then(|cert| cert.subject_alt_name.as_ref());
    let sans = names.map(|names| [names.dns_names.clone(), names.ips.clone()].into_iter().flatten().flatten().collect());
    let place = |field: &str| place(node, field);
    let (password, password_from) =
        secret::read("password", &document.password, &document.password_from, &place, findings).unwrap_or_default();
    LocalRegistry {
        domain: read_domain(node, document.domain.as_ref(), findings).unwrap_or(default.domain),
        port: read_port(node, document.port.as_ref(), findings).unwrap_or(default.port),
        ha: document.ha.unwrap_or(default.ha),
        insecure: document.insecure.unwrap_or(default.insecure),
        username: document.username.clone().filter(|name| !name.is_empty()),
        password,
        password_from,
        cert_sans: sans.unwrap_or_default(),
    }
}

fn read_external(node: &Node, document: &ExternalRegistryDocument, findings: &mut Findings) -> ExternalRegistry {
    let domain = read_domain(node, document.domain.as_ref(), findings);
    if domain.is_none() {
        findings.error(&node.span, "`externalRegistry` needs a `domain`");
    }
    let place = |field: &str| place(node, field);
    let (password, password_from) =
        secret::read("password", &document.password, &document.password_from, &place, findings).unwrap_or_default();
    ExternalRegistry {
        domain: domain.unwrap_or_default(),
        port: read_port(node, document.port.as_ref(), findings),
        username: document.username.clone().filter(|name| !name.is_empty()),
        password,
        password_from,
    }
}

fn read_domain(node: &Node, domain: Option<&String>, findings: &mut Findings) -> Option<String> {
    let domain = domain.map(|domain| domain.trim().to_owned()).filter(|domain| !domain.is_empty())?;
    if !taint::is_subdomain(&domain) && domain.parse::<IpAddr>().is_err() {
        let finding = findings.error(&place(node, "domain"), format!("`{domain}` is not a host name"));
        finding.help("write the name alone; the port has a field of its own");
    }
    Some(domain)
}

/// The port of a registry; 0 says nothing, as in Sealer.
fn read_port(node: &Node, port: Option<&String>, findings: &mut Findings) -> Option<u16> {
    let port = port.filter(|port| !port.is_empty() && *port != "0")?;
    ssh::read_port(port, &place(node, "port"), findings)
}

fn place(node: &Node, field: &str) -> Span {
    node.get(field).map_or(node.span.clone(), |node| node.span.clone())
}

fn read_host_aliases(node: &Node, findings: &mut Findings) -> Vec<HostAlias> {
    let mut aliases: Vec<HostAlias> = Vec::new();
    for entry in node.get("hostAliases").map(Node::items).unwrap_or_default() {
        let names: Vec<&Node> = entry.get("hostnames").map(|names| names.items().iter().collect()).unwrap_or_default();
        for name in names.iter().filter(|name| !taint::is_subdomain(name.text().unwrap_or_default())) {
            findings.error(&name.span, format!("`{}` is not a host name", name.text().unwrap_or_default()));
        }
        let text = entry.get("ip").and_then(Node::text).unwrap_or_default();
        match text.parse() {
            Ok(ip) => {
                let mut hostnames = Vec::new();
                for name in &names {
                    let Some(text) = name.text() else { continue };
                    match aliases.iter().find(|alias| alias.ip != ip && alias.hostnames.iter().any(|known| known == text)) {
                        Some(other) => {
                            let finding =
                                findings.warning(&name.span, format!("`{text}` has the address {} already: {ip} is left out", other.ip));
                            finding.help("a name in /etc/hosts means its first address: leave one of the two");
                        }
                        None => hostnames.push(text.to_owned()),
                    }
                }
                aliases.push(HostAlias { ip, hostnames });
            }
            Err(_) => {
                findings.error(&place(entry, "ip"), format!("`{text}` is not an IP address"));
            }
        }
    }
    aliases
}

fn cert_sans(env: &Env) -> Vec<String> {
    let text = env.get("CertSANs").map(String::as_str).unwrap_or_default();
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn read_data_root(node: &Node, spec: &ClusterSpec) -> Option<String> {
    node.get("dataRoot")?;
    spec.data_root.clone().filter(|root| !root.is_empty())
}

fn check_data_root(node: &Node, root: &str, findings: &mut Findings) {
    let absolute = root.starts_with('/') && root.trim_end_matches('/').len() > 1;
    if !absolute || root.split('/').any(|part| part == "..") {
        findings.error(&place(node, "dataRoot"), format!("`{root}` is not an absolute path below `/`"));
    }
}
