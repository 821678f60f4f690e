//! The agent runs as root.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "IsPrivilegedUser", description: "sealift runs as root on each host (sudo)", run };

fn run(input: &Input, report: &mut Report) {
    for host in input.hosts.iter().filter(|host| host.facts.uid != 0) {
        report.fail(
            host.address,
            format!("the agent runs as user {}, not as root", host.facts.uid),
            "log in as root, or as a user that may use sudo",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn root_is_needed() {
        assert_findings("IsPrivilegedUser", |_| (), &[]);
        assert_findings("IsPrivilegedUser", |input| input.hosts[0].facts.uid = 1000, &[Fail]);
    }
}
