//! One host as seen from here: SSH, the agent on the other end, facts.

mod agent;
pub mod facts;
mod failures;
mod ssh;
mod target;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

pub use agent::{AgentBinaries, Exec, Output, serve_stdio};
pub use failures::combine;
pub use target::{Auth, HostKeyPolicy, HostKeys, Target};

use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Event, Task};
use crate::image::Blob;
use crate::resource::{Resource, State};
use crate::retry::{Policy, retry};
use crate::store::Store;

use agent::{Client, ExitStatus, Request};

/// How often a host is called that does not answer.
const PATIENCE: Policy = Policy { tries: 2, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(2) };

/// A jump host's sshd drops some of many who come at once (sshd_config(5), MaxStartups).
const PATIENCE_THROUGH_JUMP: Policy = Policy { tries: 6, ..PATIENCE };

/// A host with the agent running on it. Everything goes over one connection, many things at once.
pub struct Host {
    address: IpAddr,
    name: String,
    link: Client,
    session: ssh::Session,
}

impl Host {
    /// Connects by SSH, checks the host key, logs in, brings the agent if it is not there, and starts it as root.
    ///
    /// Errors of kind `Network` tell apart unreachable, refused and timed out; a wrong host key is of kind `Verification`.
    pub async fn connect(target: &Target, agents: &AgentBinaries, ctx: &Context) -> Result<Host> {
        let what = format!("connect to {}", target.address);
        let patience = if target.jump.is_some() { PATIENCE_THROUGH_JUMP } else { PATIENCE };
        let session = retry(patience, ctx, &what, |_| ssh::Session::connect(target)).await?;
        let started = ctx.or_cancelled(agent::start(&session, target, agents, ctx)).await;
        let (link, hello) = started.with_context(|| format!("host {}", target.address))?;
        Ok(Host { address: target.address, name: hello.hostname, link, session })
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
        self.named(self.link.ask(Request::Facts(request.clone())).await)
    }

    /// Checks resources, all in one round trip. A resource that cannot be checked gives its error's text.
    pub async fn check(&self, resources: &[Resource]) -> Result<Vec<Result<State, String>>> {
        self.named(self.link.ask(Request::Check(resources.to_vec())).await)
    }

    /// Applies a resource: what was before goes to the undo ledger, then it is applied, then checked again.
    pub async fn apply(&self, resource: &Resource, ctx: &Context) -> Result<()> {
        self.long::<bool>(Request::Apply(Box::new(resource.clone())), ctx).await?;
        Ok(())
    }

    /// Takes back everything in the undo ledger, the newest first, and tells how many it were.
    pub async fn undo(&self, ctx: &Context) -> Result<usize> {
        Ok(self.long(Request::Undo, ctx).await?.0)
    }

    /// Removes what sealift keeps on the host for itself (`/var/lib/sealift`), after [`Host::undo`]; the store on request.
    pub async fn purge(&self, keep_store: bool) -> Result<()> {
        self.named(self.link.ask(Request::Forget { keep_store }).await)
    }

    /// Runs a command and waits for its end. Its lines are told as events with the host's name.
    pub async fn exec(&self, command: &Exec, ctx: &Context) -> Result<Output> {
        let (ended, mut stdout) = self.long::<ExitStatus>(Request::Exec(command.clone()), ctx).await?;
        let stderr = stdout.split_off(ended.stdout.min(stdout.len()));
        Ok(Output { status: ended.status, stdout, stderr, lost: ended.lost })
    }

    /// Reads a small file (at most 4 MiB), if it is there.
    pub async fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let call = async { self.link.call(Request::ReadFile(path.to_owned())).await?.done(|_| ()).await };
        let (is_there, content): (bool, Vec<u8>) = self.named(call.await)?;
        Ok(is_there.then_some(content))
    }

    /// Which of these blobs the host's store lacks, and how many bytes of each arrived earlier.
    pub async fn missing(&self, blobs: &[Blob]) -> Result<Vec<(Blob, u64)>> {
        self.named(self.link.ask(Request::Missing(blobs.to_vec())).await)
    }

    /// The blobs of the host's store; nothing prunes it while the cluster is there.
    pub async fn reachable_blobs(&self) -> Result<Vec<Blob>> {
        self.named(self.link.ask(Request::Held).await)
    }

    /// Sends a blob to the host's store, from where an earlier try ended. The host verifies it. The task counts bytes, those
    /// of the earlier try too. What an earlier try left and is damaged now is sent again.
    pub async fn send_blob(&self, blob: &Blob, from: &Store, task: &Task) -> Result<()> {
        let send = async {
            let offset = self.arrived(blob).await?;
            task.advance(offset);
            match agent::send(&self.link, blob, offset, from, task).await {
                Err(error) if offset > 0 && kind_of(&error) == Kind::Verification && self.arrived(blob).await? == 0 => {
                    tracing::warn!("{}: {error:#}; it is sent again", self.name);
                    agent::send(&self.link, blob, 0, from, task).await
                }
                result => result,
            }
        };
        self.named(send.await)
    }

    /// How many bytes of a blob the host has.
    async fn arrived(&self, blob: &Blob) -> Result<u64> {
        let missing: Vec<(Blob, u64)> = self.link.ask(Request::Missing(vec![*blob])).await?;
        Ok(missing.first().map_or(blob.size, |(_, offset)| *offset))
    }

    /// Ends the agent and the connection.
    pub async fn close(self) {
        drop(self.link);
        self.session.close().await;
    }

    /// Asks something that takes time: its lines are told, and the user can interrupt.
    async fn long<T: serde::de::DeserializeOwned>(&self, ask: Request, ctx: &Context) -> Result<(T, Vec<u8>)> {
        let tell = |line: &str| ctx.emit(Event::Output { source: self.name.clone(), line: line.to_owned() });
        self.named(ctx.or_cancelled(async { self.link.call(ask).await?.done(tell).await }).await)
    }

    /// Errors say which host; kind and hints stay on top.
    fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| Failure::over(&error, format!("{} ({}): {error:#}", self.name, self.address)).into())
    }
}
