//! Image archives: an OCI image layout in a tar file, as skopeo's `oci-archive`, to carry images on a disk.
//!
//! A *full* archive has all blobs. A *delta* archive leaves out blobs that the destination has; `sealift-delta.json` lists them. Either
//! can be *split*: `NAME.001`, `NAME.002`… are its parts, `NAME.parts` lists their digests and the offsets of all blobs, and `NAME.p01`…
//! are parity parts (Reed-Solomon), each of which replaces any missing or damaged part. With the list, parts load in any order.

mod concat_reader;
mod delta;
mod docker_archive;
mod inventory;
mod load;
mod load_parts;
mod parity;
mod part_list;
mod save;
mod split_writer;

pub use delta::{Baseline, Delta};
pub use inventory::{Inventory, InventoryHost, InventoryImage};
pub use load::{LoadOptions, LoadSummary, ensure_disk_space_for, load, load_parts};
pub use part_list::{Part, PartList, find_parts};
pub use save::{Selection, select};
pub use split_writer::{MIN_PART_SIZE, save_parts, split_size};

/// The marker file of an OCI image layout.
const LAYOUT_FILE: &str = "oci-layout";
/// The content of the marker file.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file that lists the images.
const INDEX_FILE: &str = "index.json";
/// The file that lists what a delta leaves out.
const DELTA_FILE: &str = "sealift-delta.json";
/// The directory of the blobs.
const BLOBS: &str = "blobs/";

#[cfg(test)]
mod tests;
