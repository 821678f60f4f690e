//! Names and places that stages agree on.

/// The name that the control plane is reached by, on every host.
pub const API_SERVER: &str = "apiserver.cluster.local";
/// The port of API servers.
pub const API_PORT: u16 = 6443;
/// The root file system in use on a host.
pub const ROOTFS: &str = "/var/lib/sealift/rootfs/current";
/// Where the state of clusters is kept on hosts.
pub const CLUSTERS: &str = "/var/lib/sealift/clusters";
/// Who holds a cluster, on its first master.
pub const LEASE: &str = "/var/lib/sealift/lease.json";
/// sealift on a host.
pub const SEALIFT: &str = "/var/lib/sealift/bin/sealift";
