//! Names of runs that hold a cluster: the machine that a run was started on can tell from its name whether it still lives.

use crate::image::Digest;

/// A new name for a run of this process: machine, process, when the process started, and a number of the run itself.
pub fn own() -> String {
    let process = std::process::id();
    let started = started(process).unwrap_or_default();
    format!("{}.{process}.{started}.{:08x}", machine().unwrap_or_else(|| "unknown".to_owned()), rand::random::<u32>())
}

/// Whether the run with this name is known to be dead. Of a run on another machine nothing is known.
pub fn has_died(name: &str) -> bool {
    let mut words = name.split('.');
    let (Some(place), Some(process), Some(then)) = (words.next(), words.next(), words.next()) else { return false };
    let (Ok(process), Ok(then)) = (process.parse(), then.parse::<u64>()) else { return false };
    machine().is_some_and(|own| own == place) && started(process) != Some(then)
}

/// This machine since its last start; containers are machines of their own where processes have numbers of their own.
fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let numbers = std::fs::read_link("/proc/self/ns/pid").ok()?;
    Some(Digest::of(format!("{boot}{}", numbers.display()).as_bytes()).short())
}

/// When a process started, in ticks since the machine did; `None` if it does not live, or no more (proc_pid_stat(5)).
fn started(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    fields.nth(18).filter(|_| !ended)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_of_this_machine_whose_process_is_gone_has_died() {
        let own = own();
        assert!(!has_died(&own));
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let theirs = format!("{}.{}.{}.1", machine().unwrap(), child.id(), started(child.id()).unwrap());
        assert!(!has_died(&theirs));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(has_died(&theirs));
        let elsewhere = theirs.replacen(&machine().unwrap(), "0123456789ab", 1);
        for unknown in [elsewhere.as_str(), "00c0ffee00c0ffee", ""] {
            assert!(!has_died(unknown), "{unknown}");
        }
        let another_process_with_its_number = format!("{}.{}.1.1", machine().unwrap(), std::process::id());
        assert!(has_died(&another_process_with_its_number));
    }
}
