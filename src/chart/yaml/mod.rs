//! YAML 1.1 as `sigs.k8s.io/yaml` over `yaml.v2` reads and writes it: between texts and the values of templates.

mod emit;
mod read;

pub use emit::{write, write_pretty};
#[cfg(test)]
pub use read::documents;
pub use read::{read, strings};
