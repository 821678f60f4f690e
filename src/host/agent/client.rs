//! The runner's end: calls over one stream, many at once.

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

/// The agent is asked this often whether it is there.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// An agent that says nothing for this long is lost.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

type Told = (Event, Vec<u8>);
type Sent = (RequestFrame, Vec<u8>);

/// A stream to an agent.
pub struct Client {
    out: mpsc::Sender<Sent>,
    calls: Arc<Calls>,
    next: AtomicU64,
}

/// The calls that wait for answers.
#[derive(Default)]
struct Calls {
    open: Mutex<HashMap<u64, UnboundedSender<Told>>>,
    lost: Mutex<Option<String>>,
    gone: CancellationToken,
}

impl Client {
    /// Waits for the agent's hello and keeps the stream going from there on.
    pub async fn start<R, W>(mut input: R, output: W) -> Result<(Client, Handshake)>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let hello = match frame::read(&mut input).await?.context("the agent ended")? {
            (EventFrame { event: Event::Hello(hello), .. }, _) if hello.version == VERSION => hello,
            (EventFrame { event: Event::Hello(hello), .. }, _) => {
                return Err(Failure::failed(format!("the agent speaks version {}, this sealift {VERSION}", hello.version)).into());
            }
            _ => return Err(Failure::failed("the agent does not say hello").into()),
        };
        let (out, queue) = mpsc::channel(4);
        let calls = Arc::new(Calls::default());
        tokio::spawn(listen(input, calls.clone()));
        tokio::spawn(speak(output, queue, calls.clone()));
        Ok((Client { out, calls, next: AtomicU64::new(1) }, hello))
    }

    /// Asks, and gives the call to wait for.
    pub async fn call(&self, request: Request) -> Result<Call<'_>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answers) = mpsc::unbounded_channel();
        self.calls.open().insert(id, sender);
        let call = Call { link: self, id, answers };
        call.send(request, Vec::new()).await?;
        Ok(call)
    }

    /// Asks and waits for what comes of it.
    pub async fn ask<T: DeserializeOwned>(&self, request: Request) -> Result<T> {
        Ok(self.call(request).await?.done(|_| ()).await?.0)
    }
}

/// A call under way. Dropped, its answers are no longer heard.
pub struct Call<'a> {
    link: &'a Client,
    id: u64,
    answers: UnboundedReceiver<Told>,
}

impl Call<'_> {
    /// Says something that belongs to this call.
    pub async fn send(&self, request: Request, payload: Vec<u8>) -> Result<()> {
        let sent = self.link.out.send((RequestFrame { id: self.id, request }, payload)).await;
        sent.map_err(|_| self.link.calls.why_lost().into())
    }

    /// The next thing that the agent tells about this call. A failure is an error.
    pub async fn next(&mut self) -> Result<Told> {
        // the answer may have come before the loss
        if self.link.calls.is_lost() {
            self.answers.close();
        }
        match self.answers.recv().await {
            Some((Event::Failed(told), _)) => Err(Failure::from(told).into()),
            Some(told) => Ok(told),
            None => Err(self.link.calls.why_lost().into()),
        }
    }

    /// Waits for the end, and gives what came of it and the payload.
    pub async fn done<T: DeserializeOwned>(mut self, mut line: impl FnMut(&str)) -> Result<(T, Vec<u8>)> {
        loop {
            match self.next().await? {
                (Event::Line(text), _) => line(&text),
                (Event::Done(value), payload) => return Ok((serde_json::from_value(value).context("the agent's answer")?, payload)),
                _ => {}
            }
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.link.calls.open().remove(&self.id);
    }
}

impl Calls {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, UnboundedSender<Told>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self) -> MutexGuard<'_, Option<String>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_lost(&self) -> bool {
        self.lost().is_some()
    }

    fn lose(&self, why: String) {
        self.lost().get_or_insert(why);
        self.gone.cancel();
        self.open().clear();
    }

    fn why_lost(&self) -> Failure {
        let why = self.lost().clone().unwrap_or_else(|| "the connection was closed".into());
        Failure::network(format!("connection lost: {why}")).hint("run the same command again to go on from here")
    }
}

async fn listen<R: AsyncRead + Unpin>(mut input: R, calls: Arc<Calls>) {
    let why = loop {
        match timeout(SILENCE, frame::read::<_, EventFrame>(&mut input)).await {
            Ok(Ok(Some((answer, payload)))) => {
                if let Some(call) = calls.open().get(&answer.id) {
                    call.send((answer.event, payload)).ok();
                }
            }
            Ok(Ok(None)) => break "the agent ended".into(),
            Ok(Err(error)) => break format!("{error:#}"),
            Err(_) => break format!("the agent says nothing for {} s", SILENCE.as_secs()),
        }
    };
    calls.lose(why);
}

async fn speak<W: AsyncWrite + Unpin>(mut output: W, mut queue: mpsc::Receiver<Sent>, calls: Arc<Calls>) {
    let mut heartbeat = interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (request, payload) = tokio::select! {
            sent = queue.recv() => match sent {
                Some(sent) => sent,
                None => break,
            },
            () = calls.gone.cancelled() => return,
            _ = heartbeat.tick() => (RequestFrame { id: 0, request: Request::Ping }, Vec::new()),
        };
        let written = async {
            frame::write(&mut output, &request, &payload).await?;
            Ok::<_, anyhow::Error>(output.flush().await?)
        };
        // a channel whose other end is gone may take bytes no more, and say nothing
        let result = tokio::select! {
            result = written => result,
            () = calls.gone.cancelled() => return,
        };
        if let Err(error) = result {
            calls.lose(format!("{error:#}"));
            return;
        }
    }
    output.shutdown().await.ok();
}
