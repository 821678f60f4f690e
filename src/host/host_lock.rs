//! Locks a file on the host that another process may remove meanwhile.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Locks the file, and creates it and its directory if there is none. `wait` is called again and again while another process has it
/// locked, with the time that passed; its error ends the wait. Blocks.
///
/// The file is locked until it is dropped. A process that has it locked may remove it: those who wait lock the next one.
pub fn lock(path: &Path, mut wait: impl FnMut(Duration) -> Result<()>) -> Result<File> {
    let began = Instant::now();
    loop {
        fs_err::create_dir_all(path.parent().context("a lock without a directory")?)?;
        let file = match OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path) {
            // the directory was removed since
            Err(error) if error.kind() == ErrorKind::NotFound && began.elapsed() < Duration::from_secs(10) => continue,
            file => file.with_context(|| path.display().to_string())?,
        };
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => wait(began.elapsed())?,
                Err(TryLockError::Error(error)) => return Err(error).with_context(|| path.display().to_string()),
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

fn is_at(file: &File, path: &Path) -> Result<bool> {
    let own = file.metadata()?;
    Ok(std::fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn one_holds_the_lock_at_a_time_also_when_the_holder_removes_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("home/change.lock");
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let file = lock(&path, |_| Ok(())).unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(1));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        std::fs::remove_file(&path).unwrap();
                        std::fs::remove_dir(dir.path().join("home")).ok(); // another may have made the next lock
                        drop(file);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn the_wait_can_be_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("change.lock");
        let held = lock(&path, |_| Ok(())).unwrap();
        let give_up = |waited: Duration| if waited > Duration::from_millis(100) { Err(anyhow::anyhow!("enough")) } else { Ok(()) };
        assert_eq!(lock(&path, give_up).unwrap_err().to_string(), "enough");
        drop(held);
        lock(&path, give_up).unwrap();
    }
}
