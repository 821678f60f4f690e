//! What the user sees: results on stdout, progress, notes and errors on stderr.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the place that prints")]

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Format;
use crate::diagnostic::{Invalid, render_all};
use crate::error::{hints_of, kind_of};
use crate::events::{Event, Events, Level, Outcome, TaskId, Unit};

/// The user's terminal, pipe or log.
pub struct Console {
    format: Format,
    quiet: bool,
    color: bool,
    progress: Option<MultiProgress>,
    tasks: Mutex<HashMap<TaskId, Running>>,
    /// Tasks that were done too quickly to be worth a line, since the last line that counted them.
    quick: AtomicU64,
}

/// A task that is shown.
struct Running {
    label: String,
    unit: Unit,
    total: Option<u64>,
    done: u64,
    began: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

/// Tasks that are done sooner are counted, not told one by one, unless they have a detail to tell.
const QUICK: Duration = Duration::from_millis(500);
/// Long tasks say a line this often where there is no terminal.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

impl Console {
    /// A console that prints results as `format`, without progress when `quiet`.
    pub fn new(format: Format, quiet: bool, color: bool) -> Self {
        let bars = !quiet && format == Format::Text && io::stderr().is_terminal();
        Console { format, quiet, color, progress: bars.then(MultiProgress::new), tasks: Mutex::default(), quick: AtomicU64::new(0) }
    }

    /// Prints a command's answer: `value` as JSON, or `text` for people.
    pub fn answer<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        match self.format {
            Format::Json => self.raw(format!("{}\n", serde_json::to_string_pretty(value)?).as_bytes()),
            Format::Text => self.raw(text().as_bytes()),
        }
    }

    /// Writes bytes to stdout. A reader that went away is no error.
    pub fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether results are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether what goes to stdout is coloured.
    pub fn color(&self) -> bool {
        self.color && io::stdout().is_terminal()
    }

    /// A line for the user on stderr.
    pub fn line(&self, text: &str) {
        match &self.progress {
            Some(progress) => progress.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Prints how the command ended and gives the exit code.
    pub fn close(&self, result: Result<()>) -> ExitCode {
        if let Some(progress) = &self.progress {
            progress.clear().ok();
        }
        self.tell_quick();
        let Err(error) = result else {
            return ExitCode::SUCCESS;
        };
        if self.is_json() {
            eprintln!("{}", error_document(&error));
        } else {
            self.tell(&error);
        }
        ExitCode::from(kind_of(&error).exit_code())
    }

    /// Tells an error to a person. What is wrong in an input file is drawn over its text.
    fn tell(&self, error: &anyhow::Error) {
        if let Some(Invalid { text, diagnostics }) = error.downcast_ref() {
            eprint!("{}", render_all(diagnostics, text, self.color));
            eprintln!("{} {error}", self.paint("error:", "1;31"));
        } else {
            eprintln!("{} {error:#}", self.paint("error:", "1;31"));
        }
        for hint in hints_of(error) {
            eprintln!("{} {hint}", self.paint("hint:", "1;36"));
        }
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn started(&self, task: TaskId, label: String, total: Option<u64>, unit: Unit) {
        let bar = self.progress.as_ref().map(|progress| {
            let bar = progress.add(ProgressBar::new(total.unwrap_or(0)));
            bar.set_style(style(unit, total.is_some()));
            bar.set_message(label.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let now = Instant::now();
        self.lock().insert(task, Running { label, unit, total, done: 0, began: now, told: now, bar });
    }

    fn advanced(&self, task: TaskId, by: u64) {
        let mut tasks = self.lock();
        let Some(running) = tasks.get_mut(&task) else { return };
        running.done += by;
        if let Some(bar) = &running.bar {
            bar.inc(by);
        } else if running.told.elapsed() >= PLAIN_INTERVAL {
            running.told = Instant::now();
            let line = format!("{} {}", running.label, running.amount());
            drop(tasks);
            self.line(&line);
        }
    }

    fn finished(&self, task: TaskId, outcome: &Outcome) {
        let Some(running) = self.lock().remove(&task) else { return };
        if let Some(bar) = &running.bar {
            bar.finish_and_clear();
        }
        match outcome {
            Outcome::Done(detail) if detail.is_empty() && running.began.elapsed() < QUICK => {
                self.quick.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Done(detail) => {
                let separator = if detail.is_empty() { "" } else { ": " };
                self.line(&format!("{} {}{separator}{detail} {}", self.paint("✓", "32"), running.label, seconds(running.began.elapsed())));
            }
            Outcome::Unchanged => {}
            Outcome::Failed => self.line(&format!("{} {}", self.paint("✗", "31"), running.label)),
        }
    }

    /// Says how many quick tasks were done since it was said last.
    fn tell_quick(&self) {
        match self.quick.swap(0, Ordering::Relaxed) {
            0 => {}
            1 => self.line(&format!("{} 1 quick step", self.paint("✓", "32"))),
            count => self.line(&format!("{} {count} quick steps", self.paint("✓", "32"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TaskId, Running>> {
        self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Running {
    fn amount(&self) -> String {
        let show = |value| if self.unit == Unit::Bytes { bytes(value) } else { value.to_string() };
        match self.total {
            Some(total) => format!("{} of {}", show(self.done), show(total)),
            None => show(self.done),
        }
    }
}

impl Events for Console {
    fn emit(&self, event: Event) {
        if self.format == Format::Json {
            if !self.quiet {
                eprintln!("{}", serde_json::to_string(&event).unwrap_or_default());
            }
            return;
        }
        match event {
            Event::Note { level: Level::Warning, text } => self.line(&format!("{} {text}", self.paint("warning:", "1;33"))),
            _ if self.quiet => {}
            Event::Note { level: Level::Info, text } => self.line(&text),
            Event::Stage { name } => {
                self.tell_quick();
                self.line(&self.paint(&format!("== {name}"), "1"));
            }
            Event::Started { task, label, total, unit } => self.started(task, label, total, unit),
            Event::Advanced { task, by } => self.advanced(task, by),
            Event::Finished { task, outcome } => self.finished(task, &outcome),
            Event::Output { source, line } => self.line(&format!("  {source} | {line}")),
        }
    }
}

/// An error for programs; what is wrong in an input file as a list with lines and columns.
fn error_document(error: &anyhow::Error) -> serde_json::Value {
    let code = kind_of(error).exit_code();
    match error.downcast_ref() {
        None => json!({"error": {"message": format!("{error:#}"), "hints": hints_of(error), "code": code}}),
        Some(Invalid { text, diagnostics }) => {
            let located: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.located(text)).collect();
            json!({"error": {"message": error.to_string(), "hints": hints_of(error), "code": code, "diagnostics": located}})
        }
    }
}

fn style(unit: Unit, known: bool) -> ProgressStyle {
    let template = match (unit, known) {
        (Unit::Bytes, true) => "  {msg:40!} [{bar:24}] {bytes:>10} of {total_bytes} {bytes_per_sec} {eta}",
        (Unit::Bytes, false) => "  {msg:40!} {spinner} {bytes} {bytes_per_sec}",
        (Unit::Items, true) => "  {msg:40!} [{bar:24}] {pos} of {len}",
        (Unit::Items, false) => "  {msg} {spinner} {elapsed}",
    };
    ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ")
}

fn seconds(time: Duration) -> String {
    format!("({:.1} s)", time.as_secs_f64())
}

/// Prints bytes with a binary unit: `512 MiB`.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// Lays rows out in columns, two blanks apart, under a header.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut text = line(&mut header.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A token that the first Ctrl-C (or SIGTERM) sets; the second ends the process at once.
pub fn cancel_on_interrupt() -> CancellationToken {
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let handler = move || {
        if token.is_cancelled() {
            #[expect(clippy::exit, reason = "the user asked twice")]
            std::process::exit(130);
        }
        eprintln!("interrupted: stopping at the next safe point; once more to stop at once");
        token.cancel();
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        tracing::warn!("Ctrl-C is not handled: {error}");
    }
    cancel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let rows = [vec!["a".to_owned(), "long cell".to_owned()], vec!["bcd".to_owned(), String::new()]];
        assert_eq!(table(&["X", "Y"], &rows), "X    Y\na    long cell\nbcd\n");
    }
}
