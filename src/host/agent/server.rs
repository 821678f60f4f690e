//! The server of the agent's protocol: carries out requests, many in parallel, until the stream ends.

use std::collections::HashMap;
use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedSender};
use tokio::time::timeout;

use super::binaries::blob_of;
use super::client::SILENCE_TIMEOUT;
use super::protocol::{ChunkKind, Event, EventFrame, Handshake, RemoteError, Request, RequestFrame, VERSION};
use super::{frame, receive_blob, spawn};
use crate::error::Failure;
use crate::host::facts;
use crate::image::{Blob, Digest};
use crate::paths::{HOME, STORE, UNDO_LEDGER};
use crate::resource::{Ledger, Resource, State, System};
use crate::store::Store;

/// The limit of a file that is read as a whole, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// How many events may wait to be sent; then their senders wait.
const EVENT_QUEUE: usize = 64;
/// What sealift creates in its directory, and purge removes; everything else there is the user's (such as `dataRoot`).
const PURGED: [&str; 10] = ["bin", "clusters", "kubeadm", "lease.json", "lease.lock", "registry", "rootfs", "stamps", "store", "undo"];

/// Serves a client until its stream ends.
///
/// # Errors
/// Of kind `Network` if it sends nothing, not even a ping, for a minute.
pub async fn serve<R, W>(mut input: R, output: W, system: System, handshake: Handshake) -> Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (out, queue) = mpsc::channel(EVENT_QUEUE);
    tokio::spawn(write_events(output, queue));
    let mut server = Server { system: Arc::new(system), out, blobs: HashMap::new() };
    server.responder(0).send(Event::Handshake(handshake), Vec::new()).await;
    loop {
        match timeout(SILENCE_TIMEOUT, frame::read::<_, RequestFrame>(&mut input)).await {
            Ok(Ok(Some((request, payload)))) => server.dispatch(request, payload).await,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Failure::network(format!("no ping from the client for {} s", SILENCE_TIMEOUT.as_secs())).into()),
        }
    }
}

/// Builds this agent's handshake; hashes the executable.
pub fn handshake() -> Result<Handshake> {
    let digest = blob_of(Path::new("/proc/self/exe"))?.digest;
    Ok(Handshake { version: VERSION, digest, hostname: rustix::system::uname().nodename().to_string_lossy().into_owned() })
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
    system: Arc<System>,
    out: Sender<(EventFrame, Vec<u8>)>,
    blobs: HashMap<u64, UnboundedSender<(ChunkKind, Vec<u8>)>>,
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

    async fn dispatch(&mut self, request: RequestFrame, payload: Vec<u8>) {
        let (id, system) = (request.id, self.system.clone());
        let responder = self.responder(id);
        match request.request {
            Request::Ping => responder.send(Event::Pong, Vec::new()).await,
            Request::Facts(request) => self.spawn_blocking_call(id, move |_| Ok((facts::gather(&system, &request)?, Vec::new()))),
            Request::Check(resources) => self.spawn_blocking_call(id, move |_| Ok((check(&system, &resources), Vec::new()))),
            Request::Apply(resource) => self.spawn_blocking_call(id, move |line| {
                let changed = Ledger::open(&system).and_then(|mut ledger| ledger.apply(&resource, line));
                Ok((changed.with_context(|| resource.title())?, Vec::new()))
            }),
            Request::ApplyAnyway(resource) => self.spawn_blocking_call(id, move |line| {
                let applied = Ledger::open(&system).and_then(|mut ledger| ledger.apply_anyway(&resource, line));
                Ok((applied.map(|()| true).with_context(|| resource.title())?, Vec::new()))
            }),
            Request::Undo => self.spawn_blocking_call(id, move |line| Ok((Ledger::open(&system)?.undo(line)?, Vec::new()))),
            Request::Applied => self.spawn_blocking_call(id, move |_| Ok((Ledger::open(&system)?.applied(), Vec::new()))),
            Request::Revert(resource) => self.spawn_blocking_call(id, move |line| {
                let reverted = Ledger::open(&system).and_then(|mut ledger| ledger.revert(&resource, line));
                Ok((reverted.map(|()| true)?, Vec::new()))
            }),
            Request::Purge { keep_store } => self.spawn_blocking_call(id, move |_| Ok((purge(&system, keep_store)?, Vec::new()))),
            Request::ReadFile(path) => self.spawn_blocking_call(id, move |_| read_file(&system, &path)),
            Request::MissingBlobs(blobs) => self.spawn_blocking_call(id, move |_| Ok((missing(&system, &blobs)?, Vec::new()))),
            Request::ReachableBlobs => self.spawn_blocking_call(id, move |_| Ok((reachable_blobs(&system)?, Vec::new()))),
            Request::Exec(command) => self.spawn_call(id, async move { spawn::run(&system, &command, &responder).await }),
            Request::ReceiveBlob { blob, offset } => {
                let (sender, chunks) = mpsc::unbounded_channel();
                self.blobs.insert(id, sender);
                self.spawn_blocking_call(id, move |_| Ok((receive_blob::receive(&system, &blob, offset, chunks, &responder)?, Vec::new())));
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
    fn spawn_blocking_call<T, F>(&self, id: u64, work: F)
    where
        T: Serialize + Send + 'static,
        F: FnOnce(&mut dyn FnMut(&str)) -> Result<(T, Vec<u8>)> + Send + 'static,
    {
        let responder = self.responder(id);
        self.spawn_call(id, async move {
            tokio::task::spawn_blocking(move || work(&mut |text| responder.send_blocking(Event::Line(text.to_owned())))).await?
        });
    }

    fn spawn_call<T: Serialize + Send + 'static>(&self, id: u64, work: impl Future<Output = Result<(T, Vec<u8>)>> + Send + 'static) {
        let responder = self.responder(id);
        tokio::spawn(async move { responder.finish(work.await).await });
    }
}

fn check(system: &System, resources: &[Resource]) -> Vec<Result<State, String>> {
    resources.iter().map(|resource| resource.reconciler().check(system).map_err(|error| format!("{error:#}"))).collect()
}

fn read_file(system: &System, path: &str) -> Result<(bool, Vec<u8>)> {
    let full_path = system.path(path);
    match fs_err::metadata(&full_path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((false, Vec::new())),
        Err(error) => Err(error.into()),
        Ok(meta) if meta.len() > MAX_FILE => Err(Failure::failed(format!("{path}: {} bytes (limit {MAX_FILE})", meta.len())).into()),
        Ok(_) => Ok((true, fs_err::read(&full_path)?)),
    }
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

/// Removes sealift's own files. The undo ledger stays locked until it is removed.
///
/// # Errors
/// Fails if there are changes that are not undone: without the ledger nothing could undo them.
fn purge(system: &System, keep_store: bool) -> Result<()> {
    let home = system.path(HOME);
    if !home.exists() {
        return Ok(());
    }
    let ledger = if system.path(UNDO_LEDGER).exists() { Some(Ledger::open(system)?) } else { None };
    if let Some(count) = ledger.as_ref().map(Ledger::pending).filter(|&count| count > 0) {
        return Err(Failure::failed(format!("changes that are not undone: {count}; sealift's files on the host stay"))
            .hint("undo them first: `sealift reset`")
            .into());
    }
    for name in PURGED.into_iter().filter(|name| !(keep_store && system.path(STORE).ends_with(name))) {
        crate::resource::remove_all(system, &Path::new(HOME).join(name))?;
    }
    match std::fs::remove_dir(&home) {
        // what else is in it is the user's; it may be a mount point
        Err(error) if ![ErrorKind::DirectoryNotEmpty, ErrorKind::ResourceBusy].contains(&error.kind()) => Err(error).context(HOME),
        _ => Ok(()),
    }
}

/// Links `/var/lib/sealift/bin/sealift`, which systemd units run, to this executable, and removes older ones.
pub fn activate(system: &System, digest: &Digest) -> Result<()> {
    let own = format!("sealift-{}", digest.short());
    let bin = system.path(HOME).join("bin");
    if !bin.join(&own).exists() {
        return Ok(()); // started manually
    }
    let link = bin.join("sealift");
    if std::fs::read_link(&link).ok().as_deref() != Some(Path::new(&own)) {
        let new: PathBuf = bin.join(format!(".new-{}", std::process::id()));
        std::os::unix::fs::symlink(&own, &new).with_context(|| format!("symlink {}", new.display()))?;
        fs_err::rename(&new, &link)?;
    }
    // running uploads are named `.new-…`
    for entry in fs_err::read_dir(&bin)? {
        let name = entry?.file_name();
        if name.to_string_lossy().starts_with("sealift-") && name != own.as_str() {
            fs_err::remove_file(bin.join(name))?;
        }
    }
    Ok(())
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
    fn purge_removes_only_files_of_sealift() {
        for (files, keep_store, expected) in [
            (&["bin/x", "undo/saved/x", "store/x", "data/x", "theirs"][..], false, &["data", "theirs"][..]),
            (&["bin/x", "store/x", "rootfs/x/y"], true, &["store"]),
            (&["clusters/x", "kubeadm/begun", "stamps/x", "lease.json"], false, &[]),
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

    #[test]
    fn running_uploads_stay_and_old_agents_are_removed() {
        let digest = Digest::of(b"agent");
        let own = format!("sealift-{}", digest.short());
        let (_root, system) = host(&[&format!("bin/{own}"), "bin/sealift-old", "bin/.new-other.77"]);
        activate(&system, &digest).unwrap();
        assert_eq!(remaining(&system, "bin"), [".new-other.77", "sealift", own.as_str()]);
    }
}
