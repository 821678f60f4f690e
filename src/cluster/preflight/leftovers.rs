//! Nothing is left of an earlier cluster, and the host belongs to no other.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "Leftovers", about: "nothing is left of an earlier cluster", judge };

fn judge(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        let others: Vec<&str> = host.facts.installed.clusters.iter().map(String::as_str).filter(|name| *name != input.cluster).collect();
        if !others.is_empty() {
            report.fail(
                host.address,
                format!("the host belongs to the cluster {}", others.join(", ")),
                format!("take it out of that cluster first: `sealift reset {}`", others[0]),
            );
        } else if !host.is_ours(&input.cluster) && !host.facts.leftovers.is_empty() {
            report.fail(
                host.address,
                format!("an earlier cluster left {}", host.facts.leftovers.join(", ")),
                "clean the host: `kubeadm reset -f`, then remove these",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};

    #[test]
    fn leftovers_are_refused_unless_they_are_our_own() {
        let left = |input: &mut super::Input| input.hosts[0].facts.leftovers = vec!["/etc/kubernetes/admin.conf".into()];
        finds("Leftovers", |_| (), &[]);
        finds("Leftovers", left, &[Fail]);
        let own = |input: &mut super::Input| {
            left(input);
            input.hosts[0].facts.installed.changed = true;
        };
        finds("Leftovers", own, &[]);
    }

    #[test]
    fn a_host_of_another_cluster_is_refused() {
        let other = |input: &mut super::Input| input.hosts[0].facts.installed.clusters = vec!["bank".into()];
        let findings = finds("Leftovers", other, &[Fail]);
        assert!(findings[0].message.contains("bank"));
    }
}
