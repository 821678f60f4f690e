//! Swap is off, as the kubelet requires. Sealift turns it off, so this is only a warning.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check = Check { id: "Swap", description: "swap is off (sealift turns it off)", run };

fn run(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in input.hosts.iter().filter(|host| !host.facts.swaps.is_empty()) {
        let message = format!("swap is on ({})", host.facts.swaps.join(", "));
        report.warn(host.address, message, "nothing to do: sealift turns it off, and `sealift reset` turns it on again");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};
    use crate::image::RuntimeKind;

    #[test]
    fn swap_is_a_warning() {
        assert_findings("Swap", |_| (), &[]);
        assert_findings("Swap", |input| input.hosts[0].facts.swaps.push("/swapfile".into()), &[Warn]);
        let none = |input: &mut super::Input| {
            input.runtime = RuntimeKind::None;
            input.hosts[0].facts.swaps.push("/swapfile".into());
        };
        assert_findings("Swap", none, &[]);
    }
}
