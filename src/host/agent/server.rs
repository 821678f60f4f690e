//! The server of the agent's protocol: carries out requests, many in parallel, until the stream ends.

use std::collections::HashMap;
use std::future::Future;
use std::io::ErrorKind::{DirectoryNotEmpty, NotADirectory, ResourceBusy};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedSender};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::binaries::blob_of;
use super::change::{self, Change};
use super::client::{SILENCE_NOTICE, SILENCE_TIMEOUT};
use super::frame::Silence;
use super::protocol::{ChunkKind, Event, EventFrame, Handshake, RemoteError, Request, RequestFrame, VERSION};
use super::{frame, receive_blob, spawn};
use crate::error::Failure;
use crate::host::lease::Lease;
use crate::host::{Claim, Fence, facts};
use crate::image::Blob;
use crate::paths::{HOME, LEASE, STORE, UNDO_LEDGER};
use crate::resource::{Ledger, Resource, State, System};
use crate::store::Store;

/// The limit of a file that is read as a whole, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// How many events may wait to be sent; then their senders wait.
const EVENT_QUEUE: usize = 64;
/// How long the agent waits for its calls after the client is gone: longer than kubeadm takes, which is never cut off.
const FINISH_TIMEOUT: Duration = Duration::from_secs(20 * 60);
/// What sealift creates in its directory, and purge removes; everything else there is the user's (such as `dataRoot`).
const PURGED: [&str; 14] = [
    ".removed",
    "bin",
    "clusters",
    "kubeadm",
    "kubectl",
    "lease.json",
    "lease.lock",
    "registry",
    "rootfs",
    "stamps",
    "store",
    // a claim without a ledger would say that the ledger is lost
    "claim.json",
    "undo",
    "change.lock",
];

/// How often to remove a directory again in which another process creates a file meanwhile.
const PURGE_ATTEMPTS: usize = 3;

/// Serves a client until its stream ends. Then running calls end as if they were cancelled: what changes the host is finished or safely
/// left before this returns.
///
/// # Errors
/// Of kind `Network` if the client sends nothing, not even a ping, for a minute.
pub async fn serve<R, W>(mut input: R, output: W, system: System, handshake: Handshake) -> Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (out, queue) = mpsc::channel(EVENT_QUEUE);
    let writer = tokio::spawn(write_events(output, queue));
    let mut server = Server { system, out, blobs: HashMap::new(), calls: Arc::default() };
    server.responder(0).send(Event::Handshake(handshake), Vec::new()).await;
    let silence = Silence { peer: "the client", noticed_after: SILENCE_NOTICE, limit: SILENCE_TIMEOUT, notice: &|_| () };
    let result = loop {
        match frame::read::<_, RequestFrame>(&mut input, &silence).await {
            Ok(Some((request, payload))) => server.dispatch(request, payload).await,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    writer.abort(); // nobody reads any more: no call may wait for that
    server.blobs.clear();
    server.calls.finish().await;
    result
}

/// Builds this agent's handshake; hashes the executable.
pub fn handshake(system: &System) -> Result<Handshake> {
    let digest = blob_of(Path::new("/proc/self/exe"))?.digest;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(Handshake { version: VERSION, digest, hostname, claim: Claim::read(system).ok().flatten() })
}

async fn write_events<W: AsyncWrite + Unpin>(mut output: W, mut queue: Receiver<(EventFrame, Vec<u8>)>) {
    while let Some((answer, payload)) = queue.recv().await {
        let written = async {
            frame::write(&mut output, &answer, &payload).await?;
            Ok::<_, anyhow::Error>(output.flush().await?)
        };
        if written.await.is_err() {
            return;
        }
    }
}

struct Server {
    system: System,
    out: Sender<(EventFrame, Vec<u8>)>,
    blobs: HashMap<u64, UnboundedSender<(ChunkKind, Vec<u8>)>>,
    calls: Arc<RunningCalls>,
}

/// The calls that are running, each with the token that ends it.
#[derive(Default)]
struct RunningCalls {
    stops: Mutex<HashMap<u64, CancellationToken>>,
    /// How many of them change the host: the agent does not end before they have.
    changes: watch::Sender<usize>,
}

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Change,
}

/// A running call, until it is dropped.
struct RunningCall {
    id: u64,
    access: Access,
    calls: Arc<RunningCalls>,
}

impl RunningCall {
    fn begin(id: u64, access: Access, calls: &Arc<RunningCalls>) -> (Self, CancellationToken) {
        let stop = CancellationToken::new();
        calls.stops().insert(id, stop.clone());
        calls.changes.send_modify(|count| *count += usize::from(access == Access::Change));
        (RunningCall { id, access, calls: calls.clone() }, stop)
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.calls.stops().remove(&self.id);
        self.calls.changes.send_modify(|count| *count -= usize::from(self.access == Access::Change));
    }
}

impl RunningCalls {
    fn stops(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self, id: u64) {
        self.stops().get(&id).into_iter().for_each(CancellationToken::cancel);
    }

    /// Cancels all calls, and waits until those that change the host have ended.
    async fn finish(&self) {
        self.stops().values().for_each(CancellationToken::cancel);
        let mut changes = self.changes.subscribe();
        timeout(FINISH_TIMEOUT, changes.wait_for(|&count| count == 0)).await.ok();
    }
}

/// Sends the events of one call.
#[derive(Clone)]
pub struct Responder {
    id: u64,
    out: Sender<(EventFrame, Vec<u8>)>,
}

impl Responder {
    async fn send(&self, event: Event, payload: Vec<u8>) {
        self.out.send((EventFrame { id: self.id, event }, payload)).await.ok(); // the client is gone: the agent exits soon
    }

    /// Sends an event from a thread that may block.
    fn send_blocking(&self, event: Event) {
        self.out.blocking_send((EventFrame { id: self.id, event }, Vec::new())).ok();
    }

    /// Sends a line of output.
    pub async fn line(&self, text: &str) {
        self.send(Event::Line(text.to_owned()), Vec::new()).await;
    }

    /// Reports that this many more bytes of a blob are written. Blocks.
    pub fn bytes_written(&self, bytes: u64) {
        self.send_blocking(Event::BytesWritten(bytes));
    }

    async fn finish<T: Serialize>(&self, result: Result<(T, Vec<u8>)>) {
        let response = result.and_then(|(value, payload)| Ok((serde_json::to_value(value)?, payload)));
        match response {
            Ok((value, payload)) => self.send(Event::Done(value), payload).await,
            Err(error) => self.send(Event::Failed(RemoteError::from(&error)), Vec::new()).await,
        }
    }
}

impl Server {
    fn responder(&self, id: u64) -> Responder {
        Responder { id, out: self.out.clone() }
    }

    async fn dispatch(&mut self, frame: RequestFrame, payload: Vec<u8>) {
        let RequestFrame { id, request, fence } = frame;
        match request {
            Request::Ping => self.responder(id).send(Event::Pong, Vec::new()).await,
            Request::Cancel => {
                self.calls.cancel(id);
                self.blobs.remove(&id);
            }
            Request::Facts(request) => {
                self.spawn_blocking_call(id, Access::Read, move |system, _| Ok((facts::gather(system, &request)?, Vec::new())))
            }
            Request::Check(resources) => {
                self.spawn_blocking_call(id, Access::Read, move |system, _| Ok((check(system, &resources), Vec::new())))
            }
            Request::Apply(resource) => self.spawn_blocking_call(id, Access::Change, move |system, line| {
                let changed = apply(system, &resource, fence.as_ref(), line).with_context(|| resource.title())?;
                Ok((changed, Vec::new()))
            }),
            Request::ApplyAnyway(resource) => self.spawn_blocking_call(id, Access::Change, move |system, line| {
                let title = resource.title();
                let mut apply = || {
                    let _change = begin(system, &title, fence.as_ref(), line)?;
                    Ledger::open(system)?.apply_anyway(&resource, line)
                };
                apply().with_context(|| title.clone())?;
                Ok((true, Vec::new()))
            }),
            Request::Applied => self.spawn_blocking_call(id, Access::Read, move |system, line| {
                if !system.path(UNDO_LEDGER).exists() {
                    return Ok((Vec::new(), Vec::new()));
                }
                change::wait_until_idle(system, line)?;
                Ok((Ledger::open(system)?.applied(), Vec::new()))
            }),
            Request::Revert(resource) => self.spawn_blocking_call(id, Access::Change, move |system, line| {
                let _change = Change { system, fence: fence.as_ref(), title: &resource }.begin(line)?;
                Ledger::open(system)?.revert(&resource, line)?;
                Ok((true, Vec::new()))
            }),
            Request::Undo => self.spawn_blocking_call(id, Access::Change, move |system, line| {
                let _change = Change { system, fence: fence.as_ref(), title: "reset" }.begin_removal(line)?;
                Ok((undo(system, line)?, Vec::new()))
            }),
            Request::Purge { keep_store } => self.spawn_blocking_call(id, Access::Change, move |system, line| {
                if !system.path(HOME).exists() {
                    return Ok(((), Vec::new()));
                }
                let _change = Change { system, fence: fence.as_ref(), title: "reset" }.begin_removal(line)?;
                Ok((purge(system, keep_store)?, Vec::new()))
            }),
            Request::ReadFile(path) => self.spawn_blocking_call(id, Access::Read, move |system, _| read_file(system, &path)),
            Request::MissingBlobs(blobs) => {
                self.spawn_blocking_call(id, Access::Read, move |system, _| Ok((missing(system, &blobs)?, Vec::new())))
            }
            Request::ReachableBlobs => {
                self.spawn_blocking_call(id, Access::Read, move |system, _| Ok((reachable_blobs(system)?, Vec::new())))
            }
            Request::Lease { holder, owner, request } => self.spawn_blocking_call(id, Access::Change, move |system, _| {
                Ok((Lease::request(&system.path(LEASE), &holder, &owner, &request)?, Vec::new()))
            }),
            Request::Exec(command) => {
                let responder = self.responder(id);
                self.spawn_call(id, Access::Change, move |system| async move {
                    // a command of a run that another has taken over is refused, too
                    if fence.is_some() {
                        Claim::admit(Claim::read(&system)?.as_ref(), fence.as_ref())?;
                    }
                    spawn::run(&system, &command, &responder).await
                });
            }
            Request::ReceiveBlob { blob, offset } => {
                let (sender, chunks) = mpsc::unbounded_channel();
                self.blobs.insert(id, sender);
                let responder = self.responder(id);
                self.spawn_blocking_call(id, Access::Change, move |system, _| {
                    Ok((receive_blob::receive(system, &blob, offset, chunks, &responder)?, Vec::new()))
                });
            }
            Request::Data(kind) => {
                let ended = self.blobs.get(&id).is_some_and(|blob| blob.send((kind, payload)).is_err()) || kind != ChunkKind::Middle;
                if ended {
                    self.blobs.remove(&id);
                }
            }
        }
    }

    /// Runs a call that blocks, in a thread.
    fn spawn_blocking_call<T, F>(&self, id: u64, access: Access, work: F)
    where
        T: Serialize + Send + 'static,
        F: FnOnce(&System, &mut dyn FnMut(&str)) -> Result<(T, Vec<u8>)> + Send + 'static,
    {
        let responder = self.responder(id);
        self.spawn_call(id, access, move |system| async move {
            tokio::task::spawn_blocking(move || work(&system, &mut |text| responder.send_blocking(Event::Line(text.to_owned())))).await?
        });
    }

    /// Runs a call; `work` gets the host with the token that ends the call.
    fn spawn_call<T, F>(&self, id: u64, access: Access, work: impl FnOnce(System) -> F)
    where
        T: Serialize + Send + 'static,
        F: Future<Output = Result<(T, Vec<u8>)>> + Send + 'static,
    {
        let (call, stop) = RunningCall::begin(id, access, &self.calls);
        let (responder, running) = (self.responder(id), work(self.system.clone().with_stop(stop)));
        tokio::spawn(async move {
            let result = running.await;
            drop(call);
            responder.finish(result).await;
        });
    }
}

/// Begins a change that claims the host for the cluster of the run.
fn begin(system: &System, title: &str, fence: Option<&Fence>, log: &mut dyn FnMut(&str)) -> Result<change::Admitted> {
    let change = Change { system, fence, title }.begin(log)?;
    change::ensure_installed(system)?;
    if change.claims_anew() {
        Ledger::begin(system)?; // first: a claim without a ledger says that the ledger is lost
    }
    change.claim(system)?;
    Ok(change)
}

fn apply(system: &System, resource: &Resource, fence: Option<&Fence>, log: &mut dyn FnMut(&str)) -> Result<bool> {
    let _change = begin(system, &resource.title(), fence, log)?;
    Ledger::open(system)?.apply(resource, log)
}

/// Undoes all changes, and returns how many there were.
///
/// # Errors
/// As [`Ledger::undo`]; of kind `Verification` if a cluster has claimed the host and its ledger is lost.
fn undo(system: &System, log: &mut dyn FnMut(&str)) -> Result<usize> {
    require_ledger(system)?;
    Ledger::open(system)?.undo(log)
}

/// Refuses to go on as if nothing had been changed where the ledger of a host that a cluster has claimed is lost or damaged.
fn require_ledger(system: &System) -> Result<()> {
    match Claim::read(system)?.and_then(|_| Ledger::problem(system)) {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

fn check(system: &System, resources: &[Resource]) -> Vec<Result<State, String>> {
    resources.iter().map(|resource| resource.reconciler().check(system).map_err(|error| format!("{error:#}"))).collect()
}

fn read_file(system: &System, path: &str) -> Result<(bool, Vec<u8>)> {
    // a FIFO would wait for somebody who writes to it
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = match std::fs::OpenOptions::new().read(true).custom_flags(flags).open(system.path(path)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((false, Vec::new())),
        file => file.with_context(|| path.to_owned())?,
    };
    let meta = file.metadata().with_context(|| path.to_owned())?;
    if !meta.is_file() {
        return Err(Failure::failed(format!("{path}: not a regular file")).hint("see what is there on the host: `ls -l`").into());
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content).with_context(|| path.to_owned())?;
    if content.len() as u64 > MAX_FILE {
        return Err(Failure::failed(format!("{path}: {} bytes (limit {MAX_FILE})", meta.len())).into());
    }
    Ok((true, content))
}

fn missing(system: &System, blobs: &[Blob]) -> Result<Vec<(Blob, u64)>> {
    let root = system.path(STORE);
    if !root.exists() {
        return Ok(blobs.iter().map(|blob| (*blob, 0)).collect());
    }
    let store = Store::open(&root)?;
    Ok(blobs.iter().filter(|blob| !store.has(blob)).map(|blob| (*blob, store.partial_size(blob))).collect())
}

fn reachable_blobs(system: &System) -> Result<Vec<Blob>> {
    let root = system.path(STORE);
    if root.exists() { Store::open(&root)?.blobs() } else { Ok(Vec::new()) }
}

/// Removes sealift's own files, the lock that is held meanwhile last. The undo ledger stays locked until it is removed.
///
/// # Errors
/// Fails if there are changes that are not undone, or if the ledger is lost: without it nothing can undo them.
fn purge(system: &System, keep_store: bool) -> Result<()> {
    let home = system.path(HOME);
    if !home.exists() {
        return Ok(());
    }
    require_ledger(system)?;
    let ledger = if system.path(UNDO_LEDGER).exists() { Some(Ledger::open(system)?) } else { None };
    if let Some(count) = ledger.as_ref().map(Ledger::pending).filter(|&count| count > 0) {
        return Err(Failure::failed(format!("changes that are not undone: {count}; sealift's files on the host stay"))
            .hint("undo them first: `sealift reset`")
            .into());
    }
    if !keep_store {
        // another command may be reading it: half a store is none, and an error
        let removed = Path::new(HOME).join(PURGED[0]);
        crate::resource::remove_all(system, &removed)?;
        std::fs::rename(system.path(STORE), system.path(removed)).ok(); // it may be a mount point
    }
    for name in PURGED.into_iter().filter(|name| !(keep_store && system.path(STORE).ends_with(name))) {
        let path = Path::new(HOME).join(name);
        // another command may be starting its agent in `bin`
        let mut result = crate::resource::remove_all(system, &path);
        for _ in 0..PURGE_ATTEMPTS {
            if result.is_err() {
                result = crate::resource::remove_all(system, &path);
            }
        }
        result?;
    }
    match std::fs::remove_dir(&home) {
        // what else is in it is the user's; it may be a mount point, or a link to another disk
        Err(error) if ![DirectoryNotEmpty, ResourceBusy, NotADirectory].contains(&error.kind()) => Err(error).context(HOME),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[&str]) -> (tempfile::TempDir, System) {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        for file in files {
            let full_path = system.path(HOME).join(file);
            std::fs::create_dir_all(full_path.parent().unwrap()).unwrap();
            std::fs::write(full_path, "x").unwrap();
        }
        (root, system)
    }

    fn remaining(system: &System, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(system.path(HOME).join(directory)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_waits() {
        let (root, system) = host(&["regular", "directory/x"]);
        let home = system.path(HOME);
        let fifo = std::process::Command::new("mkfifo").arg(home.join("fifo")).status().unwrap();
        assert!(fifo.success());
        std::os::unix::fs::symlink("fifo", home.join("link")).unwrap();
        std::fs::File::create(home.join("large")).unwrap().set_len(MAX_FILE + 1).unwrap();
        let (done, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _root = root;
            let read = |name: &&str| read_file(&system, &format!("{HOME}/{name}")).map_err(|error| format!("{error:#}"));
            done.send(["regular", "missing", "directory", "fifo", "link", "large"].iter().map(read).collect::<Vec<_>>()).ok();
        });
        let read = result.recv_timeout(Duration::from_secs(20)).expect("it waits for a writer");
        assert_eq!(read[..2], [Ok((true, b"x".to_vec())), Ok((false, Vec::new()))]);
        for result in &read[2..5] {
            assert!(result.as_ref().unwrap_err().contains("not a regular file"), "{result:?}");
        }
        assert!(read[5].as_ref().unwrap_err().contains("limit"), "{:?}", read[5]);
    }

    #[test]
    fn purge_removes_only_files_of_sealift() {
        for (files, keep_store, expected) in [
            (&["bin/x", "undo/saved/x", "store/x", ".removed/x", "data/x", "theirs"][..], false, &["data", "theirs"][..]),
            (&["bin/x", "store/x", "rootfs/x/y"], true, &["store"]),
            (&["clusters/.x/y", "kubeadm/begun", "stamps/x", "lease.json"], false, &[]),
        ] {
            let (_root, system) = host(files);
            for _ in 0..2 {
                purge(&system, keep_store).unwrap();
                assert_eq!(remaining(&system, ""), expected);
            }
            assert_eq!(system.path(HOME).exists(), !expected.is_empty());
        }
    }

    #[test]
    fn a_directory_of_sealift_that_is_a_link_is_emptied_and_stays() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        let disk = root.path().join("mnt/disk");
        std::fs::create_dir_all(&disk).unwrap();
        std::fs::create_dir_all(root.path().join("var/lib")).unwrap();
        std::os::unix::fs::symlink("../../mnt/disk", system.path(HOME)).unwrap();
        for file in ["bin/x", "rootfs/x/y", "store/x"] {
            std::fs::create_dir_all(disk.join(file).parent().unwrap()).unwrap();
            std::fs::write(disk.join(file), "x").unwrap();
        }
        for _ in 0..2 {
            purge(&system, false).unwrap();
            assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0);
            assert_eq!(std::fs::read_link(system.path(HOME)).unwrap(), Path::new("../../mnt/disk"));
        }
    }

    #[test]
    fn a_claimed_host_whose_ledger_is_lost_or_damaged_is_never_reset() {
        let begun = |system: &System| {
            let fence = Fence { cluster: "a".into(), number: Some(1) };
            let file = crate::resource::File::new("/etc/x", "new", 0o644);
            let permissions = crate::resource::FileMode::of_current_user(0o644);
            let file = crate::resource::File { permissions, ..file };
            apply(system, &Resource::File(file), Some(&fence), &mut |_| ()).unwrap();
        };
        type Damage = fn(&Path);
        let cases: [(&str, Damage, Option<&str>); 5] = [
            ("whole", |_| (), None),
            ("emptied", |ledger| std::fs::write(ledger, "").unwrap(), Some("undo ledger is empty")),
            ("removed", |ledger| std::fs::remove_file(ledger).unwrap(), Some("undo ledger is missing")),
            ("all removed", |ledger| std::fs::remove_dir_all(ledger.parent().unwrap()).unwrap(), Some("undo ledger is missing")),
            (
                "damaged",
                |ledger| {
                    let text = std::fs::read_to_string(ledger).unwrap().replace("{\"before\"", "{\"befoRe\"");
                    std::fs::write(ledger, text).unwrap();
                },
                Some("line 2 is damaged"),
            ),
        ];
        for (name, damage, expected) in cases {
            let (root, system) = host(&[]);
            begun(&system);
            damage(&system.path(UNDO_LEDGER));
            for result in [undo(&system, &mut |_| ()).map(drop), purge(&system, false)] {
                assert_eq!(result.is_ok(), expected.is_none(), "{name}");
                let Err(error) = result else { continue };
                assert!(error.to_string().contains(expected.unwrap()), "{name}: {error}");
                assert_eq!(crate::error::kind_of(&error), crate::error::Kind::Verification, "{name}");
                assert!(crate::error::hints_of(&error).last().unwrap().contains("run the same command again"), "{name}");
            }
            assert_eq!(root.path().join("etc/x").exists(), expected.is_some(), "{name}");
        }
    }

    #[test]
    fn a_host_that_was_claimed_and_not_changed_is_reset() {
        let (_root, system) = host(&[]);
        let fence = Fence { cluster: "a".into(), number: Some(1) };
        drop(begin(&system, "file", Some(&fence), &mut |_| ()).unwrap());
        for _ in 0..2 {
            assert_eq!(undo(&system, &mut |_| ()).unwrap(), 0);
        }
        purge(&system, false).unwrap();
        assert!(!system.path(HOME).exists());
    }

    #[test]
    fn purge_keeps_the_ledger_of_changes_that_are_not_undone() {
        let (root, system) = host(&["store/x"]);
        let file = crate::resource::File {
            permissions: crate::resource::FileMode::of_current_user(0o644),
            ..crate::resource::File::new("/etc/x", "x", 0o644)
        };
        Ledger::open(&system).unwrap().apply(&Resource::File(file), &mut |_| ()).unwrap();
        let error = purge(&system, false).unwrap_err().to_string();
        assert!(error.contains("not undone: 1;") && system.path(UNDO_LEDGER).exists(), "{error}");
        assert_eq!(remaining(&system, ""), ["store", "undo"]);
        Ledger::open(&system).unwrap().undo(&mut |_| ()).unwrap();
        purge(&system, false).unwrap();
        assert!(!system.path(HOME).exists() && !root.path().join("etc").exists());
    }
}
