//! Archives: an OCI layout in a tar, to carry images on a disk.
