//! The kernel is recent enough.

use super::{Check, Input, Report};
use crate::image::RuntimeKind;

pub(super) static CHECK: Check = Check { id: "KernelVersion", description: "the kernel is 4.9.17 or later, or RHEL's 3.10.0-1160", run };

fn run(input: &Input, report: &mut Report) {
    if input.runtime != RuntimeKind::Kubernetes {
        return;
    }
    for host in &input.hosts {
        match parse(&host.facts.kernel) {
            None => {
                report.warn(host.address, format!("unknown kernel version `{}`", host.facts.kernel), "check that it is 4.9.17 or later")
            }
            Some(version) if version >= [4, 9, 17, 0] || (version[..3] == [3, 10, 0] && version[3] >= 1160) => {}
            Some(_) => {
                report.fail(host.address, format!("the kernel {} is too old", host.facts.kernel), "update the kernel to 4.9.17 or later")
            }
        }
    }
}

/// The first four numbers of a kernel release: `3.10.0-1160.el7` gives 3, 10, 0, 1160.
fn parse(release: &str) -> Option<[u32; 4]> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse::<u32>().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)])
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn old_kernels_are_refused() {
        for (kernel, expected) in [
            ("6.18.44-fc-v669", &[][..]),
            ("4.9.17", &[]),
            ("5.10", &[]),
            ("3.10.0-1160.el7.x86_64", &[]),
            ("4.9.16-generic", &[Fail]),
            ("3.10.0-957.el7.x86_64", &[Fail]),
            ("unknown", &[Warn]),
        ] {
            assert_findings("KernelVersion", |input| input.hosts[0].facts.kernel = kernel.into(), expected);
        }
    }
}
