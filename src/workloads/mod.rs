//! The container images that a cluster will run: finds them in manifests and lists, fetches them, and lays them into the
//! workloads manifest of a cluster image.

mod files;
mod find;
pub mod list;
mod reference;
mod template;
mod yaml;

pub use files::{Kind, app_of};
pub use find::{Finds, Found, Undecided, in_manifests};
