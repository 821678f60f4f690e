//! Swap off: `swapoff(8)` now; at boot `fstab(5)`, and units of systemd that turn swap on: swap units, zram-generator's, and services.

use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Reconcile, Snapshot, State, System};

const FSTAB: &str = "/etc/fstab";
const MARKER: &str = "#sealift# ";
const UNITS: &str = "/etc/systemd/system";
/// The drop-in that keeps a unit from starting, wherever its own file comes from: a generator, a package, the administrator.
const DROP_IN: &str = "50-sealift-swap.conf";
const DROP_IN_TEXT: &str = "# written by sealift: the kubelet needs swap off\n[Unit]\nConditionPathExists=!/\n";
/// Services that turn swap on at boot: zram-tools of Debian, zram-config of Ubuntu, dphys-swapfile of Raspberry Pi OS, and others.
const SERVICES: [&str; 5] =
    ["zramswap.service", "zram-config.service", "zram-swap.service", "dphys-swapfile.service", "systemd-swap.service"];

/// All swap off, now and at boot: swap lines of fstab become marked comments, units that turn swap on get a condition that never holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapOff {}

/// The snapshot.
#[derive(Serialize, Deserialize)]
struct PreviousState {
    #[serde(rename = "active")]
    active_devices: Vec<String>,
    lines: Vec<String>,
    /// The units that turn swap on and were active.
    #[serde(default)]
    active_units: Vec<String>,
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
    let ending = |line: &str| line[line.trim_end_matches(['\r', '\n']).len()..].to_owned();
    let new: String = text.split_inclusive('\n').map(|line| change(line.trim_end_matches(['\r', '\n'])) + &ending(line)).collect();
    if new == text || text.is_empty() { Ok(()) } else { system.write_text(FSTAB, &new) }
}

/// The units that turn swap on at boot, as `systemctl` lists them: with a file of their own or a generator's, enabled or not, and not
/// masked.
fn units(system: &System) -> Vec<String> {
    let listed = system.output(&[&["systemctl", "list-unit-files", "--no-legend", "*.swap"], &SERVICES[..]].concat()).unwrap_or_default();
    let unit = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, state) = (words.next()?, words.next()?);
        let is_off = state.starts_with("masked") || (state == "disabled" && name.ends_with(".service"));
        (!is_off).then(|| name.to_owned())
    };
    listed.lines().filter_map(unit).collect()
}

fn drop_in(unit: &str) -> PathBuf {
    PathBuf::from(UNITS).join(format!("{unit}.d")).join(DROP_IN)
}

fn is_kept_off(system: &System, unit: &str) -> bool {
    system.read_text(drop_in(unit)).is_ok_and(|text| text == DROP_IN_TEXT)
}

fn reload(system: &System) -> Result<()> {
    if system.path("/run/systemd/system").is_dir() { system.run(&["systemctl", "daemon-reload"], &mut |_| ()) } else { Ok(()) }
}

/// Whether a unit is active; a unit that nobody knows is not.
fn is_active(system: &System, unit: &str) -> bool {
    let status = system.command("systemctl").args(["is-active", "--quiet", "--", unit]).status();
    status.is_ok_and(|status| status.success())
}

/// Removes the drop-ins of all units, also of those that have gone since.
fn remove_drop_ins(system: &System) -> Result<()> {
    for entry in std::fs::read_dir(system.path(UNITS)).into_iter().flatten().flatten() {
        let drop_in = entry.path().join(DROP_IN);
        if drop_in.is_file() {
            fs_err::remove_file(&drop_in)?;
            std::fs::remove_dir(entry.path()).ok(); // others may have drop-ins there
        }
    }
    Ok(())
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
        if let Some(line) = text.lines().find(|line| is_swap_line(line)) {
            return Ok(State::differs(format!("on at boot: {line}"), "off at boot"));
        }
        Ok(match units(system).into_iter().find(|unit| !is_kept_off(system, unit)) {
            Some(unit) => State::differs(format!("on at boot: {unit}"), "off at boot"),
            None => State::Present,
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let lines = system.read_text(FSTAB)?.lines().filter(|line| is_swap_line(line)).map(str::to_owned).collect();
        let active_units = units(system).into_iter().filter(|unit| is_active(system, unit)).collect();
        Ok(serde_json::to_value(PreviousState { active_devices: active_devices(system)?, lines, active_units })?)
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        rewrite(system, |line| if is_swap_line(line) { format!("{MARKER}{line}") } else { line.to_owned() })?;
        reload(system)?; // units made of lines of fstab are gone then
        let units = units(system);
        for unit in units.iter().filter(|unit| !is_kept_off(system, unit)) {
            let path = drop_in(unit);
            fs_err::create_dir_all(system.path(&path).parent().unwrap_or(&system.path(UNITS)))?;
            system.write_text(&path, DROP_IN_TEXT)?;
            log(&format!("{unit} does not start any more"));
        }
        if !units.is_empty() {
            reload(system)?;
        }
        for unit in units.iter().filter(|unit| is_active(system, unit)) {
            system.run(&["systemctl", "stop", "--", unit], log)?;
        }
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
        remove_drop_ins(system)?;
        reload(system)?;
        for unit in &previous.active_units {
            if let Err(error) = system.run(&["systemctl", "start", "--", unit], log) {
                log(&format!("{unit} stays off until the next boot: {error}"));
            }
        }
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

    const SWAPS: &str = "Filename Type Size Used Priority\n";

    #[test]
    fn swap_is_off_now_and_at_boot_and_restored() {
        for fstab in [
            "UUID=1 / ext4 defaults 0 1\n# /old none swap sw 0 0\n/swap.img none swap sw 0 0\n",
            "UUID=1 / ext4 defaults 0 1\r\n/swap.img none swap sw 0 0\r\n",
            "UUID=1 / ext4 defaults 0 1\n/swap.img none swap sw 0 0",
        ] {
            let host = FakeHost::new();
            host.write("/etc/fstab", fstab);
            host.write("/proc/swaps", &format!("{SWAPS}/swap.img file 1 0 -2\n"));
            host.program("swapoff", "echo Filename > $ROOT/proc/swaps");
            host.program("swapon", "printf 'Filename\\n%s file\\n' $1 > $ROOT/proc/swaps");
            assert_round_trip(&host, &SwapOff {});
            assert_eq!(host.read("/etc/fstab"), fstab);
            assert!(host.read("/proc/swaps").contains("/swap.img"));
        }
    }

    /// A host whose systemd lists `unit_files` (name and state) and turns zram swap on when it starts or boots.
    fn systemd(unit_files: &str) -> FakeHost {
        let host = FakeHost::new();
        host.write("/run/systemd/system/x", "");
        host.write("/unit-files", unit_files);
        host.write("/proc/swaps", &format!("{SWAPS}/dev/zram0 partition 1 0 100\n"));
        host.program(
            "systemctl",
            &format!(
                "case \"$1 $2 $3 $4\" in list-unit-files*) cat $ROOT/unit-files ;; is-active*dev-zram0.swap*) grep -q zram $ROOT/proc/swaps ;;
                is-active*) exit 3 ;; 'stop -- dev-zram0.swap'*) printf '{SWAPS}' >$ROOT/proc/swaps ;;
                'start -- dev-zram0.swap'*) printf '{SWAPS}/dev/zram0 partition 1 0 100\n' >$ROOT/proc/swaps ;; esac"
            ),
        );
        host
    }

    #[test]
    fn units_that_turn_swap_on_are_kept_from_starting_and_restored() {
        let units = "dev-zram0.swap generated -\nopt-swap.swap enabled enabled\nzramswap.service enabled enabled\n\
            zram-config.service disabled enabled\ndev-sda9.swap masked -\n";
        let host = systemd(units);
        host.write("/etc/systemd/system/opt-swap.swap.d/10-theirs.conf", "theirs");
        let first = SwapOff {}.snapshot(&host.system).unwrap();
        SwapOff {}.apply(&host.system, &mut |_| ()).unwrap();
        let has = |unit: &str| host.system.path(drop_in(unit)).exists();
        assert!(has("dev-zram0.swap") && has("opt-swap.swap") && has("zramswap.service"));
        assert!(!has("zram-config.service") && !has("dev-sda9.swap"));
        assert_eq!(host.read("/proc/swaps"), SWAPS);
        host.write("/unit-files", &format!("{units}dev-sdb1.swap enabled enabled\n"));
        assert_eq!(SwapOff {}.check(&host.system).unwrap(), State::differs("on at boot: dev-sdb1.swap", "off at boot"));
        SwapOff {}.undo(&host.system, &first, &mut |_| ()).unwrap();
        assert!(host.read("/proc/swaps").contains("/dev/zram0"));
        assert_round_trip(&host, &SwapOff {});
        assert!(host.read("/proc/swaps").contains("/dev/zram0") && !host.system.path("/etc/systemd/system/dev-zram0.swap.d").exists());
        assert_eq!(host.read("/etc/systemd/system/opt-swap.swap.d/10-theirs.conf"), "theirs");
    }
}
