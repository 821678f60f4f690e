//! The client of the agent's protocol: calls over one stream, many in parallel.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::frame;
use super::protocol::{Event, EventFrame, Handshake, Request, RequestFrame, VERSION};
use crate::error::Failure;

/// How often a ping is sent.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A peer that sends nothing for this long counts as gone.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

type EventMessage = (Event, Vec<u8>);
type RequestMessage = (RequestFrame, Vec<u8>);

/// A connection to an agent.
pub struct Client {
    out: mpsc::Sender<RequestMessage>,
    calls: Arc<PendingCalls>,
    next: AtomicU64,
}

/// The calls whose result is outstanding.
#[derive(Default)]
struct PendingCalls {
    open: Mutex<HashMap<u64, UnboundedSender<EventMessage>>>,
    disconnect_reason: Mutex<Option<String>>,
    disconnected: CancellationToken,
}

impl Client {
    /// Waits for the agent's handshake, then serves the connection in the background.
    ///
    /// # Errors
    /// Fails if the agent exits, sends something else first, or has another protocol version.
    pub async fn start<R, W>(mut input: R, output: W) -> Result<(Client, Handshake)>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = match frame::read(&mut input).await?.context("the agent exited before its handshake")? {
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
        let calls = Arc::new(PendingCalls::default());
        tokio::spawn(read_events(input, calls.clone()));
        tokio::spawn(write_requests(output, queue, calls.clone()));
        Ok((Client { out, calls, next: AtomicU64::new(1) }, handshake))
    }

    /// Sends a request, and returns the call to wait for.
    pub async fn call(&self, request: Request) -> Result<Call<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, events) = mpsc::unbounded_channel();
        self.calls.open().insert(id, sender);
        let call = Call { client: self, id, events };
        call.send(request, Vec::new()).await?;
        Ok(call)
    }

    /// Sends a request and waits for its result.
    pub async fn request<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        Ok(self.call(request).await?.wait(|_| ()).await?.0)
    }
}

/// A running call. Dropping it ignores further events; the agent still finishes it.
pub struct Call<'a> {
    client: &'a Client,
    id: u64,
    events: UnboundedReceiver<EventMessage>,
}

impl Call<'_> {
    /// Sends a further request of this call, with a payload.
    pub async fn send(&self, request: Request, payload: Vec<u8>) -> Result<()> {
        let message = self.client.out.send((RequestFrame { id: self.id, request }, payload)).await;
        message.map_err(|_| self.client.calls.connection_lost().into())
    }

    /// Waits for the next event of this call.
    ///
    /// # Errors
    /// [`Event::Failed`] is an error with the agent's kind and hints; a lost connection is one of kind `Network`.
    pub async fn next(&mut self) -> Result<EventMessage> {
        // events that arrived before the connection was lost are still delivered
        if self.client.calls.is_disconnected() {
            self.events.close();
        }
        match self.events.recv().await {
            Some((Event::Failed(message), _)) => Err(Failure::from(message).into()),
            Some(message) => Ok(message),
            None => Err(self.client.calls.connection_lost().into()),
        }
    }

    /// Waits for the end, logs lines of output, and returns the result and the payload.
    pub async fn wait<T: DeserializeOwned>(mut self, mut log: impl FnMut(&str)) -> Result<(T, Vec<u8>)> {
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

async fn read_events<R: AsyncRead + Unpin>(mut input: R, calls: Arc<PendingCalls>) {
    let reason = loop {
        match timeout(SILENCE_TIMEOUT, frame::read::<_, EventFrame>(&mut input)).await {
            Ok(Ok(Some((answer, payload)))) => {
                if let Some(call) = calls.open().get(&answer.id) {
                    call.send((answer.event, payload)).ok();
                }
            }
            Ok(Ok(None)) => break "the agent exited".into(),
            Ok(Err(error)) => break format!("{error:#}"),
            Err(_) => break format!("no answer from the agent for {} s", SILENCE_TIMEOUT.as_secs()),
        }
    };
    calls.mark_disconnected(reason);
}

async fn write_requests<W: AsyncWrite + Unpin>(mut output: W, mut queue: mpsc::Receiver<RequestMessage>, calls: Arc<PendingCalls>) {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (request, payload) = tokio::select! {
            message = queue.recv() => match message {
                Some(message) => message,
                None => break,
            },
            () = calls.disconnected.cancelled() => return,
            _ = heartbeat.tick() => (RequestFrame { id: 0, request: Request::Ping }, Vec::new()),
        };
        let written = async {
            frame::write(&mut output, &request, &payload).await?;
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
