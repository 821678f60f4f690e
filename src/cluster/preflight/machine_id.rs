//! Every host has a machine-id of its own: cloned machines often share one.

use std::collections::BTreeMap;

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "MachineID", about: "every host has a machine-id of its own", judge };

const REMEDY: &str = "make a new one: `rm /etc/machine-id && systemd-machine-id-setup`, then reboot";

fn judge(input: &Input, report: &mut Report) {
    let mut seen = BTreeMap::new();
    for host in &input.hosts {
        let id = host.facts.machine_id.as_str();
        if id.is_empty() {
            report.fail(host.address, "the host has no /etc/machine-id".to_owned(), REMEDY);
        } else if let Some(first) = seen.insert(id, host.address) {
            report.fail(host.address, format!("the machine-id is that of {first} too: one is a clone"), REMEDY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};

    #[test]
    fn clones_are_refused() {
        finds("MachineID", |_| (), &[]);
        finds("MachineID", |input| input.hosts[1].facts.machine_id = input.hosts[0].facts.machine_id.clone(), &[Fail]);
        finds("MachineID", |input| input.hosts[1].facts.machine_id.clear(), &[Fail]);
    }
}
