//! sealift builds, shares and runs cluster images: one OCI image holds a whole Kubernetes cluster and its applications.
//!
//! `docs/architecture.md` has the map of the modules, and says which may use which.

pub mod app;
pub mod archive;
pub mod atomic_file;
pub mod build;
pub mod chart;
pub mod cli;
pub mod cluster;
pub mod clusterfile;
pub mod diagnostic;
pub mod diff;
pub mod distribute;
pub mod error;
pub mod events;
pub mod host;
pub mod image;
pub mod kubefile;
pub mod layer;
pub mod paths;
pub mod program_output;
pub mod registry;
pub mod resource;
pub mod retry;
pub mod service;
pub mod store;
pub mod template;
pub mod trust;
pub mod workloads;
pub mod yaml;
