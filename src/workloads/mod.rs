//! The container images that a cluster will run: finds them in manifests and lists, fetches them, and lays them into the
//! workloads manifest of a cluster image.

mod adopt;
mod archive;
mod artifact;
mod docker;
mod fetch;
mod files;
mod find;
mod gather;
pub mod kustomization;
pub mod list;
mod reference;
mod sealer;
mod template;
mod wanted;
mod yaml;

pub use adopt::adopt;
pub use archive::Archive;
pub use artifact::Workloads;
pub use fetch::{Fetched, Sources};
pub use files::{Kind, app_of};
pub use find::{Finds, Found, Undecided, in_manifests};
pub use gather::{Blobs, gather};
pub use sealer::{Tags, is_tag, tags, workloads_of};
pub use wanted::{Asked, Doubt, Place, Wanted};
