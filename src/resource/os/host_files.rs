//! Files of an image that belong on the host itself.
//!
//! In images made by sealift that is everything below `host/` of the root file system, at the same path on `/`. Images of other
//! makers (Sealer) have a table of paths.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::rootfs::rootfs_path;
use super::{Reconcile, Snapshot, State, System};
use crate::image::Digest;
use crate::paths::ROOTFS;

/// The files of an image that belong on the host itself.
///
/// Programs and shared libraries become symbolic links into the current root file system, so that an upgrade switches them all at
/// once. Other files are copied; `*.tmpl` are rendered with the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFiles {
    /// The digest of the rootfs manifest whose files they are.
    pub manifest: Digest,
    /// The variables of templates.
    pub env: BTreeMap<String, String>,
    /// Which paths of the root file system belong on the host, and where.
    #[serde(rename = "places", default = "PathMapping::of_sealift_images")]
    pub mappings: Vec<PathMapping>,
}

/// Maps a file or directory of the root file system to a path on the host. Skipped where the image does not contain it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathMapping {
    /// Its path in the root file system, relative.
    pub from: PathBuf,
    /// Its absolute path on the host.
    pub to: PathBuf,
    /// Whether all its files are made executable, whatever their modes in the image.
    pub programs: bool,
}

impl PathMapping {
    /// The mapping of images made by sealift: `host/` to `/`.
    pub fn of_sealift_images() -> Vec<PathMapping> {
        vec![PathMapping { from: "host".into(), to: "/".into(), programs: false }]
    }
}

/// What belongs at a path.
enum Item {
    Directory(FileMode),
    Symlink(PathBuf),
    /// An unpacked program that is made executable, and the link to it.
    Program(PathBuf, PathBuf),
    Copy(PathBuf, FileMode),
    Template(PathBuf, FileMode),
}

impl HostFiles {
    fn root(&self, system: &System) -> PathBuf {
        system.path(rootfs_path(&self.manifest))
    }

    /// What belongs where, parents first.
    fn items(&self, system: &System) -> Result<BTreeMap<PathBuf, Item>> {
        let root = self.root(system);
        let mut items = BTreeMap::new();
        for mapping in &self.mappings {
            let mut pending = vec![(root.join(&mapping.from), mapping.to.clone())];
            while let Some((source, to)) = pending.pop() {
                let Some(meta) = backup::metadata(&source)? else { continue };
                if meta.is_dir() {
                    for entry in fs_err::read_dir(&source)? {
                        let entry = entry?;
                        pending.push((entry.path(), to.join(entry.file_name())));
                    }
                    if to == mapping.to {
                        continue;
                    }
                }
                let from = source.strip_prefix(&root).context("a path outside of the root file system")?;
                let (path, item) = item_for(from, to, &source, &meta, mapping.programs)?;
                ensure!(
                    items.insert(path.clone(), item).is_none(),
                    "the image contains both {0} and {0}.tmpl: remove one of them",
                    path.display()
                );
            }
        }
        Ok(items)
    }

    fn check_item(&self, system: &System, path: &Path, item: &Item) -> Result<State> {
        let full_path = system.path(path);
        let meta = backup::metadata(&full_path)?;
        let Some(meta) = meta else { return Ok(State::Absent) };
        let same = match item {
            Item::Directory(_) => full_path.is_dir(),
            Item::Symlink(target) => meta.is_symlink() && fs_err::read_link(&full_path)? == *target,
            Item::Program(source, target) => {
                meta.is_symlink() && fs_err::read_link(&full_path)? == *target && fs_err::metadata(source)?.mode() & 0o111 != 0
            }
            Item::Copy(source, mode) => meta.is_file() && mode.matches(&meta) && same_content(source, &full_path)?,
            Item::Template(source, mode) => {
                meta.is_file() && mode.matches(&meta) && self.render(source)?.as_bytes() == fs_err::read(&full_path)?
            }
        };
        Ok(if same { State::Present } else { State::differs("another file", "the file of the image") })
    }

    fn apply_item(&self, system: &System, path: &Path, item: &Item) -> Result<()> {
        let full_path = system.path(path);
        match item {
            // a directory that exists, even as a link (`/lib`), stays as it is
            Item::Directory(_) if full_path.is_dir() => Ok(()),
            Item::Directory(mode) => {
                fs_err::create_dir_all(&full_path)?;
                backup::set_permissions(&full_path, *mode)
            }
            Item::Symlink(target) => backup::replace_symlink(&full_path, target),
            Item::Program(source, target) => {
                let mode = FileMode::of(&fs_err::metadata(source)?);
                if mode.mode & 0o111 == 0 {
                    // another root file system may have the same file: it is replaced, not changed
                    backup::write_file(source, &fs_err::read(source)?, FileMode { mode: 0o755, ..mode })?;
                }
                backup::replace_symlink(&full_path, target)
            }
            Item::Copy(source, mode) => backup::write_file(&full_path, &fs_err::read(source)?, *mode),
            Item::Template(source, mode) => backup::write_file(&full_path, self.render(source)?.as_bytes(), *mode),
        }
    }

    fn render(&self, source: &Path) -> Result<String> {
        crate::template::render(&source.to_string_lossy(), &fs_err::read_to_string(source)?, &self.env)
    }
}

/// How the file `from` of the root file system, unpacked at `source`, gets to `to` on the host.
fn item_for(from: &Path, to: PathBuf, source: &Path, meta: &std::fs::Metadata, is_program: bool) -> Result<(PathBuf, Item)> {
    let mode = FileMode::of(meta);
    let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if meta.is_dir() {
        return Ok((to, Item::Directory(mode)));
    }
    if meta.is_symlink() {
        return Ok((to, Item::Symlink(fs_err::read_link(source)?)));
    }
    ensure!(meta.is_file(), "{}: neither a file, a directory nor a symbolic link", source.display());
    let current = Path::new(ROOTFS).join("current").join(from);
    if is_program {
        return Ok((to, Item::Program(source.to_owned(), current)));
    }
    if let Some(stem) = name.strip_suffix(".tmpl") {
        return Ok((to.with_file_name(stem), Item::Template(source.to_owned(), mode)));
    }
    let library = name.ends_with(".so") || name.contains(".so.");
    if meta.mode() & 0o111 != 0 || library {
        return Ok((to, Item::Symlink(current)));
    }
    Ok((to, Item::Copy(source.to_owned(), mode)))
}

fn same_content(a: &Path, b: &Path) -> Result<bool> {
    Ok(fs_err::metadata(a)?.len() == fs_err::metadata(b)?.len() && fs_err::read(a)? == fs_err::read(b)?)
}

impl Reconcile for HostFiles {
    fn title(&self) -> String {
        format!("host files {}", self.manifest.short())
    }

    fn check(&self, system: &System) -> Result<State> {
        if backup::metadata(&self.root(system))?.is_none() {
            return Ok(State::Absent);
        }
        let mut drifted = Vec::new();
        for (path, item) in self.items(system)? {
            if self.check_item(system, &path, &item)? != State::Present {
                drifted.push(path);
            }
        }
        Ok(match drifted.as_slice() {
            [] => State::Present,
            [only] => State::differs(format!("drift in {}", only.display()), "as in the image"),
            [first, ..] => State::differs(format!("drift in {} files: {}, …", drifted.len(), first.display()), "as in the image"),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let mut backups = BTreeMap::new();
        for path in self.items(system)?.into_keys() {
            let backup = Backup::of(system, &path)?;
            backups.insert(path, backup);
        }
        Ok(serde_json::to_value(backups)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        for (path, item) in self.items(system)? {
            if self.check_item(system, &path, &item)? != State::Present {
                self.apply_item(system, &path, &item).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let backups = BTreeMap::<PathBuf, Backup>::deserialize(snapshot)?;
        for (path, backup) in backups.iter().rev() {
            backup.restore(system, path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{FakeHost, assert_round_trip};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn programs_are_linked_files_copied_templates_rendered_and_all_undone() {
        let host = FakeHost::new();
        let digest = Digest::of(b"manifest");
        let host_dir = format!("{ROOTFS}/{}/host", digest.hex());
        host.write(&format!("{host_dir}/usr/bin/kubelet"), "elf");
        std::fs::set_permissions(host.system.path(format!("{host_dir}/usr/bin/kubelet")), std::fs::Permissions::from_mode(0o755)).unwrap();
        host.write(&format!("{host_dir}/usr/lib/libx.so.1"), "elf");
        host.write(&format!("{host_dir}/etc/systemd/system/kubelet.service"), "[Unit]\n");
        host.write(&format!("{host_dir}/etc/motd.tmpl"), "I am {{ .HostName }}\n");
        host.write("/usr/bin/kubelet", "theirs");
        let files = HostFiles {
            manifest: digest,
            env: [("HostName".to_owned(), "h1".to_owned())].into(),
            mappings: PathMapping::of_sealift_images(),
        };
        let snapshot = files.snapshot(&host.system).unwrap();
        files.apply(&host.system, &mut |_| ()).unwrap();
        let link = std::fs::read_link(host.system.path("/usr/bin/kubelet")).unwrap();
        assert_eq!(link, Path::new("/var/lib/sealift/rootfs/current/host/usr/bin/kubelet"));
        assert!(std::fs::read_link(host.system.path("/usr/lib/libx.so.1")).is_ok());
        assert_eq!(host.read("/etc/systemd/system/kubelet.service"), "[Unit]\n");
        assert_eq!(host.read("/etc/motd"), "I am h1\n");
        files.undo(&host.system, &snapshot, &mut |_| ()).unwrap();
        assert_round_trip(&host, &files);
        assert_eq!(host.read("/usr/bin/kubelet"), "theirs");
        assert!(!host.system.path("/etc/systemd").exists());
    }

    #[test]
    fn mapped_files_get_their_paths_and_programs_become_executable() {
        let host = FakeHost::new();
        let digest = Digest::of(b"manifest");
        let root = format!("{ROOTFS}/{}", digest.hex());
        host.write(&format!("{root}/bin/kubelet"), "elf");
        host.write(&format!("{root}/etc/kubelet.service"), "[Unit]\n");
        let mapping = |from: &str, to: &str, programs| PathMapping { from: from.into(), to: to.into(), programs };
        let mappings = vec![
            mapping("bin", "/usr/bin", true),
            mapping("etc/kubelet.service", "/etc/systemd/system/kubelet.service", false),
            mapping("etc/absent", "/etc/absent", false),
        ];
        let files = HostFiles { manifest: digest, env: BTreeMap::new(), mappings };
        assert_round_trip(&host, &files);
        files.apply(&host.system, &mut |_| ()).unwrap();
        assert!(std::fs::metadata(host.system.path(format!("{root}/bin/kubelet"))).unwrap().permissions().mode() & 0o111 != 0);
        assert_eq!(std::fs::read_link(host.system.path("/usr/bin/kubelet")).unwrap(), Path::new(ROOTFS).join("current/bin/kubelet"));
        assert_eq!(host.read("/etc/systemd/system/kubelet.service"), "[Unit]\n");
    }

    #[test]
    fn host_files_are_absent_until_the_image_is_unpacked() {
        let files = HostFiles { manifest: Digest::of(b"x"), env: BTreeMap::new(), mappings: PathMapping::of_sealift_images() };
        assert_eq!(files.check(&FakeHost::new().system).unwrap(), State::Absent);
    }
}
