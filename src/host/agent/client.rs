//! The client of the agent's protocol: calls over one stream, many in parallel.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::frame::{self, Silence};
use super::protocol::{Event, EventFrame, Handshake, Request, RequestFrame, VERSION};
use crate::error::Failure;
use crate::events::Context;
use crate::host::Fence;

/// How often a ping is sent.
const HEARTBEAT: Duration = Duration::from_secs(4);
/// A peer that sends nothing for this long is silent: the user is told.
pub const SILENCE_NOTICE: Duration = Duration::from_secs(10);
/// A peer that sends nothing for this long counts as gone.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for the first frame: over a slow line the end of the uploaded agent may still be on its way.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(120);

type EventMessage = (Event, Vec<u8>);
type RequestMessage = (RequestFrame, Vec<u8>);

/// A connection to an agent.
pub struct Client {
    out: mpsc::Sender<RequestMessage>,
    /// Calls to cancel: apart, so that this never waits.
    cancels: UnboundedSender<u64>,
    calls: Arc<PendingCalls>,
    next: AtomicU64,
    fence: Mutex<Option<Fence>>,
}

/// The calls whose result is outstanding.
#[derive(Default)]
struct PendingCalls {
    open: Mutex<HashMap<u64, UnboundedSender<EventMessage>>>,
    disconnect_reason: Mutex<Option<String>>,
    disconnected: CancellationToken,
}

impl Client {
    /// Waits for the agent's handshake, then serves the connection in the background. `peer` is the host, for messages about its
    /// silence.
    ///
    /// # Errors
    /// Fails if the agent exits, sends something else first or nothing, or has another protocol version.
    pub async fn start<R, W>(mut input: R, output: W, peer: &str, ctx: &Context) -> Result<(Client, Handshake)>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let watch = Watch { peer: peer.to_owned(), ctx: ctx.clone(), silent: AtomicBool::new(false) };
        let tell = |silent| watch.tell(silent);
        let silence = Silence { limit: HANDSHAKE_TIMEOUT, ..watch.silence(&tell) };
        let first = frame::read(&mut input, &silence).await?;
        let handshake = match first.context("the agent exited before its handshake")? {
            (EventFrame { event: Event::Handshake(handshake), .. }, _) if handshake.version == VERSION => handshake,
            (EventFrame { event: Event::Handshake(handshake), .. }, _) => {
                return Err(Failure::failed(format!("the agent speaks protocol version {}, this sealift {VERSION}", handshake.version))
                    .hint("run the command again: it uploads its own agent to the host")
                    .into());
            }
            _ => {
                return Err(Failure::failed("the agent did not send its handshake")
                    .hint("check that the login shell of the user on the host prints nothing after it started the agent")
                    .into());
            }
        };
        let (out, queue) = mpsc::channel(4);
        let (cancels, cancelled) = mpsc::unbounded_channel();
        let calls = Arc::new(PendingCalls::default());
        tokio::spawn(read_events(input, calls.clone(), watch));
        tokio::spawn(write_requests(output, queue, cancelled, calls.clone()));
        Ok((Client { out, cancels, calls, next: AtomicU64::new(1), fence: Mutex::new(None) }, handshake))
    }

    /// Sets what every further request shows.
    pub fn set_fence(&self, fence: Fence) {
        *self.fence.lock().unwrap_or_else(PoisonError::into_inner) = Some(fence);
    }

    /// Sends a request, and returns the call to wait for.
    pub async fn call(&self, request: Request) -> Result<Call<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::unbounded_channel();
        self.calls.open().insert(id, sender);
        let call = Call { client: self, id, events, ended: false };
        call.send(request, Vec::new()).await?;
        Ok(call)
    }

    /// Sends a request and waits for its result.
    pub async fn request<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        Ok(self.call(request).await?.wait(|_| ()).await?.0)
    }
}

/// A running call. Dropping it before its end cancels it: the agent leaves it at the next safe point.
pub struct Call<'a> {
    client: &'a Client,
    id: u64,
    events: UnboundedReceiver<EventMessage>,
    ended: bool,
}

impl Call<'_> {
    /// Sends a further request of this call, with a payload.
    pub async fn send(&self, request: Request, payload: Vec<u8>) -> Result<()> {
        let fence = self.client.fence.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let message = self.client.out.send((RequestFrame { id: self.id, request, fence }, payload)).await;
        message.map_err(|_| self.client.calls.connection_lost().into())
    }

    /// Asks the agent to end this call at the next safe point; its result is still to be waited for.
    pub fn cancel(&self) {
        self.client.cancels.send(self.id).ok(); // without a connection the agent does so by itself
    }

    /// Waits for the next event of this call. May be dropped and called again.
    ///
    /// # Errors
    /// [`Event::Failed`] is an error with the agent's kind and hints; a lost connection is one of kind `Network`.
    pub async fn next(&mut self) -> Result<EventMessage> {
        // events that arrived before the connection was lost are still delivered
        if self.client.calls.is_disconnected() {
            self.events.close();
        }
        let message = self.events.recv().await;
        self.ended |= matches!(message, None | Some((Event::Failed(_) | Event::Done(_), _)));
        match message {
            Some((Event::Failed(message), _)) => Err(Failure::from(message).into()),
            Some(message) => Ok(message),
            None => Err(self.client.calls.connection_lost().into()),
        }
    }

    /// Waits for the end, logs lines of output, and returns the result and the payload. May be dropped and called again.
    pub async fn wait<T: DeserializeOwned>(&mut self, mut log: impl FnMut(&str)) -> Result<(T, Vec<u8>)> {
        loop {
            match self.next().await? {
                (Event::Line(text), _) => log(&text),
                (Event::Done(value), payload) => return Ok((serde_json::from_value(value).context("result of the agent")?, payload)),
                _ => {}
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.client.calls.open().remove(&self.id);
        if !self.ended {
            self.cancel();
        }
    }
}

impl PendingCalls {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, UnboundedSender<EventMessage>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disconnect_reason(&self) -> MutexGuard<'_, Option<String>> {
        self.disconnect_reason.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_disconnected(&self) -> bool {
        self.disconnect_reason().is_some()
    }

    fn mark_disconnected(&self, reason: String) {
        self.disconnect_reason().get_or_insert(reason);
        self.disconnected.cancel();
        self.open().clear();
    }

    fn connection_lost(&self) -> Failure {
        let reason = self.disconnect_reason().clone().unwrap_or_else(|| "the connection was closed".into());
        Failure::network(format!("connection lost: {reason}")).hint("run the same command again to resume")
    }
}

/// Tells the user when a host is silent.
struct Watch {
    peer: String,
    ctx: Context,
    silent: AtomicBool,
}

impl Watch {
    fn silence<'a>(&'a self, notice: &'a (dyn Fn(bool) + Sync)) -> Silence<'a> {
        Silence { peer: &self.peer, noticed_after: SILENCE_NOTICE, limit: SILENCE_TIMEOUT, notice }
    }

    fn tell(&self, silent: bool) {
        self.silent.store(silent, Ordering::Relaxed);
        match silent {
            true => self.ctx.warn(format!("no answer from {} for {} s", self.peer, SILENCE_NOTICE.as_secs())),
            false => self.ctx.note(format!("{} answers again", self.peer)),
        }
    }
}

async fn read_events<R: AsyncRead + Unpin>(mut input: R, calls: Arc<PendingCalls>, watch: Watch) {
    let tell = |silent| watch.tell(silent);
    let silence = watch.silence(&tell);
    let reason = loop {
        match frame::read::<_, EventFrame>(&mut input, &silence).await {
            Ok(Some((answer, payload))) => {
                if let Some(call) = calls.open().get(&answer.id) {
                    call.send((answer.event, payload)).ok();
                }
            }
            Ok(None) if watch.silent.load(Ordering::Relaxed) => break format!("no answer from {}", watch.peer),
            Ok(None) => break "the agent exited".into(),
            Err(error) => break format!("{error:#}"),
        }
    };
    calls.mark_disconnected(reason);
}

async fn write_requests<W: AsyncWrite + Unpin>(
    mut output: W,
    mut queue: mpsc::Receiver<RequestMessage>,
    mut cancels: UnboundedReceiver<u64>,
    calls: Arc<PendingCalls>,
) {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let of_connection = |id, request| (RequestFrame { id, request, fence: None }, Vec::new());
    loop {
        let (mut messages, last) = tokio::select! {
            message = queue.recv() => match message {
                Some(message) => (vec![message], None),
                None => break,
            },
            Some(id) = cancels.recv() => (Vec::new(), Some(of_connection(id, Request::Cancel))),
            () = calls.disconnected.cancelled() => return,
            _ = heartbeat.tick() => (Vec::new(), Some(of_connection(0, Request::Ping))),
        };
        // a cancel must not overtake its request, which was queued before
        if let Some(last) = last {
            messages.extend(std::iter::from_fn(|| queue.try_recv().ok()));
            messages.push(last);
        }
        let written = async {
            for (request, payload) in &messages {
                frame::write(&mut output, request, payload).await?;
            }
            Ok::<_, anyhow::Error>(output.flush().await?)
        };
        // a write to a channel whose peer is gone may block for ever
        let result = tokio::select! {
            result = written => result,
            () = calls.disconnected.cancelled() => return,
        };
        if let Err(error) = result {
            calls.mark_disconnected(format!("{error:#}"));
            return;
        }
    }
    output.shutdown().await.ok();
}
