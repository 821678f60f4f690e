//! Brings a cluster to its desired state: compares desired with observed state, plans the changes, carries them out stage by stage.
//!
//! ```text
//! Clusterfile + image + facts ──> DesiredState ──stages──> desired resources of every host ─┐
//!                                                                                           ├─> Plan ──execute──> verified
//! hosts ──check──> ObservedState ───────────────────────────────────────────────────────────┘
//! ```
//! Stages are pure: they return the desired resources of every host, in order. What can be observed is not stored, so a run that
//! was killed continues where it stopped, and a second run changes nothing.

mod api_server;
mod certificates;
mod desired_state;
mod disk_requirements;
mod executor;
mod file_overrides;
mod hosts;
mod image_content;
mod join_credentials;
mod known_clusters;
mod lease_guard;
mod membership;
mod observed_state;
pub mod os_settings;
mod plan;
pub mod preflight;
mod quorum;
mod redactor;
mod registry_certificate;
pub mod report;
pub mod revision;
mod run_log;
pub mod runtime;
mod session;
mod stage;

pub use certificates::{Certificate, certificates};
pub use desired_state::{DepartingHost, DesiredHost, DesiredState, Observed};
pub use executor::execute;
pub use hosts::Hosts;
pub use image_content::{ImageContent, ImagePart};
pub use join_credentials::JoinCredentials;
pub use known_clusters::KnownClusters;
pub use lease_guard::LeaseGuard;
pub use membership::{EtcdMember, Membership, Node, departed_hosts, observe as observe_members};
pub use observed_state::{ObservedState, gather_facts, observe};
pub use plan::{Change, Plan, StagePlan, Step, Unreachable};
pub use redactor::Redactor;
pub use registry_certificate::RegistryCertificate;
pub use revision::{Applied, Revision, RevisionDifference};
pub use run_log::{Begun, Ended, Entry, Record, Run, RunLog, RunLogs, Step as RunStep, result_of, telling};
pub use session::{Inputs, LeaseOptions, Session, SessionOptions};
