//! Desired and observed to a plan, and the plan carried out, stage by stage.
//!
//! ```text
//! Clusterfile + image + host names ──> Desired ──stages──> what every host shall have ─┐
//! hosts ──check──> what is                                                             ├─> Plan ──act──> verified
//!                                                                                      ─┘
//! ```
//! Stages are pure: they say which resources which hosts shall have, in which order. Nothing is remembered that can be
//! observed, so a run that was killed goes on where it was, and a second one changes nothing.

mod api_server;
mod desired_state;
mod etcd_member;
mod executor;
mod file_overrides;
mod hosts;
mod image_content;
mod join_credentials;
mod known_clusters;
mod lease;
mod lease_guard;
mod lease_holder;
mod node_status;
mod observed_state;
mod plan;
pub mod preflight;
mod registry_certificate;
pub mod runtime;
mod session;
mod stage;
pub mod tuning;

pub use desired_state::{DesiredHost, DesiredState};
pub use executor::execute;
pub use hosts::Hosts;
pub use image_content::{ImageContent, ImagePart};
pub use join_credentials::JoinCredentials;
pub use known_clusters::KnownClusters;
pub use lease::{Lease, Request as LeaseRequest};
pub use lease_guard::LeaseGuard;
pub use node_status::{NodeStatus, node_statuses};
pub use observed_state::{ObservedState, facts_of, observe};
pub use plan::{Change, Plan, StagePlan, Step};
pub use registry_certificate::RegistryCertificate;
pub use session::{LeaseOptions, Session};
