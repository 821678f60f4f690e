//! Host names are valid and unique: they become node names.

use std::collections::BTreeMap;

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "Hostname", description: "host names are valid (RFC 1123) and unique", run };

/// Whether a name is valid (RFC 1123): labels of letters, digits and `-`, which is not first or last. Kubernetes requires lower case.
fn is_valid(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    name.len() <= 63 && name.split('.').all(label) && name != "localhost" && !name.starts_with("localhost.")
}

fn run(input: &Input, report: &mut Report) {
    let mut seen = BTreeMap::new();
    for host in &input.hosts {
        let name = host.facts.hostname.as_str();
        if !is_valid(name) {
            report.fail(
                host.address,
                format!("the host name `{name}` is not a valid node name"),
                "give it a name of lower-case letters, digits and `-`: `hostnamectl set-hostname NAME`",
            );
        }
        if let Some(first) = seen.insert(name, host.address) {
            report.fail(
                host.address,
                format!("the host name `{name}` is used by {first} too"),
                "give every host a name of its own: `hostnamectl set-hostname NAME`",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn names_must_be_valid() {
        for (name, valid) in
            [("a", true), ("node-1.example.com", true), ("localhost", false), ("Node", false), ("a_b", false), ("-a", false), ("", false)]
        {
            assert_findings("Hostname", |input| input.hosts[0].facts.hostname = name.into(), if valid { &[] } else { &[Fail] });
        }
        assert_findings("Hostname", |input| input.hosts[0].facts.hostname = "a".repeat(64), &[Fail]);
    }

    #[test]
    fn names_must_be_unique() {
        assert_findings("Hostname", |input| input.hosts[1].facts.hostname = input.hosts[0].facts.hostname.clone(), &[Fail]);
    }
}
