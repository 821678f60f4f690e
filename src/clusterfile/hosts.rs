//! The hosts of a cluster: entries expanded to one host for each address, cluster settings filled in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::document::{HostDocument, SshDocument};
use super::finding::Findings;
use super::model::{Env, HostSpec, MASTER, NODE, Ssh, Taint, merged};
use super::{address, env, ssh, taint};
use crate::diagnostic::{Span, did_you_mean};
use crate::yaml::Node;

/// An address and where the file says it.
pub type Placed = (IpAddr, Span);

/// What hosts take from the cluster.
pub struct Shared<'a> {
    /// The cluster's environment.
    pub env: &'a Env,
    /// How hosts are reached that say nothing else.
    pub ssh: &'a Ssh,
    /// Whether the file is of our own kind.
    pub strict: bool,
}

/// Reads all entries of `spec.hosts`.
pub fn read(list: &Node, documents: &[HostDocument], shared: &Shared<'_>, findings: &mut Findings) -> Vec<HostSpec> {
    let mut hosts = Vec::new();
    let mut seen: BTreeMap<IpAddr, Span> = BTreeMap::new();
    // items that were wrong are left out of both alike
    let entries = list.items().iter().filter(|entry| !entry.entries().is_empty());
    for (entry, document) in entries.zip(documents) {
        read_entry(entry, document, shared, &mut seen, &mut hosts, findings);
    }
    check_family(&hosts, &list.span, findings);
    check_masters(&hosts, &list.span, findings);
    hosts
}

fn read_entry(
    entry: &Node,
    document: &HostDocument,
    shared: &Shared<'_>,
    seen: &mut BTreeMap<IpAddr, Span>,
    hosts: &mut Vec<HostSpec>,
    findings: &mut Findings,
) {
    let roles = read_roles(entry, findings);
    let labels = read_labels(entry, document.labels.as_ref(), findings);
    let taints = read_taints(entry, findings);
    let env = merged(shared.env, &env::read(entry.get("env"), shared.strict, findings));
    let ssh = ssh::read(entry.get("ssh"), document.ssh.as_ref().unwrap_or(&SshDocument::default()), shared.ssh, findings);
    for (address, span) in read_addresses(entry, findings) {
        if seen.insert(address, span.clone()).is_some() {
            findings
                .error(&span, format!("duplicate address {address}"))
                .help("a host with several roles has them all in one entry: `roles: [master, node]`");
            continue;
        }
        hosts.push(HostSpec {
            address,
            roles: roles.clone(),
            labels: labels.clone(),
            taints: taints.clone(),
            env: env.clone(),
            ssh: ssh.clone(),
        });
    }
}

/// The addresses of an entry, ranges expanded.
fn read_addresses(entry: &Node, findings: &mut Findings) -> Vec<Placed> {
    let Some(ips) = entry.get("ips") else {
        findings.error(&entry.span, "a host entry without `ips`");
        return Vec::new();
    };
    let mut addresses = Vec::new();
    for item in ips.items() {
        match address::parse_item(item.text().unwrap_or_default()) {
            Ok(list) => addresses.extend(list.into_iter().map(|address| (address, item.span.clone()))),
            Err(why) => {
                findings.error(&item.span, why);
            }
        }
    }
    for (address, span) in &addresses {
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
            findings.error(span, format!("{address} is not an address that other hosts can reach"));
        }
    }
    addresses
}

fn read_roles(entry: &Node, findings: &mut Findings) -> Vec<String> {
    let mut roles: Vec<String> = Vec::new();
    let items = entry.get("roles").map(Node::items).unwrap_or_default();
    for item in items {
        let text = item.text().unwrap_or_default().trim();
        let role = if text == "master0" { MASTER } else { text };
        if let Err(why) = taint::check_value(role).and_then(|()| if role.is_empty() { Err("a role is empty".to_owned()) } else { Ok(()) }) {
            findings.error(&item.span, format!("unknown role: {why}"));
        } else if ![MASTER, NODE].contains(&role)
            && let Some(meant) = did_you_mean(role, [MASTER, NODE, "worker"])
        {
            let meant = if meant == "worker" { NODE } else { meant };
            findings.warning(&item.span, format!("role `{role}` is only a label here")).help(format!("did you mean `{meant}`?"));
            roles.push(role.to_owned());
        } else if !roles.iter().any(|own| own == role) {
            roles.push(role.to_owned());
        }
    }
    if items.is_empty() {
        findings.error(&entry.span, "a host entry without `roles`").help("`roles: [master]` or `roles: [node]`");
    } else if !roles.is_empty() && !roles.iter().any(|role| role == MASTER || role == NODE) {
        let place = entry.get("roles").unwrap_or(entry);
        findings.warning(
            &place.span,
            "neither `master` nor `node` is among the roles; the host joins as a worker (with Sealer it would not join)",
        );
    }
    roles
}

fn read_labels(entry: &Node, labels: Option<&BTreeMap<String, String>>, findings: &mut Findings) -> BTreeMap<String, String> {
    for (key, value) in entry.get("labels").map(Node::entries).unwrap_or_default() {
        let name = key.text().unwrap_or_default();
        if let Err(why) = taint::check_key(name) {
            findings.error(&key.span, format!("label `{}`: {why}", name));
        }
        if let Err(why) = taint::check_value(value.text().unwrap_or_default()) {
            findings.error(&value.span, format!("label `{}`: {why}", name));
        }
    }
    labels.cloned().unwrap_or_default()
}

fn read_taints(entry: &Node, findings: &mut Findings) -> Vec<Taint> {
    let mut taints = Vec::new();
    for item in entry.get("taints").map(Node::items).unwrap_or_default() {
        match item.text().unwrap_or_default().parse() {
            Ok(taint) => taints.push(taint),
            Err(why) => {
                findings.error(&item.span, why);
            }
        }
    }
    taints
}

/// Checks that all addresses are of one family.
pub fn check_family(hosts: &[HostSpec], span: &Span, findings: &mut Findings) {
    let four: Vec<String> = hosts.iter().filter(|host| host.address.is_ipv4()).map(|host| host.address.to_string()).collect();
    if !four.is_empty() && four.len() != hosts.len() {
        let all: Vec<String> = hosts.iter().map(|host| host.address.to_string()).collect();
        let message = format!("all hosts need addresses of one family, IPv4 or IPv6; there are {}", all.join(" "));
        findings.error(span, message);
    }
}

/// Checks the masters: one at least, and an odd number, since etcd needs more than half of its members.
pub fn check_masters(hosts: &[HostSpec], span: &Span, findings: &mut Findings) {
    let masters = hosts.iter().filter(|host| host.is_master()).count();
    if masters == 0 && !hosts.is_empty() {
        findings.error(span, "no master: no host has the role `master`");
    } else if masters > 0 && masters % 2 == 0 {
        let message = format!("{masters} masters: etcd with {masters} members tolerates no more failures than with {}", masters - 1);
        let help = if masters == 2 { "use 1 or 3: of 2 masters none may fail" } else { "use an odd number of masters" };
        findings.warning(span, message).help(help);
    }
}
