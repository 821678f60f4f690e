//! The hosts agree what time it is.

use super::{Check, Input, Report};

pub(super) static CHECK: Check = Check { id: "Clock", about: "no clock is off from the median of all hosts", judge };

/// Nanoseconds above which certificates and leases go wrong.
const FAIL: u64 = 1_000_000_000;
/// Nanoseconds above which etcd and logs are hard to follow.
const WARN: u64 = 200_000_000;

fn judge(input: &Input, report: &mut Report) {
    let mut offsets: Vec<i64> = input.hosts.iter().filter_map(|host| host.clock_offset).collect();
    if offsets.len() < 2 {
        return;
    }
    offsets.sort_unstable();
    // the lower middle: with two hosts there is no majority, and one of them is as good as the other
    let median = offsets[(offsets.len() - 1) / 2];
    for host in &input.hosts {
        let Some(offset) = host.clock_offset else { continue };
        let off = offset.abs_diff(median);
        let direction = if offset > median { "ahead of" } else { "behind" };
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        let message = format!("the clock is {:.2} s {direction} the median of all hosts", off as f64 / 1e9);
        let remedy = "let all hosts take their time from the same source (chrony), or set the clock now with `date -s`";
        if off >= FAIL {
            report.fail(host.address, message, remedy);
        } else if off >= WARN {
            report.warn(host.address, message, remedy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Severity::*, fixture::finds};

    #[test]
    fn clocks_are_held_against_the_median() {
        let offsets = |values: [i64; 3]| {
            move |input: &mut super::Input| {
                input.hosts.push(input.hosts[1].clone());
                for (host, value) in input.hosts.iter_mut().zip(values) {
                    host.clock_offset = Some(value * 1_000_000);
                }
            }
        };
        finds("Clock", offsets([0, 10, -10]), &[]);
        finds("Clock", offsets([0, 199, 0]), &[]);
        finds("Clock", offsets([0, 200, 0]), &[Warn]);
        finds("Clock", offsets([0, 0, -1000]), &[Fail]);
        // our own clock is off, the hosts agree
        finds("Clock", offsets([3_600_000, 3_600_000, 3_600_010]), &[]);
    }

    #[test]
    fn one_host_has_nobody_to_disagree_with() {
        finds("Clock", |input| input.hosts[0].clock_offset = None, &[]);
    }
}
