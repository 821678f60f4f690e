//! A change to the host: one at a time, by the cluster that the host belongs to and its newest run, and with the agent installed.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::atomic_file;
use crate::error::Failure;
use crate::host::{Claim, Fence, host_lock};
use crate::paths::{CHANGE_LOCK, EXECUTABLE};
use crate::resource::{System, interrupted, is_disk_full};

/// After this time a change that waits for another one says so.
const NOTICE: Duration = Duration::from_secs(2);
/// How long a change waits for another one; longer than kubeadm takes.
const TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// A change that a run wants to make.
pub struct Change<'a> {
    /// The host.
    pub system: &'a System,
    /// What the run shows.
    pub fence: Option<&'a Fence>,
    /// What is changed, for others who wait.
    pub title: &'a str,
}

/// A change that was admitted. No other agent changes the host until it is dropped.
#[derive(Debug)]
pub struct Admitted {
    _lock: File,
    before: Option<Claim>,
    claim: Option<Claim>,
}

impl Change<'_> {
    /// Waits until no other agent changes the host, and compares the run with the claim on the host. Records the number of its lease
    /// if the host is claimed already.
    ///
    /// # Errors
    /// Refuses as [`Claim::admit`] does; of kind `Interrupted` if the call is cancelled while it waits.
    pub fn begin(&self, log: &mut dyn FnMut(&str)) -> Result<Admitted> {
        let admitted = self.admit(log)?;
        if admitted.before.is_some() {
            admitted.claim(self.system)?;
        }
        Ok(admitted)
    }

    /// As [`Self::begin`], for a change that removes files: on a full disk it goes on without recording the number of the lease.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn begin_removal(&self, log: &mut dyn FnMut(&str)) -> Result<Admitted> {
        let admitted = self.admit(log)?;
        if admitted.before.is_some() {
            admitted.claim(self.system).or_else(unless_disk_full)?;
        }
        Ok(admitted)
    }

    fn admit(&self, log: &mut dyn FnMut(&str)) -> Result<Admitted> {
        let mut lock = lock(self.system, log)?;
        let before = Claim::read(self.system)?;
        let claim = Claim::admit(before.as_ref(), self.fence)?;
        let title = lock.set_len(0).and_then(|()| lock.write_all(self.title.as_bytes())).context(CHANGE_LOCK);
        title.or_else(unless_disk_full)?; // only for others who wait
        Ok(Admitted { _lock: lock, before, claim })
    }
}

/// A write that a full disk may refuse.
fn unless_disk_full(error: anyhow::Error) -> Result<()> {
    if is_disk_full(&error) { Ok(()) } else { Err(error) }
}

/// Waits until no other agent changes the host.
pub fn wait_until_idle(system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
    if system.path(CHANGE_LOCK).exists() { lock(system, log).map(drop) } else { Ok(()) }
}

fn lock(system: &System, log: &mut dyn FnMut(&str)) -> Result<File> {
    let path = system.path(CHANGE_LOCK);
    let mut told = false;
    host_lock::lock(&path, |waited| {
        let other = || std::fs::read_to_string(&path).unwrap_or_default();
        if system.stop().is_cancelled() {
            return Err(interrupted(format!("stopped waiting for another sealift, which is at `{}`", other())).into());
        }
        if waited > TIMEOUT {
            let message = format!("another sealift has been at `{}` on this host for {} minutes", other(), waited.as_secs() / 60);
            return Err(Failure::failed(message).hint("see `ps -ef | grep sealift` on the host").into());
        }
        if waited > NOTICE && !told {
            told = true;
            log(&format!("waiting for another sealift on this host, which finishes `{}`", other()));
        }
        Ok(())
    })
}

impl Admitted {
    /// Whether the host belongs to no cluster yet, and to that of the run as soon as it is claimed.
    pub fn claims_anew(&self) -> bool {
        self.before.is_none() && self.claim.is_some()
    }

    /// Claims the host for the cluster of the run.
    pub fn claim(&self, system: &System) -> Result<()> {
        match &self.claim {
            Some(claim) if self.before.as_ref() != Some(claim) => claim.write(system),
            _ => Ok(()),
        }
    }
}

/// The file name of this process's executable in `bin`, if it runs from there.
fn own_name() -> Option<String> {
    let exe = std::fs::read_link("/proc/self/exe").ok()?;
    let name = exe.file_name()?.to_str()?.trim_end_matches(" (deleted)").to_owned();
    (exe.parent() == Path::new(EXECUTABLE).parent() && name.starts_with("sealift-")).then_some(name)
}

/// Installs this executable again if a `reset` of somebody else has removed it since it started: systemd units run it.
pub fn ensure_installed(system: &System) -> Result<()> {
    match own_name() {
        Some(own) if !system.path(EXECUTABLE).exists() => install(system, &own, Path::new("/proc/self/exe")),
        _ => Ok(()),
    }
}

fn install(system: &System, own: &str, exe: &Path) -> Result<()> {
    let file = bin(system).join(own);
    if !file.exists() {
        let context = || format!("install {}", file.display());
        let mut source = std::fs::File::open(exe).with_context(context)?;
        fs_err::create_dir_all(bin(system))?;
        atomic_file::replace(&file, 0o755, |out| std::io::copy(&mut source, out).map(drop)).with_context(context)?;
    }
    link(system, own)
}

/// Links `/var/lib/sealift/bin/sealift`, which systemd units run, to this executable, and removes older ones.
pub fn activate(system: &System) -> Result<()> {
    match own_name() {
        Some(own) if bin(system).join(&own).exists() => activate_as(system, &own),
        _ => Ok(()), // started manually
    }
}

fn activate_as(system: &System, own: &str) -> Result<()> {
    link(system, own)?;
    // running uploads are named `.new-…`
    for entry in fs_err::read_dir(bin(system))? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("sealift-") && name != own {
            fs_err::remove_file(bin(system).join(name))?;
        }
    }
    Ok(())
}

fn link(system: &System, own: &str) -> Result<()> {
    let link = system.path(EXECUTABLE);
    if std::fs::read_link(&link).ok().as_deref() != Some(Path::new(own)) {
        let new: PathBuf = bin(system).join(format!(".new-{}", std::process::id()));
        std::os::unix::fs::symlink(own, &new).with_context(|| format!("symlink {}", new.display()))?;
        fs_err::rename(&new, &link)?;
    }
    Ok(())
}

fn bin(system: &System) -> PathBuf {
    system.path(Path::new(EXECUTABLE).parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};
    use std::os::unix::fs::PermissionsExt as _;
    use tokio_util::sync::CancellationToken;

    fn host() -> (tempfile::TempDir, System) {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        (root, system)
    }

    fn entries(system: &System) -> Vec<String> {
        let entries = std::fs::read_dir(bin(system)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn running_uploads_stay_and_old_agents_are_removed() {
        let (_root, system) = host();
        std::fs::create_dir_all(bin(&system)).unwrap();
        for name in ["sealift-own", "sealift-old", ".new-other.77"] {
            std::fs::write(bin(&system).join(name), "x").unwrap();
        }
        activate_as(&system, "sealift-own").unwrap();
        assert_eq!(entries(&system), [".new-other.77", "sealift", "sealift-own"]);
    }

    #[test]
    fn an_agent_whose_files_were_removed_installs_itself_again() {
        let (root, system) = host();
        let exe = root.path().join("exe");
        std::fs::write(&exe, "elf").unwrap();
        for _ in 0..2 {
            install(&system, "sealift-own", &exe).unwrap();
            assert_eq!(entries(&system), ["sealift", "sealift-own"]);
            assert_eq!(std::fs::read(system.path(EXECUTABLE)).unwrap(), b"elf");
        }
        assert_eq!(std::fs::metadata(system.path(EXECUTABLE)).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn two_clusters_that_take_a_host_at_once_do_not_both_get_it() {
        let (_root, system) = host();
        let take = |cluster: &str| {
            let fence = Fence { cluster: cluster.to_owned(), number: Some(1) };
            let change = Change { system: &system, fence: Some(&fence), title: "file /etc/x" };
            change.begin(&mut |_| ()).and_then(|admitted| admitted.claim(&system)).map(|()| cluster.to_owned())
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let takes: Vec<_> = ["a", "b", "c", "d"].map(|cluster| scope.spawn(move || take(cluster))).into();
            takes.into_iter().map(|take| take.join().unwrap()).collect()
        });
        let winners: Vec<&String> = results.iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(Claim::read(&system).unwrap().unwrap().cluster, *winners[0]);
        for error in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(kind_of(error), Kind::Preflight);
            assert!(error.to_string().contains(&format!("belongs to the cluster {}", winners[0])), "{error}");
        }
        take(winners[0]).unwrap();
    }

    #[test]
    fn a_change_waits_for_another_one_until_it_is_cancelled() {
        let (_root, system) = host();
        let fence = Fence { cluster: "a".into(), number: Some(1) };
        let change = |title| Change { system: &system, fence: Some(&fence), title };
        let first = change("script install").begin(&mut |_| ()).unwrap();
        let stop = CancellationToken::new();
        let stoppable = system.clone().with_stop(stop.clone());
        let mut lines = Vec::new();
        let waits = Change { system: &stoppable, ..change("file /etc/x") };
        let error = waits
            .begin(&mut |line| {
                lines.push(line.to_owned());
                stop.cancel();
            })
            .unwrap_err();
        assert!(kind_of(&error) == Kind::Interrupted && error.to_string().contains("script install"), "{error}");
        assert_eq!(lines, ["waiting for another sealift on this host, which finishes `script install`"]);
        drop(first);
        change("file /etc/x").begin(&mut |_| ()).unwrap();
    }
}
