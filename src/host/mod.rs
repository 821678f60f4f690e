//! Access to one host: the SSH connection, the agent that runs on the host, the facts that it gathers.

mod agent;
mod claim;
pub mod facts;
mod failures;
mod host_lock;
pub mod lease;
mod ssh;
mod target;

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

pub use agent::{AgentBinaries, Exec, Output, serve_stdio};
pub use claim::{Claim, Fence};
pub use failures::combine;
pub use target::{Auth, HostKeyPolicy, HostKeys, Target};

use crate::error::{Failure, Kind, kind_of};
use crate::events::{Context, Event, Task};
use crate::image::Blob;
use crate::paths;
use crate::program_output::printable;
use crate::resource::{AppliedResource, Resource, State};
use crate::retry::{Policy, retry};
use crate::store::Store;

use agent::{Call, Client, ExitStatus, Request, SILENCE_NOTICE};

/// How often a connection that fails is tried.
const RETRY: Policy = Policy { attempts: 2, first_pause: Duration::from_millis(500), longest_pause: Duration::from_secs(2) };

/// The sshd of a jump host drops some of many new connections (sshd_config(5), MaxStartups).
const RETRY_THROUGH_JUMP: Policy = Policy { attempts: 6, ..RETRY };

/// How long a small file of a host may take.
const FILE_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for a connection, and tells the user when it takes long.
async fn noticed<T>(address: IpAddr, ctx: &Context, connecting: impl Future<Output = T>) -> T {
    tokio::pin!(connecting);
    if let Ok(connected) = timeout(SILENCE_NOTICE, &mut connecting).await {
        return connected;
    }
    ctx.warn(format!("no answer from {address} for {} s, still connecting", SILENCE_NOTICE.as_secs()));
    connecting.await
}

/// A connected host with its agent running. All calls share one SSH connection, and run in parallel.
pub struct Host {
    address: IpAddr,
    name: String,
    client: Client,
    session: ssh::Session,
    claim: Option<Claim>,
    /// Cancels what only reads.
    ctx: Context,
}

impl Host {
    /// Connects by SSH, verifies the host key, logs in, uploads the agent if the host does not have it, and starts it as root.
    ///
    /// # Errors
    /// Of kind `Network` if the host is unreachable, refuses the connection or times out; `Verification` for a wrong host key.
    pub async fn connect(target: &Target, agents: &AgentBinaries, ctx: &Context) -> Result<Host> {
        let what = format!("connect to {}", target.address);
        let policy = if target.jump.is_some() { RETRY_THROUGH_JUMP } else { RETRY };
        let connecting = retry(policy, ctx, &what, |_| ssh::Session::connect(target));
        let session = noticed(target.address, ctx, connecting).await?;
        let agent = ctx.or_cancelled(agent::start(&session, target, agents, ctx)).await;
        let (client, handshake) = agent.with_context(|| format!("host {}", target.address))?;
        let name = printable(&handshake.hostname).into_owned();
        Ok(Host { address: target.address, name, client, session, claim: handshake.claim, ctx: ctx.clone() })
    }

    /// The address that it was connected by.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Its host name (`uname -n`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that had the host when it was connected.
    pub fn claim(&self) -> Option<&Claim> {
        self.claim.as_ref()
    }

    /// The cluster that has the host now.
    pub async fn current_claim(&self) -> Result<Option<Claim>> {
        let file = self.read_file(paths::CLAIM).await?;
        let claim =
            file.map(|text| serde_json::from_slice(&text)).transpose().with_context(|| format!("{}: {}", self.name, paths::CLAIM))?;
        // hosts of an older sealift have no file until their next change
        Ok(claim.or_else(|| self.claim.clone().filter(|claim| claim.number == 0)))
    }

    /// Sets the cluster and the lease of this run. The agent refuses its changes if the host belongs to another cluster, or as soon as
    /// a newer run has changed it. The first [`Host::apply`] claims the host for the cluster.
    pub fn set_fence(&self, fence: Fence) {
        self.client.set_fence(fence);
    }

    /// Gathers facts about the host.
    pub async fn facts(&self, request: &facts::FactsRequest) -> Result<facts::Facts> {
        self.read(Request::Facts(request.clone())).await
    }

    /// Checks resources in one round trip, and returns a state for each, or the error's text.
    pub async fn check(&self, resources: &[Resource]) -> Result<Vec<Result<State, String>>> {
        self.read(Request::Check(resources.to_vec())).await
    }

    /// Applies a resource: records a snapshot in the undo ledger, applies it, checks it again. If the user interrupts, the agent finishes
    /// it, or leaves it where that takes long: a script gets SIGTERM and [`crate::resource::GRACE_PERIOD`], waiting ends, kubeadm is never
    /// cut off. This waits until it has.
    ///
    /// # Errors
    /// Of kind `Interrupted` if it was left; the error says how.
    pub async fn apply(&self, resource: &Resource, ctx: &Context) -> Result<()> {
        self.call_with_output::<bool>(Request::Apply(Box::new(resource.clone())), &resource.title(), ctx).await?;
        Ok(())
    }

    /// As [`Host::apply`], but applies it even if the check finds no drift.
    pub async fn apply_anyway(&self, resource: &Resource, ctx: &Context) -> Result<()> {
        self.call_with_output::<bool>(Request::ApplyAnyway(Box::new(resource.clone())), &resource.title(), ctx).await?;
        Ok(())
    }

    /// Undoes all changes in the undo ledger, the newest first, and returns how many there were. If the user interrupts, the agent
    /// finishes the change that it is undoing, as [`Host::apply`] does.
    pub async fn undo(&self, ctx: &Context) -> Result<usize> {
        Ok(self.call_with_output(Request::Undo, "reset", ctx).await?.0)
    }

    /// The resources that were applied on the host and not undone.
    pub async fn applied(&self) -> Result<Vec<AppliedResource>> {
        self.read(Request::Applied).await
    }

    /// Undoes the changes of one resource; see [`AppliedResource::id`].
    pub async fn revert(&self, id: &str, ctx: &Context) -> Result<()> {
        self.call_with_output::<bool>(Request::Revert(id.to_owned()), id, ctx).await?;
        Ok(())
    }

    /// Removes sealift's own files on the host (in `/var/lib/sealift`), with or without the store; call [`Host::undo`] first.
    pub async fn purge(&self, keep_store: bool) -> Result<()> {
        self.with_host_name(self.client.request(Request::Purge { keep_store }).await)
    }

    /// Acquires, renews or releases the lease on the cluster, which this host keeps.
    pub async fn lease(&self, holder: &str, owner: &str, request: &lease::Request) -> Result<lease::Answer> {
        let request = Request::Lease { holder: holder.to_owned(), owner: owner.to_owned(), request: request.clone() };
        self.with_host_name(self.client.request(request).await)
    }

    /// Runs a command and waits for its end, whatever its exit status is. Lines of output become events with the host's name. If the
    /// user interrupts, the command gets SIGTERM and [`crate::resource::GRACE_PERIOD`].
    pub async fn exec(&self, command: &Exec, ctx: &Context) -> Result<Output> {
        let (ended, mut stdout) = self.call_with_output::<ExitStatus>(Request::Exec(command.clone()), "a command", ctx).await?;
        let stderr = stdout.split_off(ended.stdout.min(stdout.len()));
        Ok(Output { status: ended.status, stdout, stderr, truncated_bytes: ended.truncated_bytes })
    }

    /// Reads a regular file of at most 4 MiB; `None` if there is none.
    ///
    /// # Errors
    /// Fails for anything but a regular file, and if it takes a minute: a disk hangs. Of kind `Interrupted` if the user interrupts.
    pub async fn read_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let call = async { self.client.call(Request::ReadFile(path.to_owned())).await?.wait(|_| ()).await };
        let call = async {
            timeout(FILE_TIMEOUT, call).await.unwrap_or_else(|_| {
                Err(Failure::network(format!("{path}: not read for {} s", FILE_TIMEOUT.as_secs()))
                    .hint("see whether a disk of the host hangs: `dmesg`, `ls -l` of that file")
                    .into())
            })
        };
        let (is_there, content): (bool, Vec<u8>) = self.with_host_name(self.ctx.or_cancelled(call).await)?;
        Ok(is_there.then_some(content))
    }

    /// Makes a request that changes nothing: the user may interrupt it at once.
    async fn read<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        self.with_host_name(self.ctx.or_cancelled(self.client.request(request)).await)
    }

    /// Returns which of these blobs are missing from the host's store, and how many bytes of each are there from an earlier transfer.
    pub async fn missing(&self, blobs: &[Blob]) -> Result<Vec<(Blob, u64)>> {
        self.with_host_name(self.client.request(Request::MissingBlobs(blobs.to_vec())).await)
    }

    /// Returns the blobs of the host's store. Nothing prunes it while the cluster exists.
    pub async fn reachable_blobs(&self) -> Result<Vec<Blob>> {
        self.with_host_name(self.client.request(Request::ReachableBlobs).await)
    }

    /// Sends a blob to the host's store, which verifies it, and resumes an earlier transfer. `task` counts bytes, those of the earlier
    /// transfer too. If these are damaged, the whole blob is sent again.
    pub async fn send_blob(&self, blob: &Blob, from: &Store, task: &Task) -> Result<()> {
        let send = async {
            let offset = self.received_bytes(blob).await?;
            task.advance(offset);
            match agent::send(&self.client, blob, offset, from, task).await {
                Err(error) if offset > 0 && kind_of(&error) == Kind::Verification && self.received_bytes(blob).await? == 0 => {
                    tracing::warn!("{}: {error:#}; sending it again", self.name);
                    agent::send(&self.client, blob, 0, from, task).await
                }
                result => result,
            }
        };
        self.with_host_name(send.await)
    }

    /// How many bytes of a blob the host has received.
    async fn received_bytes(&self, blob: &Blob) -> Result<u64> {
        let missing: Vec<(Blob, u64)> = self.client.request(Request::MissingBlobs(vec![*blob])).await?;
        Ok(missing.first().map_or(blob.size, |(_, offset)| *offset))
    }

    /// Stops the agent and closes the connection.
    pub async fn close(self) {
        drop(self.client);
        self.session.close().await;
    }

    /// Makes a call whose lines of output become events. If the user interrupts, the call is cancelled, and this waits until the agent
    /// has finished or left what it does.
    async fn call_with_output<T: DeserializeOwned>(&self, request: Request, title: &str, ctx: &Context) -> Result<(T, Vec<u8>)> {
        let call = async {
            ctx.check()?;
            let step = Mutex::new(title.to_owned());
            let mut log = |line: &str| {
                if line.starts_with("undo ") {
                    line.clone_into(&mut step.lock().unwrap_or_else(PoisonError::into_inner));
                }
                ctx.emit(Event::Output { source: self.name.clone(), line: printable(line).into_owned() });
            };
            let mut call: Call = self.client.call(request).await?;
            tokio::select! {
                result = call.wait(&mut log) => return result,
                () = ctx.cancel().cancelled() => call.cancel(),
            }
            let step = || step.lock().unwrap_or_else(PoisonError::into_inner).clone();
            ctx.note(format!("finishing {} on {}; press Ctrl-C again to stop at once", step(), self.name));
            let result = call.wait(&mut log).await;
            if result.is_ok() {
                ctx.note(format!("{}: finished {}", self.name, step()));
            }
            result
        };
        self.with_host_name(call.await)
    }

    /// Adds the host to an error, and keeps its kind and hints.
    fn with_host_name<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let message = format!("{} ({}): {error:#}", self.name, self.address);
            Failure::over(&error, printable(&message)).into()
        })
    }
}
