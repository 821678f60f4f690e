//! The clocks of the hosts agree.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "Clock", description: "each clock agrees with the median of all hosts", run };

/// The offset from which certificates and leases fail, in nanoseconds.
const FAIL: u64 = 1_000_000_000;
/// The offset from which etcd warns and logs are hard to read, in nanoseconds.
const WARN: u64 = 200_000_000;

fn run(input: &Input, report: &mut Report) {
    let mut offsets: Vec<i64> = input.hosts.iter().filter_map(|host| host.clock_offset).collect();
    if offsets.len() < 2 {
        return;
    }
    offsets.sort_unstable();
    // of an even number the lower one: between two hosts there is no majority
    let median = offsets[(offsets.len() - 1) / 2];
    for host in &input.hosts {
        let Some(offset) = host.clock_offset else { continue };
        let off = offset.abs_diff(median);
        let direction = if offset > median { "ahead of" } else { "behind" };
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        let message = format!("the clock is {:.2} s {direction} the median of all hosts", off as f64 / 1e9);
        let remedy = "synchronize all hosts with the same time source (chrony), or set the clock now with `date -s`";
        if off >= FAIL {
            report.fail(host.address, message, remedy);
        } else if off >= WARN {
            report.warn(host.address, message, remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::assert_findings};

    #[test]
    fn clocks_are_compared_with_the_median() {
        let offsets = |values: [i64; 3]| {
            move |input: &mut super::Input| {
                input.hosts.push(input.hosts[1].clone());
                for (host, value) in input.hosts.iter_mut().zip(values) {
                    host.clock_offset = Some(value * 1_000_000);
                }
            }
        };
        assert_findings("Clock", offsets([0, 10, -10]), &[]);
        assert_findings("Clock", offsets([0, 199, 0]), &[]);
        assert_findings("Clock", offsets([0, 200, 0]), &[Warn]);
        assert_findings("Clock", offsets([0, 0, -1000]), &[Fail]);
        // the operator's clock is off, but the hosts agree
        assert_findings("Clock", offsets([3_600_000, 3_600_000, 3_600_010]), &[]);
    }

    #[test]
    fn one_host_alone_has_no_finding() {
        assert_findings("Clock", |input| input.hosts[0].clock_offset = None, &[]);
    }
}
