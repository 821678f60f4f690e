//! The agent: sealift's own binary on a host, talking frames over the stdin and stdout of one SSH channel.
//!
//! The runner asks ([`protocol::Ask`]), the agent tells ([`protocol::Tell`]); calls have numbers, and many are under way at
//! once. The agent ends when its stream does, together with everything it runs.

mod binaries;
mod bootstrap;
mod client;
mod exec;
mod frame;
mod protocol;
mod receive_blob;
mod send_blob;
mod server;
mod spawn;
mod stdio;

pub use binaries::AgentBinaries;
pub use exec::{Exec, Output};
pub use stdio::serve_stdio;

pub(super) use bootstrap::start;
pub(super) use client::Client;
pub(super) use protocol::{ExitStatus, Request};
pub(super) use send_blob::send;

#[cfg(test)]
mod tests;
