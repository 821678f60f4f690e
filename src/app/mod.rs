//! Applications of an image: order, environment, launch commands, health.

pub mod template;
