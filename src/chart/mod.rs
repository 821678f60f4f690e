//! Renders Helm charts as Helm v3 does: values, subcharts, Helm's template functions, install order. The template engine itself is
//! [`crate::template`].
//!
//! Takes files and values, returns manifests. Pure, except for [`load`], which reads a chart's files, and [`helm_template`], which runs
//! a `helm` program instead. Messages of errors are Helm's, where Helm has one.

mod api_versions;
mod capabilities;
mod coalesce;
mod dependency;
mod functions;
mod helm_program;
mod helm_version;
mod install_order;
mod loader;
mod objects;
mod render;
mod schema;
mod subcharts;
#[cfg(test)]
mod tests;
mod toml;
pub mod values;
mod yaml;

pub use api_versions::KUBERNETES_MINORS;
pub use helm_program::{Document, Engine, helm_template};
pub use helm_version::HelmVersion;
pub use install_order::{Hook, Manifest};
pub use loader::{Files, apply_helmignore, load, load_archive};
pub use render::{Release, Rendered, failure, render};
