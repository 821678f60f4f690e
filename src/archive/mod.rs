//! Archives: an OCI layout in a tar, to carry images on a disk; what skopeo calls `oci-archive`.
//!
//! A *full* archive has all blobs. A *delta* leaves out what the other end has and says so in `sealift-delta.json`. Either can be *split*:
//! `NAME.001`, `NAME.002`… are the archive cut into pieces, `NAME.parts` lists them with their digests and says which blob is where, and
//! `NAME.p01`… are Reed-Solomon parts, each of which replaces any one that is lost or broken. With the list, parts are loaded in any order.

mod concat_reader;
mod delta;
mod inventory;
mod load;
mod load_parts;
mod parity;
mod part_list;
mod save;
mod split_writer;

pub use delta::{Delta, Known};
pub use inventory::{Held, HostHeld, Inventory};
pub use load::{Loaded, Naming, ensure_room_for, load, load_parts};
pub use part_list::{Part, Parts, find_parts};
pub use save::{Selection, select};
pub use split_writer::{SMALLEST_PART, check_split, save_parts};

/// The file that says what an archive is.
const LAYOUT_FILE: &str = "oci-layout";
/// Its content.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file with the names.
const INDEX_FILE: &str = "index.json";
/// The file that says what a delta leaves out.
const DELTA_FILE: &str = "sealift-delta.json";
/// The folder of the blobs.
const BLOBS: &str = "blobs/";

#[cfg(test)]
mod tests;
