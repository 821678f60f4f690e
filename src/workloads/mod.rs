//! The container images that a cluster will run: finds them in manifests and lists, fetches them, and lays them into the
//! workloads manifest of a cluster image.

mod artifact;
mod candidate_files;
mod docker_archive;
mod fetch;
mod image_archive;
mod image_blobs;
mod image_finder;
pub mod image_list;
pub mod kustomization;
mod reference;
mod required_images;
mod sealer_convert;
mod sealer_registry;
mod template;
mod yaml;

pub use artifact::Workloads;
pub use candidate_files::{Kind, app_of};
pub use fetch::{Fetched, Sources};
pub use image_archive::ImageArchive;
pub use image_blobs::{Blobs, gather};
pub use image_finder::{Finds, Found, Undecided, in_manifests};
pub use required_images::{Asked, Doubt, Place, RequiredImages};
pub use sealer_convert::adopt;
pub use sealer_registry::{Tags, is_tag, tags, workloads_of};
