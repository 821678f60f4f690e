//! The agent: sealift's own binary on a host, talking frames over the stdin and stdout of one SSH channel.
//!
//! The runner asks ([`protocol::Ask`]), the agent tells ([`protocol::Tell`]); calls have numbers, and many are under way at
//! once. The agent ends when its stream does, together with everything it runs.

mod binaries;
mod exec;
mod frame;
mod link;
mod protocol;
mod receive;
mod send;
mod serve;
mod spawn;
mod start;
mod stdio;

pub use binaries::AgentBinaries;
pub use exec::{Exec, Output};
pub use stdio::serve_stdio;

pub(super) use link::Link;
pub(super) use protocol::{Ask, Ended};
pub(super) use send::send;
pub(super) use start::start;

#[cfg(test)]
mod tests;
