//! OCI distribution: the client that pulls and pushes. The local registry is a [service](crate::service::registry).

pub mod client;
pub mod sink;
