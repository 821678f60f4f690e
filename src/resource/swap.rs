//! Swap, off.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Reconcile, Snapshot, State, System};

const FSTAB: &str = "/etc/fstab";
const MARK: &str = "#sealift# ";

/// All swap off, now and at boot: lines of fstab are set aside under a mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapOff {}

/// What was before.
#[derive(Serialize, Deserialize)]
struct Was {
    active: Vec<String>,
    lines: Vec<String>,
}

fn active(system: &System) -> Result<Vec<String>> {
    let text = system.text("/proc/swaps")?;
    Ok(text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn is_swap_line(line: &str) -> bool {
    !line.trim_start().starts_with('#') && line.split_whitespace().nth(2) == Some("swap")
}

fn rewrite(system: &System, change: impl Fn(&str) -> String) -> Result<()> {
    let text = system.text(FSTAB)?;
    let new: String = text.lines().map(|line| change(line) + "\n").collect();
    if new == text || text.is_empty() { Ok(()) } else { system.write_text(FSTAB, &new) }
}

impl Reconcile for SwapOff {
    fn title(&self) -> String {
        "swap off".into()
    }

    fn check(&self, system: &System) -> Result<State> {
        let active = active(system)?;
        if !active.is_empty() {
            return Ok(State::differs(format!("on {}", active.join(", ")), "off"));
        }
        let text = system.text(FSTAB)?;
        Ok(match text.lines().find(|line| is_swap_line(line)) {
            Some(line) => State::differs(format!("on at boot: {line}"), "off at boot"),
            None => State::Present,
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let lines = system.text(FSTAB)?.lines().filter(|line| is_swap_line(line)).map(str::to_owned).collect();
        Ok(serde_json::to_value(Was { active: active(system)?, lines })?)
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        rewrite(system, |line| if is_swap_line(line) { format!("{MARK}{line}") } else { line.to_owned() })?;
        for device in active(system)? {
            system.run(&["swapoff", &device], say)?;
        }
        Ok(())
    }

    fn undo(&self, system: &System, before: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()> {
        let was = Was::deserialize(before)?;
        rewrite(system, |line| match line.strip_prefix(MARK) {
            Some(old) if was.lines.iter().any(|line| line == old) => old.to_owned(),
            _ => line.to_owned(),
        })?;
        let on = active(system)?;
        for device in was.active.iter().filter(|device| !on.contains(device)) {
            if let Err(error) = system.run(&["swapon", device], say) {
                say(&format!("swap on {device} stays off: {error}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};

    #[test]
    fn swap_is_off_now_and_at_boot_and_comes_back() {
        let lab = Lab::new();
        let fstab = "UUID=1 / ext4 defaults 0 1\n# /old none swap sw 0 0\n/swap.img none swap sw 0 0\n";
        lab.write("/etc/fstab", fstab);
        lab.write("/proc/swaps", "Filename Type Size Used Priority\n/swap.img file 1 0 -2\n");
        lab.program("swapoff", "echo Filename > $ROOT/proc/swaps");
        lab.program("swapon", "printf 'Filename\\n%s file\\n' $1 > $ROOT/proc/swaps");
        round(&lab, &SwapOff {});
        assert_eq!(lab.read("/etc/fstab"), fstab);
        assert!(lab.read("/proc/swaps").contains("/swap.img"));
    }
}
