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
/// What the registry on a host is with HTTPS: its key and certificate.
pub const REGISTRY_TLS: &str = "/var/lib/sealift/registry/tls.pem";
/// Who may use the registry on a host.
pub const REGISTRY_USERS: &str = "/var/lib/sealift/registry/htpasswd";
/// The certificates of all registries on site, on every host.
pub const REGISTRY_CA: &str = "/var/lib/sealift/registry/ca.crt";
/// sealift on a host.
pub const SEALIFT: &str = "/var/lib/sealift/bin/sealift";
