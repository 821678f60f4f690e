//! Clusterfiles: YAML documents to one checked, defaulted desired state. Pure.
//!
//! Sealer's Clusterfiles of all generations and our own (`sealift.io/v1`) are read alike. Nothing is ignored silently:
//! what cannot be carried out is an error or a warning with its place, all of them at once.

pub mod address;
mod cli_overrides;
mod cluster;
mod config_merge;
mod document;
mod env;
mod extra_documents;
mod finding;
mod hosts;
mod load;
pub mod merge;
mod model;
mod network;
mod redact;
mod schema;
mod sealed;
mod sealer_v1;
mod secret;
mod ssh;
mod taint;
mod to_yaml;
mod validate;

pub use cli_overrides::Overrides;
pub use load::{API_VERSION, KINDS, lint, load};
pub use model::*;
pub use network::{of_cluster_configuration as networks_of, overlaps};
pub use redact::masked;
pub use schema::{SCHEMAS, schema};
pub use sealed::SecretsKey;

#[cfg(test)]
mod tests;
