//! What a cluster runs on: one folder or file for each kind of runtime, and the balancer that nodes find masters by.

pub mod kubeadm;
pub mod kubernetes;
pub mod load_balancer;
pub mod none;
pub mod sealer;
