//! YAML 1.1 as `sigs.k8s.io/yaml` over `yaml.v2` reads and writes it.

mod emit;
mod read;
mod resolve;
mod scalars;

pub use emit::{write, write_pretty};
#[cfg(test)]
pub use read::documents;
pub use read::{read, strings};
pub use scalars::scalars;
