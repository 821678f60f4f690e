//! What kube-proxy, the kubelet and network plugins put into the kernel's packet filters, and how to remove only that: chains of
//! iptables and the rules that lead to them, tables of nftables, virtual services of IPVS, IP sets.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::System;
use crate::resource::system::run;

/// How the names of their chains start: kube-proxy's and the kubelet's, those of the CNI plugins, of flannel, Calico and Cilium.
const CHAINS: [&str; 5] = ["KUBE-", "CNI-", "FLANNEL-", "cali-", "CILIUM_"];
/// How the comments of rules start that flannel and Calico put into chains of others.
const COMMENTS: [&str; 2] = ["flanneld ", "cali:"];
/// The link that kube-proxy gives the addresses of services to.
const SERVICE_LINK: &str = "kube-ipvs0";
/// The ports of services on nodes, by default.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;
/// The families and the tables of iptables.
const FAMILIES: [&str; 2] = ["ip", "ip6"];
const TABLES: [&str; 5] = ["filter", "nat", "mangle", "raw", "security"];
/// How often the rules are read again, when others change them between reading and writing.
const ATTEMPTS: usize = 3;
const PAUSE: Duration = Duration::from_millis(500);

/// The rules of Kubernetes and network plugins on this host, one short text each: `iptables nat KUBE-SERVICES`, `ipvs -t 10.96.0.1:443`.
pub fn of(system: &System) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for program in ["iptables", "ip6tables"] {
        for (table, rules) in Table::parse(&saved(system, program)) {
            found.extend(rules.plugin_chains().map(|chain| format!("{program} {table} {chain}")));
        }
    }
    found.extend(nft_tables(system).into_iter().map(|family| format!("nft {family} kube-proxy")));
    found.extend(virtual_services(system).into_iter().map(|service| format!("ipvs {service}")));
    found.extend(ip_sets(system).into_iter().map(|set| format!("ipset {set}")));
    found
}

/// Removes those of Kubernetes and network plugins that are not in `baseline`. All others stay as they are. Twice is the same as once.
/// The networks of pods and services are `cidrs`.
///
/// # Errors
/// Fails if a program refuses; what it could not remove is still there.
pub fn remove(system: &System, baseline: &BTreeSet<String>, cidrs: &[IpNet], log: &mut dyn FnMut(&str)) -> Result<()> {
    for program in ["iptables", "ip6tables"] {
        remove_chains(system, program, baseline, log)?;
    }
    for family in nft_tables(system).into_iter().filter(|family| !baseline.contains(&format!("nft {family} kube-proxy"))) {
        system.run(&["nft", "delete", "table", family, "kube-proxy"], log)?;
    }
    let own_addresses = addresses_of(system, SERVICE_LINK);
    for service in virtual_services(system) {
        if !baseline.contains(&format!("ipvs {service}")) && is_of_cluster(&service, cidrs, &own_addresses) {
            system.run(&[&["ipvsadm", "-D"][..], &service.split(' ').collect::<Vec<_>>()].concat(), log)?;
        }
    }
    for set in ip_sets(system).into_iter().filter(|set| !baseline.contains(&format!("ipset {set}"))) {
        system.run(&["ipset", "destroy", &set], &mut |_| ()).ok(); // one that others refer to stays
    }
    Ok(())
}

/// The tables of iptables in nftables, such as `ip mangle`: iptables makes one when it is first asked about it.
pub fn tables(system: &System) -> BTreeSet<String> {
    let listed = system.output(&["nft", "list", "tables"]).unwrap_or_default();
    let of_iptables =
        |table: &&str| table.split_once(' ').is_some_and(|(family, name)| FAMILIES.contains(&family) && TABLES.contains(&name));
    listed.lines().filter_map(|line| line.trim().strip_prefix("table ")).filter(of_iptables).map(str::to_owned).collect()
}

/// Removes the tables of iptables that are not in `baseline` and have no rules.
pub fn remove_empty_tables(system: &System, baseline: &BTreeSet<String>) {
    for table in tables(system).difference(baseline) {
        let words: Vec<&str> = table.split(' ').collect();
        let is_empty = |text: &str| {
            let is_frame = |line: &str| line.ends_with('{') || line == "}" || line.is_empty() || line.ends_with("policy accept;");
            text.lines().all(|line| is_frame(line.trim()))
        };
        if system.output(&[&["nft", "list", "table"][..], &words].concat()).is_ok_and(|text| is_empty(&text)) {
            system.run(&[&["nft", "delete", "table"][..], &words].concat(), &mut |_| ()).ok(); // without rules it does nothing either
        }
    }
}

/// A table as `iptables-save` prints it.
#[derive(Default)]
struct Table<'a> {
    chains: Vec<&'a str>,
    /// `-A CHAIN …`
    rules: Vec<&'a str>,
}

impl<'a> Table<'a> {
    /// The tables of `iptables-save`, in their order.
    fn parse(text: &'a str) -> Vec<(&'a str, Table<'a>)> {
        let mut tables: Vec<(&str, Table)> = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                tables.push((name.trim(), Table::default()));
            } else if let Some((_, table)) = tables.last_mut() {
                match line.strip_prefix(':') {
                    Some(chain) => table.chains.extend(chain.split(' ').next()),
                    None if line.starts_with("-A ") => table.rules.push(line),
                    None => {}
                }
            }
        }
        tables
    }

    fn plugin_chains(&self) -> impl Iterator<Item = &'a str> {
        self.chains.iter().copied().filter(|chain| CHAINS.iter().any(|prefix| chain.starts_with(prefix)))
    }

    /// The lines for `iptables-restore --noflush` that remove `chains` and the rules of others that lead to them; none if there are none.
    fn removal(&self, chains: &BTreeSet<&str>) -> Vec<String> {
        let leads_there = |rule: &str| {
            let words: Vec<&str> = rule.split(' ').collect();
            let jumps = words.windows(2).any(|pair| ["-j", "-g"].contains(&pair[0]) && chains.contains(pair[1]));
            jumps || COMMENTS.iter().any(|comment| rule.contains(&format!("--comment \"{comment}")))
        };
        let chain_of = |rule: &str| rule.split(' ').nth(1).unwrap_or_default().to_owned();
        let rules = self.rules.iter().filter(|rule| !chains.contains(chain_of(rule).as_str()) && leads_there(rule));
        let rules = rules.map(|rule| rule.replacen("-A", "-D", 1));
        let flushes = chains.iter().map(|chain| format!("-F {chain}"));
        rules.chain(flushes).chain(chains.iter().map(|chain| format!("-X {chain}"))).collect()
    }
}

/// What `iptables-save` prints; empty if the host does not have it.
fn saved(system: &System, program: &str) -> String {
    system.output(&[&format!("{program}-save")]).unwrap_or_default()
}

fn remove_chains(system: &System, program: &str, baseline: &BTreeSet<String>, log: &mut dyn FnMut(&str)) -> Result<()> {
    for attempt in 1.. {
        let text = saved(system, program);
        let mut input = String::new();
        for (name, table) in Table::parse(&text) {
            let chains = table.plugin_chains().filter(|chain| !baseline.contains(&format!("{program} {name} {chain}"))).collect();
            let removal = table.removal(&chains);
            if !removal.is_empty() {
                log(&format!("{program}: {} chains of table {name}", chains.len()));
                input += &format!("*{name}\n{}\nCOMMIT\n", removal.join("\n"));
            }
        }
        if input.is_empty() {
            return Ok(());
        }
        let restore = format!("{program}-restore");
        let mut command = system.command(&restore);
        command.arg("--noflush");
        match run(command, Some(input.as_bytes()), &format!("{restore} --noflush"), &mut |_| ()) {
            // others changed rules since they were read, or change them now
            Err(_) if attempt < ATTEMPTS => std::thread::sleep(PAUSE),
            result => return result.with_context(|| format!("{program}: rules of Kubernetes")),
        }
    }
    Ok(())
}

/// The families (`ip`, `ip6`) in which kube-proxy has a table of nftables.
fn nft_tables(system: &System) -> Vec<&'static str> {
    let tables = system.output(&["nft", "list", "tables"]).unwrap_or_default();
    FAMILIES.into_iter().filter(|family| tables.lines().any(|line| line.trim() == format!("table {family} kube-proxy"))).collect()
}

/// The virtual services of IPVS as `ipvsadm` names them: `-t 10.96.0.1:443`.
fn virtual_services(system: &System) -> Vec<String> {
    let saved = system.output(&["ipvsadm", "-S", "-n"]).unwrap_or_default();
    saved.lines().filter_map(|line| Some(line.strip_prefix("-A ")?.split(' ').take(2).collect::<Vec<_>>().join(" "))).collect()
}

/// Whether a virtual service is kube-proxy's: its address is of the cluster or on kube-proxy's own link, or its port is a node port.
fn is_of_cluster(service: &str, cidrs: &[IpNet], own_addresses: &[IpAddr]) -> bool {
    let Some(Ok(socket)) = service.split(' ').nth(1).map(str::parse::<SocketAddr>) else { return false };
    let address = socket.ip();
    cidrs.iter().any(|cidr| cidr.contains(&address)) || own_addresses.contains(&address) || NODE_PORTS.contains(&socket.port())
}

/// The addresses of a link.
fn addresses_of(system: &System, link: &str) -> Vec<IpAddr> {
    let text = system.output(&["ip", "-o", "addr", "show", "dev", link]).unwrap_or_default();
    let address = |line: &str| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok();
    text.lines().filter_map(address).collect()
}

fn ip_sets(system: &System) -> Vec<String> {
    let names = system.output(&["ipset", "list", "-n"]).unwrap_or_default();
    names.lines().filter(|name| CHAINS.iter().any(|prefix| name.starts_with(prefix))).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    const SAVED: &str = r#"# Generated by iptables-save
*filter
:INPUT DROP [0:0]
:FORWARD ACCEPT [5:300]
:KUBE-FORWARD - [0:0]
:theirs - [0:0]
-A INPUT -s 10.9.0.0/16 -m comment --comment "not about KUBE-SERVICES" -j ACCEPT
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m mark --mark 0x10000/0x10000 -j ACCEPT
-A FORWARD -j theirs
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A theirs -j RETURN
COMMIT
*nat
:POSTROUTING ACCEPT [0:0]
:CNI-old - [0:0]
:CNI-8f2b - [0:0]
-A POSTROUTING -s 10.88.0.2/32 -m comment --comment "name: \"podman\" id: \"x\"" -j CNI-old
-A POSTROUTING -s 10.244.0.5/32 -m comment --comment "name: \"cbr0\" id: \"y\"" -j CNI-8f2b
-A CNI-8f2b ! -d 224.0.0.0/4 -j MASQUERADE
COMMIT
"#;

    fn host(saved: &str) -> FakeHost {
        let host = FakeHost::new();
        host.write("/saved", saved);
        host.program("iptables-save", "cat $ROOT/saved");
        host.program("iptables-restore", "cat >>$ROOT/restored; [ \"$1\" = --noflush ] && : >$ROOT/saved");
        host
    }

    #[test]
    fn only_new_chains_of_plugins_and_the_rules_that_lead_there_are_removed() {
        let host = host(SAVED);
        let baseline = ["iptables nat CNI-old".to_owned()].into();
        for _ in 0..2 {
            remove(&host.system, &baseline, &[], &mut |_| ()).unwrap();
        }
        insta::assert_snapshot!(host.read("/restored"), @r#"
        *filter
        -D FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
        -D FORWARD -m comment --comment "cali:S93hcgKJrXEqnTfs" -m mark --mark 0x10000/0x10000 -j ACCEPT
        -F KUBE-FORWARD
        -X KUBE-FORWARD
        COMMIT
        *nat
        -D POSTROUTING -s 10.244.0.5/32 -m comment --comment "name: \"cbr0\" id: \"y\"" -j CNI-8f2b
        -F CNI-8f2b
        -X CNI-8f2b
        COMMIT
        "#);
    }

    #[test]
    fn what_was_there_before_stays() {
        let host = host(SAVED);
        let before = of(&host.system);
        assert_eq!(
            before.iter().map(String::as_str).collect::<Vec<_>>(),
            ["iptables filter KUBE-FORWARD", "iptables nat CNI-8f2b", "iptables nat CNI-old"]
        );
        host.write("/saved", &SAVED.replace("cali:", "x:"));
        remove(&host.system, &before, &[], &mut |_| ()).unwrap();
        assert!(!host.system.path("/restored").exists());
    }

    #[test]
    fn empty_tables_that_iptables_made_are_removed() {
        let host = FakeHost::new();
        let chain =
            |line: &str| format!("  chain FORWARD {{\n    type filter hook forward priority filter; policy accept;\n    {line}\n  }}\n");
        for (table, content) in
            [("filter", chain("")), ("nat", chain("")), ("mangle", chain("ip saddr 10.0.0.1 drop")), ("theirs", chain(""))]
        {
            host.write(&format!("/nft/{table}"), &format!("table ip {table} {{\n{content}}}\n"));
        }
        host.program(
            "nft",
            "cd $ROOT/nft; case \"$1 $2\" in 'list tables') for it in *; do echo table ip $it; done ;;
            'list table') cat $4 ;; 'delete table') rm $4 ;; esac",
        );
        assert_eq!(tables(&host.system).len(), 3);
        remove_empty_tables(&host.system, &["ip filter".to_owned()].into());
        let left = ["filter", "nat", "mangle", "theirs"].map(|table| host.system.path(format!("/nft/{table}")).exists());
        assert_eq!(left, [true, false, true, true]);
    }

    #[test]
    fn a_program_that_refuses_is_named() {
        let host = host(SAVED);
        host.program("iptables-restore", "echo 'line 2 failed' >&2; exit 1");
        let error = format!("{:#}", remove(&host.system, &BTreeSet::new(), &[], &mut |_| ()).unwrap_err());
        assert!(error.contains("iptables-restore --noflush") && error.contains("line 2 failed"), "{error}");
    }

    #[test]
    fn virtual_services_tables_and_sets_of_others_stay() {
        let host = FakeHost::new();
        let services = "-A -t 10.96.0.1:443 -s rr\n-a -t 10.96.0.1:443 -r 10.0.0.1:6443 -m -w 1\n-A -u [fd00:96::a]:53 -s rr\n\
            -A -t 192.168.7.100:80 -s wlc -p 50\n-A -t 192.168.7.11:30080 -s rr\n-A -t 198.51.100.7:80 -s rr\n-A -f 1 -s rr\n";
        host.program("ipvsadm", &format!("[ $1 = -S ] && printf -- '{services}' || echo ipvsadm \"$@\" >>$ROOT/done"));
        host.program("ip", "echo '7: kube-ipvs0    inet 198.51.100.7/32 scope global kube-ipvs0'");
        let tables = "table ip filter\ntable ip kube-proxy\ntable ip6 kube-proxy\ntable inet kube-proxy-of-ours\n";
        host.program("nft", &format!("[ $1 = list ] && printf '{tables}' || echo nft \"$@\" >>$ROOT/done"));
        host.program("ipset", "[ $1 = list ] && printf 'KUBE-CLUSTER-IP\\nblocklist\\n' || echo ipset \"$@\" >>$ROOT/done");
        let cidrs = ["10.96.0.0/12", "fd00:96::/112"].map(|cidr| cidr.parse().unwrap());
        remove(&host.system, &["nft ip6 kube-proxy".to_owned()].into(), &cidrs, &mut |_| ()).unwrap();
        let done = host.read("/done");
        assert_eq!(
            done.lines().collect::<Vec<_>>(),
            [
                "nft delete table ip kube-proxy",
                "ipvsadm -D -t 10.96.0.1:443",
                "ipvsadm -D -u [fd00:96::a]:53",
                "ipvsadm -D -t 192.168.7.11:30080",
                "ipvsadm -D -t 198.51.100.7:80",
                "ipset destroy KUBE-CLUSTER-IP",
            ]
        );
        std::fs::remove_file(host.system.path("/done")).unwrap();
        remove(&host.system, &of(&host.system), &cidrs, &mut |_| ()).unwrap();
        assert!(!host.system.path("/done").exists());
    }
}
