//! Each host has the address in the Clusterfile on one of its interfaces.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "HostAddress", description: "each host has its address on one of its interfaces", run };

fn run(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        if !host.facts.addresses.contains(&host.address) {
            let has: Vec<String> = host.facts.addresses.iter().map(ToString::to_string).collect();
            let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
            report.fail(
                host.address,
                format!("the address is not on an interface of the host (it has {has})"),
                "write the host's own address into the Clusterfile, one that the other nodes reach",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn an_address_behind_nat_is_refused() {
        assert_findings("HostAddress", |_| (), &[]);
        assert_findings("HostAddress", |input| input.hosts[0].facts.addresses.push("10.0.0.1".parse().unwrap()), &[]);
        assert_findings("HostAddress", |input| input.hosts[1].facts.addresses = vec!["10.0.0.1".parse().unwrap()], &[Fail]);
    }
}
