//! A command to run on a host, and its output.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// A command to run on a host, as root. Its stdin and environment are never printed: they may hold secrets.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Exec {
    /// The program and its arguments; no shell is involved.
    pub argv: Vec<String>,
    /// Variables besides `PATH`, `HOME`, `LANG` and `LC_ALL`.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// The working directory; `/` by default.
    #[serde(default)]
    pub cwd: Option<String>,
    /// Its stdin; none by default.
    #[serde(default)]
    pub stdin: Option<Vec<u8>>,
    /// Whether its output is not shown: it is not sent as events.
    #[serde(default)]
    pub quiet: bool,
}

impl Exec {
    /// A command with its arguments.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> Self {
        Exec { argv: argv.into_iter().map(Into::into).collect(), ..Exec::default() }
    }

    /// A command line for `/bin/sh -c`.
    pub fn shell(line: &str) -> Self {
        Exec::new(["/bin/sh", "-c", line])
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds environment variables.
    pub fn envs(mut self, env: &BTreeMap<String, String>) -> Self {
        self.env.extend(env.clone());
        self
    }

    /// Sets the working directory.
    pub fn cwd(mut self, path: &str) -> Self {
        self.cwd = Some(path.to_owned());
        self
    }

    /// Sets its stdin.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Does not show its output.
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

/// The exit status of a command and its output, of each stream at most the last 4 MiB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// The exit status; 128 plus the signal's number if a signal killed it, as in a shell.
    pub status: i32,
    /// Its stdout.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
    /// How many bytes of both streams were dropped because they were longer.
    pub truncated_bytes: u64,
}

impl Output {
    /// Its stdout as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Returns it if the exit status is 0.
    ///
    /// # Errors
    /// Otherwise fails with `what`, the exit status and the last five lines of stderr, or of stdout if stderr is empty.
    pub fn ensure_success(self, what: &str) -> Result<Output> {
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
