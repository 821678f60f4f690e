//! The host belongs to no other cluster and has no leftovers of an earlier one.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "Leftovers", description: "no host belongs to another cluster or has leftovers of one", run };

fn run(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        let others: Vec<&str> = host.facts.installed.clusters.iter().map(String::as_str).filter(|name| *name != input.cluster).collect();
        if !others.is_empty() {
            report.fail(
                host.address,
                format!("the host belongs to the cluster {}", others.join(", ")),
                format!("take it out of that cluster: `sealift reset {} --host {}`", others[0], host.address),
            );
        } else if !host.belongs_to(&input.cluster) && !host.facts.leftovers.is_empty() {
            report.fail(
                host.address,
                format!("leftovers of an earlier cluster: {}", host.facts.leftovers.join(", ")),
                "clean the host: run `kubeadm reset -f`, then remove what is left of these",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn leftovers_are_refused_unless_they_are_our_own() {
        let left = |input: &mut super::Input| input.hosts[0].facts.leftovers = vec!["/etc/kubernetes/admin.conf".into()];
        assert_findings("Leftovers", |_| (), &[]);
        assert_findings("Leftovers", left, &[Fail]);
        let own = |input: &mut super::Input| {
            left(input);
            input.hosts[0].facts.installed.changed = true;
        };
        assert_findings("Leftovers", own, &[]);
    }

    #[test]
    fn a_host_of_another_cluster_is_refused() {
        let other = |input: &mut super::Input| input.hosts[0].facts.installed.clusters = vec!["bank".into()];
        let findings = assert_findings("Leftovers", other, &[Fail]);
        assert!(findings[0].message.contains("bank"));
        assert!(findings[0].remedy.contains("sealift reset bank --host "), "{}", findings[0].remedy);
    }
}
