//! The agent: sealift's own binary on a host, talking frames over the stdin and stdout of one SSH channel.

mod binaries;
mod exec;

pub use binaries::AgentBinaries;
pub use exec::{Exec, Output};
