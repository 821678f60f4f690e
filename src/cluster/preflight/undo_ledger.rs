//! The undo ledger of a host that was changed is whole: without it no reset can undo the changes.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "UndoLedger", description: "the undo ledger of every host is whole", run };

fn run(input: &Input, report: &mut Report) {
    for host in &input.hosts {
        if let Some(problem) = &host.facts.installed.undo_problem {
            report.fail(
                host.address,
                problem.clone(),
                "restore /var/lib/sealift on the host from a backup, or see what `sealift reset` says",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn a_ledger_that_is_lost_or_damaged_is_named() {
        assert_findings("UndoLedger", |_| (), &[]);
        let lost = |input: &mut super::Input| input.hosts[1].facts.installed.undo_problem = Some("the undo ledger is empty".into());
        let findings = assert_findings("UndoLedger", lost, &[Fail]);
        assert!(findings[0].message.contains("is empty"));
    }
}
