//! What any host can have: files, units, parameters, swap, names, images unpacked. Knows nothing of Kubernetes.

mod backup;
mod command;
mod directory;
mod file;
mod host_files;
mod hosts_entry;
mod htpasswd;
mod kernel_module;
mod limits;
pub(in crate::resource) mod mounts;
mod old_rootfs;
mod owned_directory;
mod registry_mirror;
mod rootfs;
mod script;
mod stored_image;
mod swap;
mod symlink;
mod sysctl;
mod systemd_unit;
mod text_lines;

use super::{Reconcile, Snapshot, State, System};

pub use backup::{Backup, FileMode};
pub use command::Command;
pub use directory::Directory;
pub use file::{Content, File};
pub use host_files::{HostFiles, PathMapping};
pub use hosts_entry::HostsEntry;
pub use htpasswd::Htpasswd;
pub use kernel_module::KernelModule;
pub use limits::Limit;
pub use mounts::remove_all;
pub use old_rootfs::OldRootfs;
pub use owned_directory::OwnedDirectory;
pub use registry_mirror::{Endpoint, RegistryMirror};
pub use rootfs::Rootfs;
pub use script::Script;
pub use stored_image::StoredImage;
pub use swap::SwapOff;
pub use symlink::Symlink;
pub use sysctl::{Rule, Sysctl};
pub use systemd_unit::SystemdUnit;
