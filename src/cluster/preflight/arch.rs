//! The cluster image is built for the architecture of every host.

use super::{Check, Input, Report};
use crate::image::{oci_arch, platform_string};

pub(super) static CHECK: Check = Check { id: "Arch", description: "the image is built for the host's architecture", run };

fn run(input: &Input, report: &mut Report) {
    let have: Vec<String> = input.platforms.iter().map(platform_string).collect();
    for host in &input.hosts {
        let arch = oci_arch(&host.facts.machine);
        if !input.platforms.iter().any(|platform| *platform.architecture() == arch) {
            report.fail(
                host.address,
                format!("the host's architecture is {arch} ({}), the image is built for {}", host.facts.machine, have.join(", ")),
                format!("build the image with `--platform linux/{arch}` too, or remove the host"),
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
