//! Progress events of long work. Modules emit them through a [`Context`]; `cli/` shows them as bars, plain lines or JSON.

use std::io::{self, Read};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::error::{Failure, Kind};

/// Names one task among those of this process.
pub type TaskId = u64;

/// What a task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Steps, files, hosts.
    Items,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "detail")]
pub enum Outcome {
    /// Done; the text is the result, and may be empty.
    Done(String),
    /// There was nothing to do: it is up to date.
    Unchanged,
    /// It failed or was given up; the error says why.
    Failed,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Worth a line.
    Info,
    /// The user should know, the work goes on.
    Warning,
}

/// One event.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Event {
    /// A stage of a run begins. Others may go on meanwhile: a task names its stage.
    Stage {
        /// The stage's name.
        name: String,
        /// Which one it is, from 1.
        number: usize,
        /// How many stages the run has.
        total: usize,
    },
    /// A task begins.
    Started {
        /// The task.
        task: TaskId,
        /// The task that this is a part of: its progress counts for that one too.
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<TaskId>,
        /// The stage of a run that it belongs to.
        #[serde(skip_serializing_if = "Option::is_none")]
        stage: Option<&'static str>,
        /// What is done, to what: `push sha256:12ab…`, `h1: sysctl`.
        label: String,
        /// How much there is to do, if known.
        total: Option<u64>,
        /// What `total` counts.
        unit: Unit,
    },
    /// A task made progress.
    Advanced {
        /// The task.
        task: TaskId,
        /// By how much.
        by: u64,
    },
    /// A task ended.
    Finished {
        /// The task.
        task: TaskId,
        /// How it ended.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// A line for the user.
    Note {
        /// How much it matters.
        level: Level,
        /// The line.
        text: String,
    },
    /// A line that a command wrote while it ran.
    Output {
        /// Where it ran: a host's name, an instruction.
        source: String,
        /// The line, without its end.
        line: String,
    },
}

/// Receives events. Called from many threads.
pub trait Events: Send + Sync {
    /// Takes one event; must not block for long.
    fn emit(&self, event: Event);
}

/// Drops all events.
#[derive(Debug, Default)]
pub struct Silent;

impl Events for Silent {
    fn emit(&self, _: Event) {}
}

/// Passes all events to both.
struct Both(Arc<dyn Events>, Arc<dyn Events>);

impl Events for Both {
    fn emit(&self, event: Event) {
        self.1.emit(event.clone());
        self.0.emit(event);
    }
}

/// Passed to all long work: where to report progress, whether to stop, how much to do at once.
#[derive(Clone)]
pub struct Context {
    events: Arc<dyn Events>,
    cancel: CancellationToken,
    jobs: NonZeroUsize,
    /// The user chose `jobs` with `--jobs`: no default may exceed it.
    jobs_are_fixed: bool,
    /// The task that new tasks are a part of.
    parent: Option<TaskId>,
    /// The stage of a run that new tasks belong to.
    stage: Option<&'static str>,
}

impl Context {
    /// A context that reports to `events`, stops on `cancel` and does `jobs` things at once.
    pub fn new(events: Arc<dyn Events>, cancel: CancellationToken, jobs: NonZeroUsize) -> Self {
        Context { events, cancel, jobs, jobs_are_fixed: false, parent: None, stage: None }
    }

    /// A context that reports to nobody; for tests and small work.
    pub fn silent() -> Self {
        Context::new(Arc::new(Silent), CancellationToken::new(), std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN))
    }

    /// The same, but reporting to `log` too.
    pub fn logged_to(&self, log: Arc<dyn Events>) -> Self {
        Context { events: Arc::new(Both(self.events.clone(), log)), ..self.clone() }
    }

    /// The same, but not stopped when the user interrupts: for what must be done in the end.
    pub fn uninterrupted(&self) -> Self {
        Context { cancel: CancellationToken::new(), ..self.clone() }
    }

    /// The same, but never doing more than `jobs` things at once.
    pub fn with_fixed_jobs(self) -> Self {
        Context { jobs_are_fixed: true, ..self }
    }

    /// The same, but the tasks that it begins are parts of `task`: what they advance, that one advances too.
    pub fn within(&self, task: &Task) -> Self {
        Context { parent: Some(task.id), ..self.clone() }
    }

    /// The same, but the tasks that it begins belong to a stage of a run.
    pub fn in_stage(&self, stage: &'static str) -> Self {
        Context { stage: Some(stage), ..self.clone() }
    }

    /// How many things to do at once.
    pub fn jobs(&self) -> usize {
        self.jobs.get()
    }

    /// How many transfers to have at once: most of their time is waiting, so at least 4 unless the user chose `--jobs`.
    pub fn transfers(&self) -> usize {
        if self.jobs_are_fixed { self.jobs() } else { self.jobs().max(4) }
    }

    /// How many downloads to have at once from a registry with almost no latency: two fill the disk, unless the user chose `--jobs`.
    pub fn near_downloads(&self) -> usize {
        if self.jobs_are_fixed { self.jobs() } else { 2 }
    }

    /// The token that is cancelled when the user interrupts.
    pub fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Fails with [`Kind::Interrupted`] once the user has interrupted; call it at safe points.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.cancel.is_cancelled() {
            return Err(interrupted().into());
        }
        Ok(())
    }

    /// Reads from `source` until the user interrupts; then reading fails with [`Kind::Interrupted`].
    pub fn reader<R: Read>(&self, source: R) -> impl Read + use<R> {
        Interruptible { source, cancel: self.cancel.clone() }
    }

    /// Waits for `work`, or fails with [`Kind::Interrupted`] when the user interrupts first.
    pub async fn or_cancelled<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(interrupted().into()),
            done = work => done,
        }
    }

    /// Emits one event.
    pub fn emit(&self, event: Event) {
        self.events.emit(event);
    }

    /// Emits a line for the user.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(Event::Note { level: Level::Info, text: text.into() });
    }

    /// Emits a warning.
    pub fn warn(&self, text: impl Into<String>) {
        self.emit(Event::Note { level: Level::Warning, text: text.into() });
    }

    /// Begins a task. Dropped without [`Task::done`] or [`Task::unchanged`], it counts as failed.
    pub fn task(&self, label: impl Into<String>, total: Option<u64>, unit: Unit) -> Task {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        self.emit(Event::Started { task: id, parent: self.parent, stage: self.stage, label: label.into(), total, unit });
        Task { events: self.events.clone(), id, open: true }
    }
}

struct Interruptible<R> {
    source: R,
    cancel: CancellationToken,
}

impl<R: Read> Read for Interruptible<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(io::Error::other(interrupted()));
        }
        self.source.read(into)
    }
}

fn interrupted() -> Failure {
    Failure::new(Kind::Interrupted, "interrupted").hint("run the same command again to resume")
}

/// A running task.
pub struct Task {
    events: Arc<dyn Events>,
    id: TaskId,
    open: bool,
}

impl Task {
    /// Reports progress.
    pub fn advance(&self, by: u64) {
        self.events.emit(Event::Advanced { task: self.id, by });
    }

    /// Ends the task well; `detail` is the result, and may be empty.
    pub fn done(self, detail: impl Into<String>) {
        self.finish(Outcome::Done(detail.into()));
    }

    /// Ends the task: it is up to date.
    pub fn unchanged(self) {
        self.finish(Outcome::Unchanged);
    }

    fn finish(mut self, outcome: Outcome) {
        self.open = false;
        self.events.emit(Event::Finished { task: self.id, outcome });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if self.open {
            self.events.emit(Event::Finished { task: self.id, outcome: Outcome::Failed });
        }
    }
}
