//! Launches the applications, in the order of the launch list.

use super::{DesiredResource, Stage, on};
use crate::cluster::DesiredState;

pub static STAGE: Stage = Stage { name: "apps", after: &["network", "remove"], one_by_one: false, verifies: false, desired_resources };

fn desired_resources(desired: &DesiredState) -> Vec<DesiredResource> {
    on(desired.leader(), desired.applications().launch().into_iter().chain(desired.launch_app_images()))
}
