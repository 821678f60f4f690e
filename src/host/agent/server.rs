//! The agent's end: carries out what the runner asks, many things at once, until the stream ends.

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
use super::client::SILENCE;
use super::protocol::{Chunk, Event, EventFrame, Handshake, RemoteError, Request, RequestFrame, VERSION};
use super::{frame, receive_blob, spawn};
use crate::error::Failure;
use crate::host::facts;
use crate::image::{Blob, Digest};
use crate::paths::{HOME, STORE};
use crate::resource::{Ledger, Resource, State, System};
use crate::store::Store;

/// Files that are read as a whole are no longer, in bytes.
const LONGEST_FILE: u64 = 4 << 20;
/// So many answers wait to be sent; who has more to say waits for the runner to listen.
const QUEUE: usize = 64;
/// What sealift makes in its directory; all else there is the user's (`dataRoot` may be).
const OURS: [&str; 10] = ["bin", "clusters", "kubeadm", "lease.json", "lease.lock", "registry", "rootfs", "stamps", "store", "undo"];

/// Serves a runner until its stream ends or it says nothing for a minute.
pub async fn serve<R, W>(mut input: R, output: W, system: System, hello: Handshake) -> Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let (out, queue) = mpsc::channel(QUEUE);
    tokio::spawn(speak(output, queue));
    let mut agent = Agent { system: Arc::new(system), out, blobs: HashMap::new() };
    agent.speaker(0).say(Event::Hello(hello), Vec::new()).await;
    loop {
        match timeout(SILENCE, frame::read::<_, RequestFrame>(&mut input)).await {
            Ok(Ok(Some((request, payload)))) => agent.take(request, payload).await,
            Ok(Ok(None)) => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Err(Failure::network("the runner says nothing").into()),
        }
    }
}

/// Who this agent is.
pub fn hello() -> Result<Handshake> {
    let digest = blob_of(Path::new("/proc/self/exe"))?.digest;
    Ok(Handshake { version: VERSION, digest, hostname: rustix::system::uname().nodename().to_string_lossy().into_owned() })
}

async fn speak<W: AsyncWrite + Unpin>(mut output: W, mut queue: Receiver<(EventFrame, Vec<u8>)>) {
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

struct Agent {
    system: Arc<System>,
    out: Sender<(EventFrame, Vec<u8>)>,
    blobs: HashMap<u64, UnboundedSender<(Chunk, Vec<u8>)>>,
}

/// Tells things about one call.
#[derive(Clone)]
pub struct Responder {
    id: u64,
    out: Sender<(EventFrame, Vec<u8>)>,
}

impl Responder {
    async fn say(&self, tell: Event, payload: Vec<u8>) {
        self.out.send((EventFrame { id: self.id, event: tell }, payload)).await.ok(); // nobody hears it: the agent ends
    }

    /// Tells something from a thread that may block.
    fn say_blocking(&self, tell: Event) {
        self.out.blocking_send((EventFrame { id: self.id, event: tell }, Vec::new())).ok();
    }

    /// Tells a line of output.
    pub async fn line(&self, text: &str) {
        self.say(Event::Line(text.to_owned()), Vec::new()).await;
    }

    /// Tells that bytes of a blob are written. Blocks.
    pub fn took(&self, bytes: u64) {
        self.say_blocking(Event::Took(bytes));
    }

    async fn end<T: Serialize>(&self, result: Result<(T, Vec<u8>)>) {
        let told = result.and_then(|(value, payload)| Ok((serde_json::to_value(value)?, payload)));
        match told {
            Ok((value, payload)) => self.say(Event::Done(value), payload).await,
            Err(error) => self.say(Event::Failed(RemoteError::from(&error)), Vec::new()).await,
        }
    }
}

impl Agent {
    fn speaker(&self, id: u64) -> Responder {
        Responder { id, out: self.out.clone() }
    }

    async fn take(&mut self, request: RequestFrame, payload: Vec<u8>) {
        let (id, system) = (request.id, self.system.clone());
        let speaker = self.speaker(id);
        match request.request {
            Request::Ping => speaker.say(Event::Pong, Vec::new()).await,
            Request::Facts(request) => self.block(id, move |_| Ok((facts::gather(&system, &request)?, Vec::new()))),
            Request::Check(resources) => self.block(id, move |_| Ok((check(&system, &resources), Vec::new()))),
            Request::Apply(resource) => self.block(id, move |line| {
                let changed = Ledger::open(&system).and_then(|mut ledger| ledger.apply(&resource, line));
                Ok((changed.with_context(|| resource.title())?, Vec::new()))
            }),
            Request::Undo => self.block(id, move |line| Ok((Ledger::open(&system)?.undo(line)?, Vec::new()))),
            Request::Forget { keep_store } => self.block(id, move |_| Ok((purge(&system, keep_store)?, Vec::new()))),
            Request::ReadFile(path) => self.block(id, move |_| read_file(&system, &path)),
            Request::Missing(blobs) => self.block(id, move |_| Ok((missing(&system, &blobs)?, Vec::new()))),
            Request::Held => self.block(id, move |_| Ok((reachable_blobs(&system)?, Vec::new()))),
            Request::Exec(command) => self.run(id, async move { spawn::run(&system, &command, &speaker).await }),
            Request::Receive { blob, offset } => {
                let (sender, pieces) = mpsc::unbounded_channel();
                self.blobs.insert(id, sender);
                self.block(id, move |_| Ok((receive_blob::receive(&system, &blob, offset, pieces, &speaker)?, Vec::new())));
            }
            Request::Data(piece) => {
                let ended = self.blobs.get(&id).is_some_and(|blob| blob.send((piece, payload)).is_err()) || piece != Chunk::Middle;
                if ended {
                    self.blobs.remove(&id);
                }
            }
        }
    }

    /// Does work that blocks, in a thread.
    fn block<T, F>(&self, id: u64, work: F)
    where
        T: Serialize + Send + 'static,
        F: FnOnce(&mut dyn FnMut(&str)) -> Result<(T, Vec<u8>)> + Send + 'static,
    {
        let speaker = self.speaker(id);
        self.run(id, async move {
            tokio::task::spawn_blocking(move || work(&mut |text| speaker.say_blocking(Event::Line(text.to_owned())))).await?
        });
    }

    fn run<T: Serialize + Send + 'static>(&self, id: u64, work: impl Future<Output = Result<(T, Vec<u8>)>> + Send + 'static) {
        let speaker = self.speaker(id);
        tokio::spawn(async move { speaker.end(work.await).await });
    }
}

fn check(system: &System, resources: &[Resource]) -> Vec<Result<State, String>> {
    resources.iter().map(|resource| resource.reconciler().check(system).map_err(|error| format!("{error:#}"))).collect()
}

fn read_file(system: &System, path: &str) -> Result<(bool, Vec<u8>)> {
    let place = system.path(path);
    match fs_err::metadata(&place) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((false, Vec::new())),
        Err(error) => Err(error.into()),
        Ok(meta) if meta.len() > LONGEST_FILE => Err(Failure::failed(format!("{path}: larger than {LONGEST_FILE} bytes")).into()),
        Ok(_) => Ok((true, fs_err::read(&place)?)),
    }
}

fn missing(system: &System, blobs: &[Blob]) -> Result<Vec<(Blob, u64)>> {
    let root = system.path(STORE);
    if !root.exists() {
        return Ok(blobs.iter().map(|blob| (*blob, 0)).collect());
    }
    let store = Store::open(&root)?;
    Ok(blobs.iter().filter(|blob| !store.has(blob)).map(|blob| (*blob, store.arrived(blob))).collect())
}

fn reachable_blobs(system: &System) -> Result<Vec<Blob>> {
    let root = system.path(STORE);
    if root.exists() { Store::open(&root)?.blobs() } else { Ok(Vec::new()) }
}

fn purge(system: &System, keep_store: bool) -> Result<()> {
    let home = system.path(HOME);
    if !home.exists() {
        return Ok(());
    }
    for name in OURS.into_iter().filter(|name| !(keep_store && system.path(STORE).ends_with(name))) {
        crate::resource::remove(system, &Path::new(HOME).join(name))?;
    }
    match std::fs::remove_dir(&home) {
        // what else is in it is not ours; it may be a mount point
        Err(error) if ![ErrorKind::DirectoryNotEmpty, ErrorKind::ResourceBusy].contains(&error.kind()) => Err(error).context(HOME),
        _ => Ok(()),
    }
}

/// Points `/var/lib/sealift/bin/sealift` at this executable, for units, and removes older ones.
pub fn activate(system: &System, digest: &Digest) -> Result<()> {
    let own = format!("sealift-{}", digest.short());
    let bin = system.path(HOME).join("bin");
    if !bin.join(&own).exists() {
        return Ok(()); // started by hand
    }
    let link = bin.join("sealift");
    if std::fs::read_link(&link).ok().as_deref() != Some(Path::new(&own)) {
        let new: PathBuf = bin.join(format!(".new-{}", std::process::id()));
        std::os::unix::fs::symlink(&own, &new).context("link of the agent")?;
        fs_err::rename(&new, &link)?;
    }
    // uploads under way are named `.new-…`
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
            let place = system.path(HOME).join(file);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::write(place, "x").unwrap();
        }
        (root, system)
    }

    fn left(system: &System, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(system.path(HOME).join(directory)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn only_what_is_ours_is_forgotten() {
        for (files, keep_store, expected) in [
            (&["bin/x", "undo/saved/x", "store/x", "data/x", "theirs"][..], false, &["data", "theirs"][..]),
            (&["bin/x", "store/x", "rootfs/x/y"], true, &["store"]),
            (&["clusters/x", "kubeadm/begun", "stamps/x", "lease.json"], false, &[]),
        ] {
            let (_root, system) = host(files);
            for _ in 0..2 {
                purge(&system, keep_store).unwrap();
                assert_eq!(left(&system, ""), expected);
            }
            assert_eq!(system.path(HOME).exists(), !expected.is_empty());
        }
    }

    #[test]
    fn uploads_of_other_runners_are_left_alone_and_old_agents_go() {
        let digest = Digest::of(b"agent");
        let own = format!("sealift-{}", digest.short());
        let (_root, system) = host(&[&format!("bin/{own}"), "bin/sealift-old", "bin/.new-other.77"]);
        activate(&system, &digest).unwrap();
        assert_eq!(left(&system, "bin"), [".new-other.77", "sealift", own.as_str()]);
    }
}
