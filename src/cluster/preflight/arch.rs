//! The image is built for the host's architecture.

use oci_spec::image::Arch;

use super::{Check, Input, Report};
use crate::image::platform_string;

pub(super) static CHECK: Check = Check { id: "Arch", description: "the image is built for the host's architecture", run };

/// OCI's name for what `uname -m` says.
pub(super) fn oci_arch(machine: &str) -> Arch {
    match machine {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        other => Arch::from(other),
    }
}

fn run(input: &Input, report: &mut Report) {
    let have: Vec<String> = input.platforms.iter().map(platform_string).collect();
    for host in &input.hosts {
        let arch = oci_arch(&host.facts.machine);
        if !input.platforms.iter().any(|platform| *platform.architecture() == arch) {
            report.fail(
                host.address,
                format!("the host is {}, but the image is built for {}", host.facts.machine, have.join(", ")),
                format!("build the image for linux/{arch} too"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};
    use crate::image::parse_platform;

    #[test]
    fn the_image_must_fit_the_machine() {
        assert_findings("Arch", |_| (), &[]);
        assert_findings("Arch", |input| input.hosts[1].facts.machine = "aarch64".into(), &[Fail]);
        assert_findings(
            "Arch",
            |input| {
                input.hosts[1].facts.machine = "aarch64".into();
                input.platforms.push(parse_platform("linux/arm64").unwrap());
            },
            &[],
        );
        assert_findings("Arch", |input| input.hosts[1].facts.machine = "riscv64".into(), &[Fail]);
    }
}
