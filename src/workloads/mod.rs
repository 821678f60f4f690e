//! The container images that a cluster runs. Finds them in Kubernetes manifests, kustomizations and image lists, fetches them, and lists
//! them in the workloads manifest of a cluster image.

mod artifact;
mod candidate_files;
pub(crate) mod docker_archive;
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

pub use artifact::Workloads;
pub use candidate_files::{FileKind, app_of};
pub use fetch::{Fetched, Sources};
pub use image_archive::ImageArchive;
pub use image_blobs::{Blobs, gather};
pub use image_finder::{FoundImage, FoundImages, UndecidedText, find_in_manifests};
pub use required_images::{RequiredBy, RequiredImages, SourceLocation, UndecidedImage};
pub use sealer_convert::convert_sealer_image;
pub use sealer_registry::{RegistryTags, is_tag_path, read_tags, workloads_of};
