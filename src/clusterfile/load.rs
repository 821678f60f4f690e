//! A file's text to the checked desired state.

use anyhow::Result;

use crate::diagnostic::{Diagnostic, Span, did_you_mean, refuse_errors};
use crate::yaml::{Content, Node, read_documents};

use super::finding::Findings;
use super::model::{Clusterfile, OtherDocument};
use super::network::{self, Sources};
use super::redact::masked;
use super::{cluster, extra_documents};

/// The apiVersion of our own documents.
pub const API_VERSION: &str = "sealift.io/v1";

/// The kinds of documents that are read.
pub const KINDS: &[&str] = &[
    "Application",
    "BackingService",
    "Clock",
    "Cluster",
    "ClusterConfiguration",
    "Config",
    "InitConfiguration",
    "JoinConfiguration",
    "KubeProxyConfiguration",
    "KubeletConfiguration",
    "Plugin",
    "Preflight",
    "Storage",
    "Tuning",
];

/// Loads a Clusterfile; `file` is what the user calls it.
///
/// # Errors
/// Fails with all diagnostics at once ([`crate::diagnostic::Invalid`], [`crate::error::Kind::Usage`]) if one is an error.
pub fn load(file: &str, text: &str) -> Result<Clusterfile> {
    let (mut clusterfile, diagnostics) = judge(file, text);
    refuse_errors(&masked(text), &diagnostics)?;
    clusterfile.warnings = diagnostics;
    Ok(clusterfile)
}

/// Everything that is wrong in a Clusterfile, in the order of the file.
pub fn lint(file: &str, text: &str) -> Vec<Diagnostic> {
    let (clusterfile, mut diagnostics) = judge(file, text);
    let nodes = read_documents(text).unwrap_or_default();
    let fields = clusterfile.cluster.unsupported_fields();
    for (number, what) in clusterfile.unsupported().into_iter().enumerate() {
        // fields come first; those that Sealer v1 has elsewhere have no place
        let span = fields.get(number).and_then(|(path, _)| field_place(&nodes, path)).unwrap_or(0..0);
        let is_wrong_anyway = !span.is_empty() && diagnostics.iter().any(|known| known.is_error() && known.span == span);
        if !is_wrong_anyway {
            diagnostics.push(Diagnostic::warning(file, span, format!("{what} is not carried out yet")));
        }
    }
    diagnostics
}

/// Where the `Cluster` document says a field.
fn field_place(nodes: &[Node], path: &str) -> Option<Span> {
    let keys: Vec<&str> = std::iter::once("spec").chain(path.split('.')).collect();
    let cluster = nodes.iter().find(|node| node.get("kind").and_then(Node::text) == Some("Cluster"))?;
    Some(cluster.at(&keys)?.span.clone())
}

fn judge(file: &str, text: &str) -> (Clusterfile, Vec<Diagnostic>) {
    let mut findings = Findings::new(file);
    let mut loader = Loader { clusterfile: Clusterfile::default(), cluster: None, legacy: (None, None), findings: &mut findings };
    match read_documents(text) {
        Err(error) => drop(loader.findings.error(&error.span, format!("not YAML: {}", error.message))),
        Ok(nodes) if nodes.is_empty() => drop(loader.findings.error(&(0..0), "the file holds no document")),
        Ok(nodes) => loader.read_all(&nodes),
    }
    let clusterfile = loader.clusterfile;
    (clusterfile, findings.into_sorted())
}

/// A file being loaded.
struct Loader<'a> {
    clusterfile: Clusterfile,
    cluster: Option<Span>,
    legacy: (Option<Node>, Option<Node>),
    findings: &'a mut Findings,
}

impl Loader<'_> {
    fn read_all(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.read(node);
        }
        self.read_networks(nodes);
        match &self.cluster {
            Some(span) if self.clusterfile.cluster.hosts.is_empty() => {
                self.findings.warning(&span.clone(), "no hosts specified").help("list them in `hosts`, or give `--masters` and `--nodes`");
            }
            _ => {}
        }
    }

    fn read(&mut self, node: &Node) {
        let Some(kind) = node.get("kind").and_then(Node::text) else {
            let what =
                if matches!(node.content, Content::Map(_)) { "a document without `kind`" } else { "a document that is not a mapping" };
            self.findings.error(&node.span, what).help(format!("kinds: {}", KINDS.join(", ")));
            return;
        };
        let strict = self.is_strict(node);
        match kind {
            "Cluster" => self.read_cluster(node, strict),
            "Config" => self.clusterfile.configs.push(extra_documents::read_config(node, strict, self.findings)),
            "Plugin" => self.clusterfile.plugins.push(extra_documents::read_plugin(node, strict, self.findings)),
            "Application" => self.read_application(node, strict),
            "Preflight" | "Tuning" | "Clock" | "Storage" | "BackingService" => self.keep(node, kind),
            _ => self.read_kubeadm(node, kind, strict),
        }
    }

    /// Whether a document is of our own kind, where nothing unknown is let pass. Sealer never looks at the apiVersion.
    fn is_strict(&mut self, node: &Node) -> bool {
        let Some(version) = node.get("apiVersion") else { return false };
        let text = version.text().unwrap_or_default();
        if let Some(own) = text.strip_prefix("sealift.io/") {
            if own != "v1" {
                self.findings.error(&version.span, format!("unknown apiVersion `{text}`")).help(format!("write `{API_VERSION}`"));
            }
            return true;
        }
        let group = text.split('/').next().unwrap_or_default();
        let known = ["sealer.io", "sealer.cloud", "sealer.aliyun.com", "zlink.aliyun.com", "sealer.com"].contains(&group);
        if !known && !group.ends_with(".k8s.io") {
            self.findings.warning(&version.span, format!("unknown apiVersion `{text}`")).help(format!("write `{API_VERSION}`"));
        }
        false
    }

    fn read_cluster(&mut self, node: &Node, strict: bool) {
        if self.cluster.is_some() {
            self.findings.error(&node.span, "a second `Cluster` document").help("one file describes one cluster");
            return;
        }
        let read = cluster::read(node, strict, self.findings);
        self.cluster = Some(node.get("kind").unwrap_or(node).span.clone());
        self.legacy = read.legacy_networks;
        let application = &mut self.clusterfile.application;
        application.cmds = application.cmds.take().or(read.application.cmds);
        application.launch_apps = application.launch_apps.take().or(read.application.launch_apps);
        self.clusterfile.cluster = read.cluster;
    }

    /// An `Application` document is over `cmd` and `appNames` of the cluster.
    fn read_application(&mut self, node: &Node, strict: bool) {
        let read = extra_documents::read_application(node, strict, self.findings);
        let application = &mut self.clusterfile.application;
        application.cmds = read.cmds.or(application.cmds.take());
        application.launch_apps = read.launch_apps.or(application.launch_apps.take());
        application.configs.extend(read.configs);
    }

    fn keep(&mut self, node: &Node, kind: &str) {
        let name = node.at(&["metadata", "name"]).and_then(Node::text).unwrap_or_default().to_owned();
        self.clusterfile.others.push(OtherDocument { kind: kind.to_owned(), name, value: node.to_value() });
    }

    fn read_kubeadm(&mut self, node: &Node, kind: &str, strict: bool) {
        let span = node.get("kind").unwrap_or(node).span.clone();
        let Some(slot) = self.clusterfile.kubeadm.slot(kind) else {
            let finding = self.findings.error_if(strict, &span, format!("unknown kind `{kind}`{}", if strict { "" } else { ", not used" }));
            match did_you_mean(kind, KINDS.iter().copied()) {
                Some(meant) => finding.help(format!("did you mean `{meant}`?")),
                None => finding.help(format!("kinds: {}", KINDS.join(", "))),
            }
            return;
        };
        let mut value = node.to_value();
        if let Some(fields) = value.as_object_mut() {
            fields.shift_remove("apiVersion");
            fields.shift_remove("kind");
        }
        if slot.replace(value).is_some() {
            self.findings.warning(&span, format!("a second `{kind}` document; this one is used"));
        }
    }

    /// kubeadm's documents say the networks; else env does; else, in files of Sealer v1, `network`.
    fn read_networks(&mut self, nodes: &[Node]) {
        let of_kind = |kind: &'static str| nodes.iter().rev().filter(move |node| node.get("kind").and_then(Node::text) == Some(kind));
        let kubeadm = |field: &str| of_kind("ClusterConfiguration").find_map(|node| node.at(&["networking", field]));
        let env = |name: &str| of_kind("Cluster").find_map(|node| env_place(node.at(&["spec", "env"])?, name));
        let sources = Sources {
            pods: [kubeadm("podSubnet"), env("PodCIDR"), self.legacy.0.as_ref()].into_iter().flatten().collect(),
            services: [kubeadm("serviceSubnet"), env("SvcCIDR"), self.legacy.1.as_ref()].into_iter().flatten().collect(),
        };
        self.clusterfile.cluster.networks = network::read(&sources, &self.clusterfile.cluster.hosts, self.findings);
    }
}

/// Where an environment sets a variable.
fn env_place<'a>(env: &'a Node, name: &str) -> Option<&'a Node> {
    if let Some(value) = env.get(name) {
        return Some(value);
    }
    let sets = |item: &&Node| item.text().and_then(|text| text.split_once('=')).is_some_and(|(own, _)| own.trim() == name);
    env.items().iter().rev().find(sets)
}
