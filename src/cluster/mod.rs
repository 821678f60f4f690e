//! Desired and observed to a plan, and the plan carried out, stage by stage.

pub mod preflight;
pub mod runtime;
pub mod tuning;
