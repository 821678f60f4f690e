//! What the user sees: results on stdout, progress, notes and errors on stderr.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the place that prints")]

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use indicatif::MultiProgress;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Format;
use super::progress::{Ended, Progress};
use super::table::Table;
use crate::diagnostic::{Invalid, located_all, render_all};
use crate::error::{hints_of, kind_of};
use crate::events::{Event, Events, Level};

/// The user's terminal, pipe or log.
pub struct Console {
    format: Format,
    quiet: bool,
    color: bool,
    bars: Option<MultiProgress>,
    progress: Mutex<Progress>,
}

impl Console {
    /// A console that prints results as `format`, without progress when `quiet`.
    pub fn new(format: Format, quiet: bool, color: bool) -> Self {
        let progress = Progress::new(!quiet && format == Format::Text && io::stderr().is_terminal());
        Console { format, quiet, color, bars: progress.bars(), progress: Mutex::new(progress) }
    }

    /// Prints a command's result: `value` as JSON, or `text` for people.
    pub fn answer<T: Serialize + ?Sized>(&self, value: &T, text: impl FnOnce() -> String) -> Result<()> {
        match self.format {
            Format::Json => self.raw(format!("{}\n", serde_json::to_string_pretty(value)?).as_bytes()),
            Format::Text => self.raw(text().as_bytes()),
        }
    }

    /// Writes bytes to stdout, after the lines of the stage that ends. A reader that went away is no error.
    pub fn raw(&self, bytes: &[u8]) -> Result<()> {
        self.end_stage();
        let write = || {
            let mut stdout = io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        };
        match self.beside_bars(write) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Lays out a table for stdout: as wide as the terminal, or whole where it is none.
    pub fn table(&self, table: &Table) -> String {
        table.render(self.width())
    }

    /// The columns of the terminal on stdout; none where it is a pipe or a file.
    pub fn width(&self) -> Option<usize> {
        let stdout = io::stdout();
        let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten()?;
        Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
    }

    /// Whether results are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether what goes to stdout is coloured.
    pub fn color(&self) -> bool {
        self.color && io::stdout().is_terminal()
    }

    /// A word for stdout in the colour of a severity; the word itself says the same.
    pub fn severity(&self, word: &str) -> String {
        match word {
            _ if !self.color() => word.to_owned(),
            "fail" | "error" => painted(word, RED),
            "warning" => painted(word, YELLOW),
            _ => painted(word, DIM),
        }
    }

    /// Prints a line on stderr, above the bars.
    pub fn line(&self, text: &str) {
        self.beside_bars(|| to_stderr(&format!("{text}\n")));
    }

    /// Prints how the command ended and gives the exit code.
    pub fn close(&self, result: Result<()>) -> ExitCode {
        if let Some(bars) = &self.bars {
            bars.clear().ok();
        }
        self.end_stage();
        let Err(error) = result else {
            return ExitCode::SUCCESS;
        };
        if self.is_json() {
            to_stderr(&format!("{}\n", error_document(&error)));
        } else {
            self.print_error(&error);
        }
        ExitCode::from(kind_of(&error).exit_code())
    }

    /// Prints an error and its hints for a person. What is wrong in an input file is drawn over its text.
    fn print_error(&self, error: &anyhow::Error) {
        if let Some(Invalid { text, diagnostics }) = error.downcast_ref() {
            to_stderr(&render_all(diagnostics, text, self.color));
            to_stderr(&format!("{} {error}\n", self.paint("error:", RED)));
        } else {
            to_stderr(&format!("{} {error:#}\n", self.paint("error:", RED)));
        }
        for hint in hints_of(error) {
            to_stderr(&format!("{} {hint}\n", self.paint("hint:", CYAN)));
        }
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.color { painted(text, code) } else { text.to_owned() }
    }

    /// Says how many steps of the stage were too quick for a line of their own.
    fn end_stage(&self) {
        let quick = self.progress().end_stage();
        self.succeeded(quick);
    }

    fn succeeded(&self, text: Option<String>) {
        if let Some(text) = text {
            self.line(&format!("{} {text}", self.paint("✓", GREEN)));
        }
    }

    /// Prints while the bars are taken off the terminal.
    fn beside_bars<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bars {
            Some(bars) => bars.suspend(print),
            None => print(),
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, event: Event) {
        match event {
            Event::Note { text, .. } => self.line(&text),
            Event::Stage { name, number, total } => {
                let (before, title) = self.progress().stage(&name, number, total);
                self.succeeded(before);
                self.line(&self.paint(&format!("== {title}"), BOLD));
            }
            Event::Started { task, parent, label, total, unit, .. } => self.progress().start(task, parent, label, total, unit),
            Event::Advanced { task, by } => {
                let report = self.progress().advance(task, by);
                if let Some(line) = report {
                    self.line(&line);
                }
            }
            Event::Finished { task, outcome } => {
                let ended = self.progress().finish(task, &outcome);
                match ended {
                    None => {}
                    Some(Ended::Done(line)) => self.succeeded(Some(line)),
                    Some(Ended::Failed(label)) => self.line(&format!("{} {label}", self.paint("✗", RED))),
                }
            }
            Event::Output { source, line } => self.line(&format!("  {source} | {line}")),
        }
    }
}

/// Writes to stderr. Where nobody reads it any more, the command goes on and keeps its exit code.
fn to_stderr(text: &str) {
    io::stderr().write_all(text.as_bytes()).ok();
}

impl Events for Console {
    fn emit(&self, event: Event) {
        match event {
            event if self.is_json() => {
                if !self.quiet {
                    to_stderr(&format!("{}\n", serde_json::to_string(&event).unwrap_or_default()));
                }
            }
            Event::Note { level: Level::Warning, text } => self.line(&format!("{} {text}", self.paint("warning:", YELLOW))),
            _ if self.quiet => {}
            event => self.show(event),
        }
    }
}

const BOLD: &str = "1";
const DIM: &str = "2";
const GREEN: &str = "32";
const RED: &str = "1;31";
const YELLOW: &str = "1;33";
const CYAN: &str = "1;36";

fn painted(text: &str, code: &str) -> String {
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// An error for programs: kind, message, hints and exit code; what is wrong in an input file as a list with lines and columns.
pub fn error_document(error: &anyhow::Error) -> serde_json::Value {
    let (kind, hints) = (kind_of(error), hints_of(error));
    let mut document = json!({"kind": kind.name(), "message": format!("{error:#}"), "hints": hints, "code": kind.exit_code()});
    if let Some(Invalid { text, diagnostics }) = error.downcast_ref() {
        document["message"] = json!(error.to_string());
        document["diagnostics"] = json!(located_all(diagnostics, text));
    }
    json!({ "error": document })
}

/// Prints bytes with a binary unit: `512 MiB`.
pub fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

/// A number with its noun: `1 layer`, `3 layers`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Writes log lines on stderr, above the bars.
#[derive(Clone)]
pub struct LogWriter(pub Arc<Console>);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.beside_bars(|| io::stderr().write_all(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A token that the first Ctrl-C (or SIGTERM) sets; the second ends the process at once.
pub fn cancel_on_interrupt(console: Arc<Console>) -> CancellationToken {
    let cancel = CancellationToken::new();
    let token = cancel.clone();
    let handler = move || {
        if token.is_cancelled() {
            #[expect(clippy::exit, reason = "the user interrupted twice")]
            std::process::exit(130);
        }
        console.line("interrupted: stopping at the next safe point; press Ctrl-C again to stop at once");
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
    use crate::error::Failure;

    #[test]
    fn an_error_for_programs_has_kind_message_hints_and_exit_code() {
        let error = Failure::network("registry r:5000: connection refused").hint("check the port").into();
        let expected = json!({"error": {
            "kind": "network", "message": "registry r:5000: connection refused", "hints": ["check the port"], "code": 7
        }});
        assert_eq!(error_document(&error), expected);
    }
}
