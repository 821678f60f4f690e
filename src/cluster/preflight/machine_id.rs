//! Every host has a machine-id of its own: cloned machines often share one.

use std::collections::BTreeMap;

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "MachineID", description: "every host has a machine-id of its own", run };

const REMEDY: &str = "generate a new one: `rm /etc/machine-id && systemd-machine-id-setup`, then reboot";

fn run(input: &Input, report: &mut Report) {
    let mut seen = BTreeMap::new();
    for host in &input.hosts {
        let id = host.facts.machine_id.as_str();
        if id.is_empty() {
            report.fail(host.address, "the host has no /etc/machine-id".to_owned(), REMEDY);
        } else if let Some(first) = seen.insert(id, host.address) {
            report.fail(host.address, format!("the machine-id is the same as on {first}: one is a clone of the other"), REMEDY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn clones_are_refused() {
        assert_findings("MachineID", |_| (), &[]);
        assert_findings("MachineID", |input| input.hosts[1].facts.machine_id = input.hosts[0].facts.machine_id.clone(), &[Fail]);
        assert_findings("MachineID", |input| input.hosts[1].facts.machine_id.clear(), &[Fail]);
    }
}
