//! What runs on hosts for good, as systemd units that start this binary: the local registry (`sealift registry serve`) and the load
//! balancer of the API servers (`sealift balance`).

pub mod apiserver_balancer;
pub mod registry;
