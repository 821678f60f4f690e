//! The kinds of cluster: Kubernetes by kubeadm, none (the image's own scripts), images in Sealer's layout; and the load balancer of
//! the API servers.

pub mod kubeadm;
pub mod kubernetes;
pub mod kubernetes_version;
pub mod load_balancer;
pub mod none;
pub mod sealer;
