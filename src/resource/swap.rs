//! Swap off: `swapoff(8)` now, `fstab(5)` at boot.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Reconcile, Snapshot, State, System};

const FSTAB: &str = "/etc/fstab";
const MARKER: &str = "#sealift# ";

/// All swap off, now and at boot: swap lines of fstab become marked comments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapOff {}

/// The snapshot.
#[derive(Serialize, Deserialize)]
struct PreviousState {
    #[serde(rename = "active")]
    active_devices: Vec<String>,
    lines: Vec<String>,
}

fn active_devices(system: &System) -> Result<Vec<String>> {
    let text = system.read_text("/proc/swaps")?;
    Ok(text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn is_swap_line(line: &str) -> bool {
    !line.trim_start().starts_with('#') && line.split_whitespace().nth(2) == Some("swap")
}

fn rewrite(system: &System, change: impl Fn(&str) -> String) -> Result<()> {
    let text = system.read_text(FSTAB)?;
    let new: String = text.lines().map(|line| change(line) + "\n").collect();
    if new == text || text.is_empty() { Ok(()) } else { system.write_text(FSTAB, &new) }
}

impl Reconcile for SwapOff {
    fn title(&self) -> String {
        "swap off".into()
    }

    fn check(&self, system: &System) -> Result<State> {
        let active_devices = active_devices(system)?;
        if !active_devices.is_empty() {
            return Ok(State::differs(format!("on {}", active_devices.join(", ")), "off"));
        }
        let text = system.read_text(FSTAB)?;
        Ok(match text.lines().find(|line| is_swap_line(line)) {
            Some(line) => State::differs(format!("on at boot: {line}"), "off at boot"),
            None => State::Present,
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let lines = system.read_text(FSTAB)?.lines().filter(|line| is_swap_line(line)).map(str::to_owned).collect();
        Ok(serde_json::to_value(PreviousState { active_devices: active_devices(system)?, lines })?)
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        rewrite(system, |line| if is_swap_line(line) { format!("{MARKER}{line}") } else { line.to_owned() })?;
        for device in active_devices(system)? {
            system.run(&["swapoff", &device], log)?;
        }
        Ok(())
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()> {
        let previous = PreviousState::deserialize(snapshot)?;
        rewrite(system, |line| match line.strip_prefix(MARKER) {
            Some(old) if previous.lines.iter().any(|line| line == old) => old.to_owned(),
            _ => line.to_owned(),
        })?;
        let active = active_devices(system)?;
        for device in previous.active_devices.iter().filter(|device| !active.contains(device)) {
            if let Err(error) = system.run(&["swapon", device], log) {
                log(&format!("swap {device} stays off: {error}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};

    #[test]
    fn swap_is_off_now_and_at_boot_and_restored() {
        let host = FakeHost::new();
        let fstab = "UUID=1 / ext4 defaults 0 1\n# /old none swap sw 0 0\n/swap.img none swap sw 0 0\n";
        host.write("/etc/fstab", fstab);
        host.write("/proc/swaps", "Filename Type Size Used Priority\n/swap.img file 1 0 -2\n");
        host.program("swapoff", "echo Filename > $ROOT/proc/swaps");
        host.program("swapon", "printf 'Filename\\n%s file\\n' $1 > $ROOT/proc/swaps");
        assert_round_trip(&host, &SwapOff {});
        assert_eq!(host.read("/etc/fstab"), fstab);
        assert!(host.read("/proc/swaps").contains("/swap.img"));
    }
}
