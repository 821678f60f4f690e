//! What is mounted below a directory.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::System;

/// Detaches everything that is mounted below `directory`, the deepest first; a mount at `directory` itself stays.
pub fn detach_below(system: &System, directory: &Path) -> Result<()> {
    let table = system.text("/proc/self/mounts")?;
    for place in below(&table, directory).into_iter().rev() {
        let flags = rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(system.path(&place), flags).with_context(|| format!("unmount {}", place.display()))?;
    }
    Ok(())
}

/// The mount points of `table` (fstab(5), as `/proc/self/mounts` has it) below a directory, in the order they were mounted.
fn below(table: &str, directory: &Path) -> Vec<PathBuf> {
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(|point| PathBuf::from(unescape(point)));
    points.filter(|point| point.starts_with(directory) && point != directory).collect()
}

/// Blanks, tabs, line ends and backslashes are written as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_below_are_found() {
        let table = "overlay / overlay rw 0 0\ntmpfs /var/lib/kubelet/pods/a\\040b tmpfs rw 0 0\next4 /var/lib/kubelet ext4 rw 0 0\n\
            tmpfs /var/lib/kubelet-other tmpfs rw 0 0\n";
        assert_eq!(below(table, Path::new("/var/lib/kubelet")), [PathBuf::from("/var/lib/kubelet/pods/a b")]);
    }
}
