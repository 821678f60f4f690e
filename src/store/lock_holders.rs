//! Who holds a lock on a file: as the kernel lists it in `/proc/locks` (proc_locks(5)).

use std::collections::BTreeSet;
use std::fs::{File, read_to_string};
use std::os::unix::fs::MetadataExt as _;

/// The processes that hold a lock on the file, each as `process 4711 (sealift registry serve, for 12 min)`; empty if the kernel does not tell.
pub fn lock_holders(file: &File) -> Vec<String> {
    let Ok(inode) = file.metadata().map(|metadata| metadata.ino()) else { return Vec::new() };
    let locks = read_to_string("/proc/locks").unwrap_or_default();
    holders_in(&locks, inode).into_iter().filter(|pid| *pid != std::process::id()).map(describe).collect()
}

/// The processes that hold a lock on this inode; those that wait for one are marked with `->`.
fn holders_in(locks: &str, inode: u64) -> BTreeSet<u32> {
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, _, pid, place, ..] = words.as_slice() else { return None };
        let is_this = place.rsplit(':').next().and_then(|text| text.parse().ok()) == Some(inode);
        is_this.then(|| pid.parse().ok()).flatten()
    };
    locks.lines().filter_map(holder).filter(|pid| *pid > 0).collect()
}

fn describe(pid: u32) -> String {
    let command = read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&str> = command.split('\0').filter(|word| !word.is_empty()).collect();
    let program = words.first().and_then(|program| program.rsplit('/').next()).unwrap_or("unknown");
    let arguments = words.iter().skip(1).take_while(|word| !word.starts_with('-')).take(2);
    let command = std::iter::once(program).chain(arguments.copied()).collect::<Vec<_>>().join(" ");
    match age(pid) {
        Some(seconds) => format!("process {pid} ({command}, for {})", duration(seconds)),
        None => format!("process {pid} ({command})"),
    }
}

/// For how many seconds a process has been running.
fn age(pid: u32) -> Option<u64> {
    /// In these units the kernel tells times to programs, on every architecture.
    const TICKS_PER_SECOND: u64 = 100;
    let stat = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name in parentheses may have anything in it; the start time is the 20th field after it
    let started: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime = read_to_string("/proc/uptime").ok()?;
    let uptime: u64 = uptime.split('.').next()?.parse().ok()?;
    uptime.checked_sub(started / TICKS_PER_SECOND)
}

fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_told_from_those_that_wait_and_from_other_locks() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 fd:01:777 0 EOF\n2: FLOCK  ADVISORY  READ 11 fd:01:777 0 EOF\n\
            2: -> FLOCK  ADVISORY  WRITE 12 fd:01:777 0 EOF\n3: FLOCK  ADVISORY  WRITE 13 fd:01:778 0 EOF\n\
            4: FLOCK  ADVISORY  READ 14 00:2e:777 0 EOF\n5: FLOCK  ADVISORY  READ 0 fd:01:777 0 EOF\n\n6: LEASE\n";
        assert_eq!(holders_in(locks, 777), BTreeSet::from([11, 14]));
        assert_eq!(holders_in(locks, 7), BTreeSet::new());
    }

    #[test]
    fn a_process_is_told_by_its_command_and_age() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // the kernel tells the command only once the program runs
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let mut said = describe(child.id());
        while !said.contains("sleep") && std::time::Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
            said = describe(child.id());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said.starts_with(&format!("process {} (sleep 60, for ", child.id())) && said.ends_with(" s)"), "{said}");
        assert_eq!([duration(59), duration(130), duration(7300)], ["59 s", "2 min", "2 h"]);
    }
}
