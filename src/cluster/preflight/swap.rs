//! Swap: the kubelet wants none. Sealift turns it off, so this is only told.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check = Check { id: "Swap", about: "swap is off (sealift turns it off)", judge };

fn judge(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in input.hosts.iter().filter(|host| !host.facts.swaps.is_empty()) {
        let message = format!("swap is on ({})", host.facts.swaps.join(", "));
        report.warn(host.address, message, "sealift turns it off, and on again with `reset`");
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};
    use crate::image::RuntimeKind;

    #[test]
    fn swap_is_told() {
        finds("Swap", |_| (), &[]);
        finds("Swap", |input| input.hosts[0].facts.swaps.push("/swapfile".into()), &[Warn]);
        let none = |input: &mut super::Input| {
            input.runtime = RuntimeKind::None;
            input.hosts[0].facts.swaps.push("/swapfile".into());
        };
        finds("Swap", none, &[]);
    }
}
