//! One host as seen from here: SSH, the agent on the other end, facts.

mod agent;
pub mod facts;
mod target;

use std::net::IpAddr;

use anyhow::Result;

pub use agent::{AgentBinaries, Exec, Output};
pub use target::{Auth, HostKeyPolicy, HostKeys, Target};

use crate::events::{Job, Task};
use crate::image::Blob;
use crate::resource::{Resource, State};
use crate::store::Store;

/// A host with the agent running on it.
pub struct Host {
    address: IpAddr,
    name: String,
}

impl Host {
    /// Connects by SSH, checks the host key, logs in, brings the agent if it is not there, and starts it as root.
    ///
    /// Errors of kind `Network` tell apart unreachable, refused and timed out; a wrong host key is of kind `Verification`.
    pub async fn connect(target: &Target, agents: &AgentBinaries, job: &Job) -> Result<Host> {
        unimplemented!("{target:?} {agents:?} {}", job.jobs())
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gathers facts.
    pub async fn facts(&self, request: &facts::FactsRequest) -> Result<facts::Facts> {
        unimplemented!("{request:?}")
    }

    /// Checks resources, all in one round trip. A resource that cannot be checked gives its error's text.
    pub async fn check(&self, resources: &[Resource]) -> Result<Vec<Result<State, String>>> {
        unimplemented!("{}", resources.len())
    }

    /// Applies a resource: what was before goes to the undo ledger, then it is applied, then checked again.
    pub async fn apply(&self, resource: &Resource, job: &Job) -> Result<()> {
        unimplemented!("{resource:?} {}", job.jobs())
    }

    /// Takes back everything in the undo ledger, the newest first, and tells how many it were.
    pub async fn undo(&self, job: &Job) -> Result<usize> {
        unimplemented!("{}", job.jobs())
    }

    /// Removes what sealift keeps on the host for itself (`/var/lib/sealift`), after [`Host::undo`]; the store on request.
    pub async fn forget(&self, keep_store: bool) -> Result<()> {
        unimplemented!("{keep_store}")
    }

    /// Runs a command and waits for its end. Its lines are told as events with the host's name.
    pub async fn exec(&self, command: &Exec, job: &Job) -> Result<Output> {
        unimplemented!("{command:?} {}", job.jobs())
    }

    /// Reads a small file (at most 4 MiB), if it is there.
    pub async fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        unimplemented!("{path}")
    }

    /// Which of these blobs the host's store lacks, and how many bytes of each arrived earlier.
    pub async fn missing(&self, blobs: &[Blob]) -> Result<Vec<(Blob, u64)>> {
        unimplemented!("{}", blobs.len())
    }

    /// Sends a blob to the host's store, from where an earlier try ended. The host verifies it.
    pub async fn send_blob(&self, blob: &Blob, from: &Store, task: &Task) -> Result<()> {
        let _ = task;
        unimplemented!("{blob:?} {from:?}")
    }

    /// Ends the agent and the connection.
    pub async fn close(self) {}
}
