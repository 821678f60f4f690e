//! Clusterfiles: YAML documents to one checked, defaulted desired state. Pure.
//!
//! Sealer's Clusterfiles of all generations and our own (`sealift.io/v1`) are read alike. Nothing is ignored silently:
//! what cannot be carried out is an error or a warning with its place, all of them at once.

mod model;

pub use model::*;
