//! Kubernetes, brought up by kubeadm.

mod api_version;
pub mod config;
