//! Applications of an image: in which order, with which environment and commands they are launched on the first master.

mod resources;

pub use resources::Applications;
