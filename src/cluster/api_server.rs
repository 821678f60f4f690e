//! The name and port at which every host reaches a kube-apiserver.

/// The host name of the control plane endpoint. Every host resolves it in `/etc/hosts`: a master to itself, a worker to its load balancer.
pub const NAME: &str = "apiserver.cluster.local";
/// The TCP port of kube-apiserver, on masters and on the load balancers of workers.
pub const PORT: u16 = 6443;
