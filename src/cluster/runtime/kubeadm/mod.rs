//! The kubeadm configuration: its API versions, and the documents for `kubeadm init` and `kubeadm join`.

mod api_version;
pub mod config;

pub use api_version::Release;
