//! Rootless RUN: a user namespace in which the user is root, with the ids of `/etc/subuid` and `/etc/subgid`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

/// The command that starts a program as root of a user namespace, with all ids of the user or else with one.
///
/// `None` for root, and if user namespaces do not work here: RUN reports why.
pub fn command(program: &Path) -> Option<Command> {
    if rustix::process::geteuid().is_root() {
        return None;
    }
    let unshare = |more: &[&str], program: &OsStr| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).args(more).arg(program);
        command
    };
    let works = |more: &&[&str]| {
        let mut probe = unshare(more, OsStr::new("true"));
        probe.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    // --map-auto needs newuidmap and newgidmap, lines in /etc/subuid and /etc/subgid, util-linux 2.38
    let more = [&["--map-auto"][..], &[]].into_iter().find(works)?;
    Some(unshare(more, program.as_os_str()))
}

/// Whether this process may change owners of files: as root of the machine, or of a user namespace with more than one id.
pub fn can_chown() -> bool {
    rustix::process::geteuid().is_root() && own_ids() > 1
}

/// A hint for commands that need users without an id here; `None` if all 65536 ids are available.
pub fn too_few_ids() -> Option<String> {
    let count = if rustix::process::geteuid().is_root() { own_ids() } else { 1 };
    (count < 65_536).then(|| {
        format!(
            "RUN has {count} user {} here; for files of other users install `uidmap`, and add subordinate ids: \
             `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER`",
            if count == 1 { "id" } else { "ids" }
        )
    })
}

/// The number of user or group ids of this process, whichever is less.
fn own_ids() -> u64 {
    let count = |map: &str| std::fs::read_to_string(Path::new("/proc/self").join(map)).map_or(0, |text| ids(&text));
    count("uid_map").min(count("gid_map"))
}

/// The number of ids in a map (user_namespaces(7)).
fn ids(map: &str) -> u64 {
    let counts = map.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    counts.fold(0, u64::saturating_add)
}

/// Hints why namespaces do not work here, each with its remedy, from the kernel's settings in `proc` (`/proc`).
pub fn obstacles(proc: &Path, is_root: bool) -> Vec<&'static str> {
    let has_value = |file: &str, value: &str| std::fs::read_to_string(proc.join(file)).is_ok_and(|text| text.trim() == value);
    let filtered =
        std::fs::read_to_string(proc.join("self/status")).is_ok_and(|text| text.lines().any(|line| line.starts_with("Seccomp:\t2")));
    if is_root {
        return vec![
            "root may not create namespaces here: start the container with `--privileged`, or build as an ordinary user of the machine",
        ];
    }
    let known = [
        (!proc.join("self/ns/user").exists(), "this kernel has no user namespaces (CONFIG_USER_NS)"),
        (has_value("sys/user/max_user_namespaces", "0"), "user namespaces are disabled here: `sysctl -w user.max_user_namespaces=15000`"),
        (
            has_value("sys/kernel/unprivileged_userns_clone", "0"),
            "user namespaces are for root only here: `sysctl -w kernel.unprivileged_userns_clone=1`",
        ),
        (
            has_value("sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            "AppArmor restricts user namespaces: `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or load a profile with `userns,` for `unshare`",
        ),
        (filtered, "the container's seccomp filter may block user namespaces: start it with `--security-opt seccomp=unconfined`"),
    ];
    let mut found: Vec<&str> = known.into_iter().filter(|(applies, _)| *applies).map(|(_, remedy)| remedy).collect();
    found.push("or build as root");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_counted() {
        for (map, count) in [
            ("         0          0 4294967295\n", 4_294_967_295),
            ("         0      12345          1\n", 1),
            ("0 12345 1\n1 200000 65535\n", 65_536),
            ("", 0),
            ("0 0 18446744073709551615\n1 1 1\n", u64::MAX),
        ] {
            assert_eq!(ids(map), count, "{map}");
        }
    }

    #[test]
    fn every_obstacle_comes_with_its_remedy() {
        for (file, text, remedy) in [
            ("sys/user/max_user_namespaces", "0\n", "user.max_user_namespaces="),
            ("sys/kernel/unprivileged_userns_clone", "0\n", "kernel.unprivileged_userns_clone=1"),
            ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "kernel.apparmor_restrict_unprivileged_userns=0"),
            ("self/status", "Name:\tsh\nSeccomp:\t2\nSeccomp_filters:\t1\n", "seccomp=unconfined"),
            ("sys/kernel/nothing", "", "CONFIG_USER_NS"),
        ] {
            let proc = tempfile::tempdir().unwrap();
            for known in [("sys/user/max_user_namespaces", "96365\n"), ("sys/kernel/unprivileged_userns_clone", "1\n"), (file, text)] {
                let path = proc.path().join(known.0);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, known.1).unwrap();
            }
            if remedy != "CONFIG_USER_NS" {
                std::fs::create_dir_all(proc.path().join("self/ns")).unwrap();
                std::fs::write(proc.path().join("self/ns/user"), "").unwrap();
            }
            let found = obstacles(proc.path(), false);
            assert!(found.len() == 2 && found[0].contains(remedy) && found[1] == "or build as root", "{file}: {found:?}");
            assert!(obstacles(proc.path(), true)[0].contains("--privileged"));
        }
    }
}
