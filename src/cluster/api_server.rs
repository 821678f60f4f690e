//! How hosts reach the API servers of their cluster.

/// The name that every host resolves to an API server, in `/etc/hosts`.
pub const NAME: &str = "apiserver.cluster.local";
/// The TCP port of API servers.
pub const PORT: u16 = 6443;
