//! Archives: an OCI layout in a tar, to carry images on a disk; what skopeo calls `oci-archive`.

mod load;
mod save;

pub use load::{Loaded, load};
pub use save::{Selection, select};

/// The file that says what an archive is.
const LAYOUT_FILE: &str = "oci-layout";
/// Its content.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file with the names.
const INDEX_FILE: &str = "index.json";
/// The folder of the blobs.
const BLOBS: &str = "blobs/sha256";

#[cfg(test)]
mod tests;
