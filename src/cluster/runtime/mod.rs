//! What a cluster runs on: one folder for each kind of runtime.

pub mod kubeadm;
