//! Sealer v1 clusters, converted: `masters` and `nodes` with `ipList`, `network`, `certSANS`, `provider`.

use crate::diagnostic::Span;
use crate::yaml::Node;

use super::address;
use super::finding::Findings;
use super::hosts;
use super::model::{Cluster, HostSpec, MASTER, NODE};

const FIELDS: &[&str] = &["provider", "network", "certSANS", "masters", "nodes"];

/// The fields that only Sealer v1 has, and the document without them.
pub struct Legacy {
    /// The document without them.
    pub rest: Node,
    fields: Vec<(Node, Node)>,
    spec_span: Span,
}

impl Legacy {
    /// Takes the old fields out of a `Cluster` document; `None` if it has none, or must not have them.
    pub fn take(document: &Node, strict: bool, findings: &mut Findings) -> Option<Legacy> {
        let spec = document.get("spec")?;
        let old = |key: &Node| key.text().is_some_and(|name| FIELDS.contains(&name));
        let (fields, kept): (Vec<_>, Vec<_>) = spec.entries().iter().cloned().partition(|(key, _)| old(key));
        let (first, _) = fields.first()?;
        if strict {
            let finding = findings.error(&first.span, format!("`{}` is a field of Sealer v1", first.text().unwrap_or_default()));
            finding.help("list the machines in `hosts`, each entry with `ips` and `roles`");
        }
        let spec_span = spec.span.clone();
        let spec = spec.with_entries(kept);
        let entries = document.entries().iter().map(|(key, value)| {
            let value = if key.text() == Some("spec") { spec.clone() } else { value.clone() };
            (key.clone(), value)
        });
        let rest = document.with_entries(entries.collect());
        Some(Legacy { rest, fields, spec_span })
    }

    fn field(&self, name: &str) -> Option<&Node> {
        self.fields.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// Puts what the old fields say into the cluster; gives the places of its pod and service networks.
    pub fn apply(&self, cluster: &mut Cluster, findings: &mut Findings) -> (Option<Node>, Option<Node>) {
        self.check_provider(findings);
        let networks = self.read_network(findings);
        self.fill_env(cluster, &networks);
        let mut hosts = Vec::new();
        for (field, role) in [("masters", MASTER), ("nodes", NODE)] {
            self.read_group(field, role, cluster, &mut hosts, findings);
        }
        if !hosts.is_empty() {
            hosts::check_masters(&hosts, &self.spec_span, findings);
            cluster.hosts.append(&mut hosts);
        }
        networks
    }

    /// What newer files say by env, which is also what templates of images read.
    fn fill_env(&self, cluster: &mut Cluster, networks: &(Option<Node>, Option<Node>)) {
        let names = self.field("certSANS").map(Node::items).unwrap_or_default();
        cluster.cert_sans.extend(names.iter().filter_map(Node::text).map(str::to_owned));
        let text = |node: &Option<Node>| node.as_ref().and_then(Node::text).map(str::to_owned);
        let sans = (!cluster.cert_sans.is_empty()).then(|| cluster.cert_sans.join(","));
        for (name, value) in [("PodCIDR", text(&networks.0)), ("SvcCIDR", text(&networks.1)), ("CertSANs", sans)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                cluster.env.entry(name.to_owned()).or_insert(value);
            }
        }
    }

    fn check_provider(&self, findings: &mut Findings) {
        let Some(provider) = self.field("provider") else { return };
        let name = provider.text().unwrap_or_default();
        if !["BAREMETAL", ""].contains(&name.to_uppercase().as_str()) {
            let finding = findings.warning(&provider.span, format!("provider `{name}`: sealift makes no machines"));
            finding.help("make them by other means and list their addresses in `hosts`");
        }
    }

    fn read_group(&self, field: &str, role: &str, cluster: &Cluster, hosts: &mut Vec<HostSpec>, findings: &mut Findings) {
        let Some(group) = self.field(field) else { return };
        let list = group.get("ipList").map(Node::items).unwrap_or_default();
        if list.is_empty() && group.get("count").is_some() {
            findings
                .warning(&group.span, format!("`{field}` counts machines that sealift does not make"))
                .help("list addresses in `ipList`");
        }
        for item in list {
            let addresses = address::parse_item(item.text().unwrap_or_default()).unwrap_or_else(|why| {
                findings.error(&item.span, why);
                Vec::new()
            });
            for address in addresses {
                if hosts.iter().chain(&cluster.hosts).any(|host| host.address == address) {
                    findings.error(&item.span, format!("duplicate address {address}"));
                    continue;
                }
                hosts.push(HostSpec {
                    address,
                    roles: vec![role.to_owned()],
                    labels: Default::default(),
                    taints: Vec::new(),
                    env: cluster.env.clone(),
                    ssh: cluster.ssh.clone(),
                });
            }
        }
    }

    fn read_network(&self, findings: &mut Findings) -> (Option<Node>, Option<Node>) {
        let Some(network) = self.field("network") else { return (None, None) };
        for (key, _) in network.entries() {
            let name = key.text().unwrap_or_default();
            if ["podCIDR", "svcCIDR"].contains(&name) {
                continue;
            }
            findings.warning(&key.span, format!("`network.{name}` is not read: the image contains its network plugin"));
        }
        (network.get("podCIDR").cloned(), network.get("svcCIDR").cloned())
    }
}
