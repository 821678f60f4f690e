//! The applications, in the order of the launch list.

use super::{Stage, Want, on};
use crate::cluster::Desired;

pub static STAGE: Stage = Stage { name: "apps", one_by_one: false, verifies: false, wants };

fn wants(desired: &Desired) -> Vec<Want> {
    on(desired.first_master(), desired.applications().launch())
}
