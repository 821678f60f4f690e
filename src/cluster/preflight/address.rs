//! The host has the address that the Clusterfile gives it.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "HostAddress", about: "a host's address is on one of its interfaces", judge };

fn judge(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        if !host.facts.addresses.contains(&host.address) {
            let has: Vec<String> = host.facts.addresses.iter().map(ToString::to_string).collect();
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            report.fail(
                host.address,
                format!("the address is on no interface of the host (it has {has})"),
                "write the host's own address into the Clusterfile; other nodes must reach it by that",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};

    #[test]
    fn an_address_behind_nat_is_refused() {
        finds("HostAddress", |_| (), &[]);
        finds("HostAddress", |input| input.hosts[0].facts.addresses.push("10.0.0.1".parse().unwrap()), &[]);
        finds("HostAddress", |input| input.hosts[1].facts.addresses = vec!["10.0.0.1".parse().unwrap()], &[Fail]);
    }
}
