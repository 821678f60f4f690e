//! OCI distribution: the client that pulls and pushes, and the registry that serves a site.

pub mod client;
pub mod server;
mod sink;
