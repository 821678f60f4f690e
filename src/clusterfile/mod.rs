//! Clusterfiles: YAML documents to one checked, defaulted desired state. Pure.
//!
//! Sealer's Clusterfiles of all generations and our own (`sealift.io/v1`) are read alike. Nothing is ignored silently:
//! what cannot be carried out is an error or a warning with its place, all of them at once.

pub mod address;
mod cluster;
mod config;
mod document;
mod env;
mod finding;
mod hosts;
mod legacy;
mod load;
mod mask;
pub mod merge;
mod model;
mod network;
mod node;
mod overrides;
mod parts;
mod schema;
mod secret;
mod shape;
mod ssh;
mod taint;
mod write;

pub use load::{API_VERSION, KINDS, lint, load};
pub use mask::masked;
pub use model::*;
pub use network::{of_cluster_configuration as networks_of, overlaps};
pub use overrides::Overrides;
pub use schema::{SCHEMAS, schema};

#[cfg(test)]
mod tests;
