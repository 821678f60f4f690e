//! The applications of an image: the resources that launch them on the first master, in order, with their environment.

mod resources;

pub use resources::{Applications, no_such_app};
