//! What an image brings for the host itself: everything below `host/` of its root file system, at the same path on `/`; in images
//! of other makers, whatever has its place on hosts.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use super::backup::{self, Backup, FileMode};
use super::rootfs::path_of;
use super::{Reconcile, Snapshot, State, System};
use crate::image::Digest;
use crate::paths::ROOTFS;

/// The files of an image that are for the host itself. Programs and shared libraries are links into the current root file system, so
/// that a release is switched at once; other files are copied; `*.tmpl` are rendered with the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFiles {
    /// The digest of the rootfs manifest.
    pub manifest: Digest,
    /// What templates see.
    pub env: BTreeMap<String, String>,
    /// What of the root file system is for the host.
    #[serde(default = "Place::host")]
    pub places: Vec<Place>,
}

/// A directory or file of the root file system, and where it is on hosts. What the image lacks is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where it is in the root file system.
    pub from: PathBuf,
    /// Where it is on hosts.
    pub to: PathBuf,
    /// Whether all its files are programs, whatever their modes.
    pub programs: bool,
}

impl Place {
    /// The places of images made by sealift.
    pub fn host() -> Vec<Place> {
        vec![Place { from: "host".into(), to: "/".into(), programs: false }]
    }
}

/// What shall be at a path.
enum Item {
    Directory(FileMode),
    Link(PathBuf),
    /// A link to a program that is unpacked here: what the image says of its mode does not count.
    Program(PathBuf, PathBuf),
    Copy(PathBuf, FileMode),
    Template(PathBuf, FileMode),
}

impl HostFiles {
    fn root(&self, system: &System) -> PathBuf {
        system.path(path_of(&self.manifest))
    }

    /// What shall be where, parents first.
    fn items(&self, system: &System) -> Result<BTreeMap<PathBuf, Item>> {
        let root = self.root(system);
        let mut items = BTreeMap::new();
        for place in &self.places {
            let mut open = vec![(root.join(&place.from), place.to.clone())];
            while let Some((source, to)) = open.pop() {
                let Some(meta) = backup::meta(&source)? else { continue };
                if meta.is_dir() {
                    for entry in fs_err::read_dir(&source)? {
                        let entry = entry?;
                        open.push((entry.path(), to.join(entry.file_name())));
                    }
                    if to == place.to {
                        continue;
                    }
                }
                let from = source.strip_prefix(&root).context("below the root")?;
                let (path, item) = item(from, to, &source, &meta, place.programs)?;
                ensure!(items.insert(path.clone(), item).is_none(), "the image has both {0} and {0}.tmpl", path.display());
            }
        }
        Ok(items)
    }

    fn check_item(&self, system: &System, path: &Path, item: &Item) -> Result<State> {
        let place = system.path(path);
        let meta = backup::meta(&place)?;
        let Some(meta) = meta else { return Ok(State::Absent) };
        let same = match item {
            Item::Directory(_) => place.is_dir(),
            Item::Link(target) => meta.is_symlink() && fs_err::read_link(&place)? == *target,
            Item::Program(source, target) => {
                meta.is_symlink() && fs_err::read_link(&place)? == *target && fs_err::metadata(source)?.mode() & 0o111 != 0
            }
            Item::Copy(source, rights) => meta.is_file() && rights.are(&meta) && same_content(source, &place)?,
            Item::Template(source, rights) => {
                meta.is_file() && rights.are(&meta) && self.render(source)?.as_bytes() == fs_err::read(&place)?
            }
        };
        Ok(if same { State::Present } else { State::differs("another file", "the image's") })
    }

    fn apply_item(&self, system: &System, path: &Path, item: &Item) -> Result<()> {
        let place = system.path(path);
        match item {
            // a directory that is there, by a link too (`/lib`), stays as it is
            Item::Directory(_) if place.is_dir() => Ok(()),
            Item::Directory(rights) => {
                fs_err::create_dir_all(&place)?;
                backup::set_rights(&place, *rights)
            }
            Item::Link(target) => backup::put_link(&place, target),
            Item::Program(source, target) => {
                fs_err::set_permissions(source, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
                backup::put_link(&place, target)
            }
            Item::Copy(source, rights) => backup::put_file(&place, &fs_err::read(source)?, *rights),
            Item::Template(source, rights) => backup::put_file(&place, self.render(source)?.as_bytes(), *rights),
        }
    }

    fn render(&self, source: &Path) -> Result<String> {
        crate::template::render(&source.to_string_lossy(), &fs_err::read_to_string(source)?, &self.env)
    }
}

/// What the file `from` of the root file system, unpacked at `source`, is on the host at `to`.
fn item(from: &Path, to: PathBuf, source: &Path, meta: &std::fs::Metadata, is_program: bool) -> Result<(PathBuf, Item)> {
    let rights = FileMode::of(meta);
    let name = from.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if meta.is_dir() {
        return Ok((to, Item::Directory(rights)));
    }
    if meta.is_symlink() {
        return Ok((to, Item::Link(fs_err::read_link(source)?)));
    }
    ensure!(meta.is_file(), "{}: neither file, directory nor link", source.display());
    let current = Path::new(ROOTFS).join("current").join(from);
    if is_program {
        return Ok((to, Item::Program(source.to_owned(), current)));
    }
    if let Some(stem) = name.strip_suffix(".tmpl") {
        return Ok((to.with_file_name(stem), Item::Template(source.to_owned(), rights)));
    }
    let library = name.ends_with(".so") || name.contains(".so.");
    if meta.mode() & 0o111 != 0 || library {
        return Ok((to, Item::Link(current)));
    }
    Ok((to, Item::Copy(source.to_owned(), rights)))
}

fn same_content(a: &Path, b: &Path) -> Result<bool> {
    Ok(fs_err::metadata(a)?.len() == fs_err::metadata(b)?.len() && fs_err::read(a)? == fs_err::read(b)?)
}

impl Reconcile for HostFiles {
    fn title(&self) -> String {
        format!("host files {}", self.manifest.short())
    }

    fn check(&self, system: &System) -> Result<State> {
        if backup::meta(&self.root(system))?.is_none() {
            return Ok(State::Absent);
        }
        let mut wrong = Vec::new();
        for (path, item) in self.items(system)? {
            if self.check_item(system, &path, &item)? != State::Present {
                wrong.push(path);
            }
        }
        Ok(match wrong.first() {
            None => State::Present,
            Some(first) => State::differs(format!("{} files differ, the first is {}", wrong.len(), first.display()), "as in the image"),
        })
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        let mut before = BTreeMap::new();
        for path in self.items(system)?.into_keys() {
            let kept = Backup::of(system, &path)?;
            before.insert(path, kept);
        }
        Ok(serde_json::to_value(before)?)
    }

    fn apply(&self, system: &System, _: &mut dyn FnMut(&str)) -> Result<()> {
        for (path, item) in self.items(system)? {
            if self.check_item(system, &path, &item)? != State::Present {
                self.apply_item(system, &path, &item).with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }

    fn undo(&self, system: &System, before: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        let before = BTreeMap::<PathBuf, Backup>::deserialize(before)?;
        for (path, kept) in before.iter().rev() {
            kept.restore(system, path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{Lab, round};
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn programs_are_linked_files_copied_templates_rendered_and_all_taken_back() {
        let lab = Lab::new();
        let digest = Digest::of(b"manifest");
        let host = format!("{ROOTFS}/{}/host", digest.hex());
        lab.write(&format!("{host}/usr/bin/kubelet"), "elf");
        std::fs::set_permissions(lab.system.path(format!("{host}/usr/bin/kubelet")), std::fs::Permissions::from_mode(0o755)).unwrap();
        lab.write(&format!("{host}/usr/lib/libx.so.1"), "elf");
        lab.write(&format!("{host}/etc/systemd/system/kubelet.service"), "[Unit]\n");
        lab.write(&format!("{host}/etc/motd.tmpl"), "I am {{ .HostName }}\n");
        lab.write("/usr/bin/kubelet", "theirs");
        let tree = HostFiles { manifest: digest, env: [("HostName".to_owned(), "h1".to_owned())].into(), places: Place::host() };
        let before = tree.snapshot(&lab.system).unwrap();
        tree.apply(&lab.system, &mut |_| ()).unwrap();
        let link = std::fs::read_link(lab.system.path("/usr/bin/kubelet")).unwrap();
        assert_eq!(link, Path::new("/var/lib/sealift/rootfs/current/host/usr/bin/kubelet"));
        assert!(std::fs::read_link(lab.system.path("/usr/lib/libx.so.1")).is_ok());
        assert_eq!(lab.read("/etc/systemd/system/kubelet.service"), "[Unit]\n");
        assert_eq!(lab.read("/etc/motd"), "I am h1\n");
        tree.undo(&lab.system, &before, &mut |_| ()).unwrap();
        round(&lab, &tree);
        assert_eq!(lab.read("/usr/bin/kubelet"), "theirs");
        assert!(!lab.system.path("/etc/systemd").exists());
    }

    #[test]
    fn files_of_other_makers_have_their_places_and_programs_become_programs() {
        let lab = Lab::new();
        let digest = Digest::of(b"manifest");
        let root = format!("{ROOTFS}/{}", digest.hex());
        lab.write(&format!("{root}/bin/kubelet"), "elf");
        lab.write(&format!("{root}/etc/kubelet.service"), "[Unit]\n");
        let place = |from: &str, to: &str, programs| Place { from: from.into(), to: to.into(), programs };
        let places = vec![
            place("bin", "/usr/bin", true),
            place("etc/kubelet.service", "/etc/systemd/system/kubelet.service", false),
            place("etc/absent", "/etc/absent", false),
        ];
        let tree = HostFiles { manifest: digest, env: BTreeMap::new(), places };
        round(&lab, &tree);
        tree.apply(&lab.system, &mut |_| ()).unwrap();
        assert!(std::fs::metadata(lab.system.path(format!("{root}/bin/kubelet"))).unwrap().permissions().mode() & 0o111 != 0);
        assert_eq!(std::fs::read_link(lab.system.path("/usr/bin/kubelet")).unwrap(), Path::new(ROOTFS).join("current/bin/kubelet"));
        assert_eq!(lab.read("/etc/systemd/system/kubelet.service"), "[Unit]\n");
    }

    #[test]
    fn before_the_image_is_unpacked_the_tree_is_absent() {
        let tree = HostFiles { manifest: Digest::of(b"x"), env: BTreeMap::new(), places: Place::host() };
        assert_eq!(tree.check(&Lab::new().system).unwrap(), State::Absent);
    }
}
