//! Desired and observed to a plan, and the plan carried out, stage by stage.
//!
//! ```text
//! Clusterfile + image + host names ──> Desired ──stages──> what every host shall have ─┐
//! hosts ──check──> what is                                                             ├─> Plan ──act──> verified
//!                                                                                      ─┘
//! ```
//! Stages are pure: they say which resources which hosts shall have, in which order. Nothing is remembered that can be
//! observed, so a run that was killed goes on where it was, and a second one changes nothing.

mod act;
mod certificate;
mod configs;
mod desired;
mod etcd_member;
mod fleet;
mod held;
mod holder;
mod image;
mod lease;
mod names;
mod nodes;
mod observe;
mod plan;
pub mod preflight;
mod record;
pub mod runtime;
mod site;
mod stage;
mod tickets;
pub mod tuning;

pub use act::act;
pub use certificate::Certificate;
pub use desired::{Desired, DesiredHost};
pub use fleet::Fleet;
pub use held::Held;
pub use image::{Image, ImagePart};
pub use lease::{Lease, Request as LeaseRequest};
pub use nodes::{NodeStatus, node_statuses};
pub use observe::{Observed, facts_of, observe};
pub use plan::{Change, Plan, StagePlan, Step};
pub use record::Records;
pub use site::{LeaseOptions, Site};
pub use tickets::Tickets;
