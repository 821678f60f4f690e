//! The agent: sealift's own binary on a host, and its protocol over the stdin and stdout of one SSH channel.
//!
//! The runner is the client: it sends [`protocol::Request`]s, the agent answers with [`protocol::Event`]s. Calls have ids, and many
//! run in parallel. A cancelled call, and every call when the stream ends, is finished or safely left ([`protocol::Request::Cancel`]); then
//! the agent exits, and kills what is left of what it started.

mod binaries;
mod bootstrap;
mod change;
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
pub(super) use client::{Call, Client, SILENCE_NOTICE};
pub(super) use protocol::{ExitStatus, Request};
pub(super) use send_blob::send;

#[cfg(test)]
mod tests;
