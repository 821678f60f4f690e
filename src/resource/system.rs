//! The host as resources see it: its root directory and its programs.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use crate::error::Failure;
use crate::program_output::each_line;

/// Where programs are looked for on a host.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The host as resources see it.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
    programs: String,
}

impl System {
    /// The host whose root directory is `root`: `/`, or a test's directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        System { root: root.into(), programs: PATH.to_owned() }
    }

    /// The same with its programs in `path`, as `PATH` is written; tests put stand-ins there.
    pub fn with_programs(self, path: impl Into<String>) -> Self {
        System { programs: path.into(), ..self }
    }

    /// Where the absolute `path` of the host is.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A text file; empty if it is not there.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = self.path(path);
        match fs_err::read(&path) {
            Ok(bytes) => String::from_utf8(bytes).with_context(|| format!("{}: not UTF-8", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a text file, whole or not at all; an empty text removes it.
    pub fn write_text(&self, path: impl AsRef<Path>, text: &str) -> Result<()> {
        let path = self.path(path);
        if !text.is_empty() {
            let mode = fs_err::metadata(&path).map_or(0o644, |meta| std::os::unix::fs::MetadataExt::mode(&meta) & 0o7777);
            return crate::atomic_file::write(&path, text.as_bytes(), mode);
        }
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// A program with a plain environment.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        let place = Path::new(program);
        let found = if place.is_absolute() { None } else { self.find(place) };
        let mut command = Command::new(found.as_deref().unwrap_or(place));
        command.env_clear().env("PATH", &self.programs).env("HOME", "/root").env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8");
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Runs a program to its end and gives its stdout; any other status than 0 is an error with its last lines.
    pub fn output(&self, argv: &[&str]) -> Result<String> {
        let (program, arguments) = argv.split_first().context("no program")?;
        let output = self.command(program).args(arguments).output().with_context(|| format!("`{program}`"))?;
        check_status(&argv.join(" "), output.status, &String::from_utf8_lossy(&output.stderr))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program to its end, telling its lines; any other status than 0 is an error with its last lines.
    pub fn run(&self, argv: &[&str], say: &mut dyn FnMut(&str)) -> Result<()> {
        let (program, arguments) = argv.split_first().context("no program")?;
        let mut command = self.command(program);
        command.args(arguments);
        run(command, None, &argv.join(" "), say)
    }

    fn find(&self, program: &Path) -> Option<PathBuf> {
        self.programs.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
    }
}

/// Runs `command` to its end with `input`, telling the lines of stdout and stderr; any other status than 0 is an error
/// that names `what` and has the last lines.
pub fn run(mut command: Command, input: Option<&[u8]>, what: &str, say: &mut dyn FnMut(&str)) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().with_context(|| what.to_owned())?;
    drop(command); // it holds the writing ends of the pipe
    if let (Some(bytes), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(bytes).ok(); // a program that does not read its input says why by its status
    }
    let mut last = std::collections::VecDeque::with_capacity(8);
    each_line(reader, |line| {
        say(line);
        if last.len() == 8 {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    })?;
    check_status(what, child.wait()?, &last.make_contiguous().join("\n"))
}

fn check_status(what: &str, status: ExitStatus, text: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let lines: Vec<&str> = text.trim().lines().collect();
    let last = lines[lines.len().saturating_sub(8)..].join("\n  ");
    let colon = if last.is_empty() { "" } else { ":\n  " };
    Err(Failure::failed(format!("`{what}`: {status}{colon}{last}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_tell_their_lines_and_why_they_failed() {
        let system = System::new("/");
        let mut lines = Vec::new();
        system.run(&["sh", "-c", "echo one; echo two >&2"], &mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
        let error = system.run(&["sh", "-c", "echo because >&2; exit 3"], &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("because"), "{error}");
        assert!(system.output(&["no-such-program"]).unwrap_err().to_string().contains("no-such-program"));
    }

    #[test]
    fn empty_texts_are_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let system = System::new(dir.path());
        system.write_text("/etc/a", "x\n").unwrap();
        assert_eq!(system.text("/etc/a").unwrap(), "x\n");
        system.write_text("/etc/a", "").unwrap();
        system.write_text("/etc/a", "").unwrap();
        assert!(!dir.path().join("etc/a").exists());
    }
}
