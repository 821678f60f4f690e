//! The agent is root.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "IsPrivilegedUser", about: "sealift works as root on the host (sudo)", judge };

fn judge(input: &Input, report: &mut Report) {
    for host in input.hosts.iter().filter(|host| host.facts.uid != 0) {
        report.fail(
            host.address,
            format!("the agent runs as user {} and not as root", host.facts.uid),
            "log in as root, or as a user that sudo lets become root",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};

    #[test]
    fn root_is_needed() {
        finds("IsPrivilegedUser", |_| (), &[]);
        finds("IsPrivilegedUser", |input| input.hosts[0].facts.uid = 1000, &[Fail]);
    }
}
