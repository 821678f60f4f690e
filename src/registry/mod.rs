//! OCI distribution: the client that pulls and pushes, and the local registry (`sealift registry serve`).

pub mod client;
pub mod server;
mod sink;
