//! Renders helm charts as Helm does (v3): Go templates, sprig, value coalescing, charts inside charts, install order.
//!
//! Pure but for [`load`], which reads a chart's files, and [`helm_template`], which runs a `helm` instead: files and values to manifests.

mod capabilities;
mod coalesce;
mod dependency;
mod files;
mod functions;
pub mod given;
mod json;
mod objects;
mod order;
mod program;
mod render;
mod schema;
mod template;
#[cfg(test)]
mod tests;
mod toml;
mod tree;
mod work;
mod yaml;

pub use capabilities::DEFAULT_KUBE_VERSION;
pub use files::{Files, archive, ignore, load};
pub use order::{Hook, Manifest};
pub use program::{Document, Engine, helm_template};
pub use render::{Release, Rendered, failure, render};
pub use yaml::scalars;
