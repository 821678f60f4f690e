//! Renders helm charts as Helm does (v3): Go templates, sprig, value coalescing, charts inside charts, install order.
//!
//! Pure but for [`load`], which reads a chart's files, and [`helm_template`], which runs a `helm` instead: files and values to manifests.

mod budget;
mod capabilities;
mod coalesce;
mod dependency;
mod files;
mod functions;
mod helm_program;
mod install_order;
mod json;
mod objects;
mod render;
mod schema;
mod subcharts;
mod template;
#[cfg(test)]
mod tests;
mod toml;
pub mod values;
mod yaml;

pub use capabilities::DEFAULT_KUBE_VERSION;
pub use files::{Files, archive, ignore, load};
pub use helm_program::{Document, Engine, helm_template};
pub use install_order::{Hook, Manifest};
pub use render::{Release, Rendered, failure, render};
