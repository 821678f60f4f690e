//! A command on a host.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// A command to run on a host, as root. What goes to its stdin and environment is never printed.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments; not a shell line.
    pub argv: Vec<String>,
    /// Variables added to a plain environment (`PATH`, `HOME`, `LANG`).
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it runs; `/` if not given.
    #[serde(default)]
    pub cwd: Option<String>,
    /// What it reads; secrets go here.
    #[serde(default)]
    pub stdin: Option<Vec<u8>>,
    /// Whether its lines are kept from the user's eyes: they are not told as events.
    #[serde(default)]
    pub quiet: bool,
}

impl Exec {
    /// The command `argv`.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Exec { argv: argv.into_iter().map(Into::into).collect(), ..Exec::default() }
    }

    /// A line for `/bin/sh -c`.
    pub fn shell(line: &str) -> Self {
        Exec::new(["/bin/sh", "-c", line])
    }

    /// Adds a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Sets the variables.
    pub fn envs(mut self, env: &BTreeMap<String, String>) -> Self {
        self.env.extend(env.clone());
        self
    }

    /// Sets where it runs.
    pub fn cwd(mut self, path: &str) -> Self {
        self.cwd = Some(path.to_owned());
        self
    }

    /// Gives it something to read.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Keeps its output from the user's eyes.
    pub fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec").field("argv", &self.argv).field("cwd", &self.cwd).finish_non_exhaustive()
    }
}

/// How a command ended and what it wrote; of each stream the last 4 MiB are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The exit status; 128 and more for a signal, as shells say it.
    pub status: i32,
    /// What it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: Vec<u8>,
    /// How many bytes before those were not kept.
    pub lost: u64,
}

impl Output {
    /// What it wrote to stdout, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Fails, naming `what`, the status and the last lines of stderr, unless the status is 0.
    pub fn success(self, what: &str) -> Result<Output> {
        if self.status == 0 {
            return Ok(self);
        }
        let text = String::from_utf8_lossy(if self.stderr.trim_ascii().is_empty() { &self.stdout } else { &self.stderr });
        let lines: Vec<&str> = text.trim().lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        let colon = if last.is_empty() { "" } else { ":\n  " };
        Err(Failure::failed(format!("{what}: exit status {}{colon}{last}", self.status)).into())
    }
}
