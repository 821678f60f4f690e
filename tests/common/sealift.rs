//! The sealift binary under test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// sealift with a home and a store of its own.
pub struct Sealift {
    home: TempDir,
    store: PathBuf,
}

/// How a run of sealift ended.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Sealift {
    /// With an empty store.
    pub fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let store = home.path().join("store");
        Sealift { home, store }
    }

    /// A directory for the test's files; removed with it.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Where its store is.
    pub fn store_root(&self) -> &Path {
        &self.store
    }

    /// The store, opened by the library.
    pub fn store(&self) -> sealift::store::Store {
        sealift::store::Store::open(&self.store).expect("the store opens")
    }

    /// The command, to be refined or spawned: environment, store and what it remembers are its own.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sealift"));
        command.args(args).env_clear().env("HOME", self.home()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("SEALIFT_STORE", &self.store)
            .env("SEALIFT_HOME", self.home().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        ended(self.command(args))
    }

    /// Runs it with text on stdin.
    pub fn run_with_stdin(&self, args: &[&str], stdin: &str) -> Ended {
        let path = self.home().join("stdin");
        std::fs::write(&path, stdin).expect("stdin is written");
        let mut command = self.command(args);
        command.stdin(std::fs::File::open(path).expect("stdin is there"));
        ended(command)
    }

    /// Runs it; it must succeed. What it printed to stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        self.run(args).expect_code(0).stdout
    }

    /// Runs it with `-o json`; it must succeed. What it answered.
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let text = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("sealift {args:?}: {error}\n{text}"))
    }

    /// Runs it; it must fail with this exit code. What it said.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        self.run(args).expect_code(code).stderr
    }
}

impl Ended {
    /// Panics with all it said when the exit code is another.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }
}

fn ended(mut command: Command) -> Ended {
    let output = command.output().expect("sealift starts");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Panics unless `text` has every one of `parts`.
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "want `{part}` in:\n{text}");
    }
}
