//! What a host is to a Kubernetes cluster: what asks or drives kubeadm, kubectl and etcd, and removes what they leave.

mod absent_etcd_member;
mod absent_node;
mod drained_node;
mod kube_app;
mod kube_health;
mod kube_node;
mod kubeadm_init;
mod kubeadm_join;
mod kubeadm_member;
mod kubeadm_reset;
mod kubeadm_unit;
mod kubectl;
mod packet_rules;
mod pod_network;

use super::os::mounts;
use super::{Content, HostsEntry, PATH, Reconcile, Snapshot, State, System, interrupted};

pub use absent_etcd_member::AbsentEtcdMember;
pub use absent_node::AbsentNode;
pub use drained_node::DrainedNode;
pub use kube_app::{KubeApp, is_manifest};
pub use kube_health::KubeHealth;
pub use kube_node::KubeNode;
pub use kubeadm_init::KubeadmInit;
pub use kubeadm_join::KubeadmJoin;
pub use kubeadm_unit::KUBEADM_TIMEOUT;
