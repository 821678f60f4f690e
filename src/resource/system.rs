//! The host as resources see it: its root directory and its programs.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

use crate::error::Failure;
use crate::program_output::each_line;

/// The `PATH` of programs on a host, whatever the login shell's is.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How many symbolic links are followed from one to the next, as in Linux (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// Access to a host's files and programs, with a configurable root directory.
#[derive(Debug, Clone)]
pub struct System {
    root: PathBuf,
    programs: String,
    stop: CancellationToken,
}

impl System {
    /// A host with its root directory at `root`: `/`, or a directory of a test.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        System { root: root.into(), programs: PATH.to_owned(), stop: CancellationToken::new() }
    }

    /// Sets the `PATH` of programs; tests put fake programs there.
    pub fn with_programs(self, path: impl Into<String>) -> Self {
        System { programs: path.into(), ..self }
    }

    /// The same host, for a call that ends soon after `stop` is cancelled.
    pub fn with_stop(self, stop: CancellationToken) -> Self {
        System { stop, ..self }
    }

    /// The same host, for what is short and must not be stopped.
    pub fn without_stop(&self) -> Self {
        self.clone().with_stop(CancellationToken::new())
    }

    /// Cancelled when the client wants the call to end: finish the step, start no other one.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// The path to open for the absolute `path` of the host.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Reads a text file; empty if there is none.
    ///
    /// # Errors
    /// Fails if it is not UTF-8.
    pub fn read_text(&self, path: impl AsRef<Path>) -> Result<String> {
        let path = self.path(path);
        match fs_err::read(&path) {
            Ok(bytes) => String::from_utf8(bytes).with_context(|| format!("{}: not UTF-8", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a text file atomically and keeps its mode (0644 for a new one), owner and group; an empty text removes it. Of a symbolic
    /// link the target is written, and stays also if it is empty.
    pub fn write_text(&self, path: impl AsRef<Path>, text: &str) -> Result<()> {
        use std::os::unix::fs::MetadataExt as _;
        let link = self.path(path);
        let path = self.link_target(link.clone());
        if !text.is_empty() || path != link {
            let before = fs_err::metadata(&path).ok();
            crate::atomic_file::write(&path, text.as_bytes(), before.as_ref().map_or(0o644, |before| before.mode() & 0o7777))?;
            let owner = |of: &std::fs::Metadata| (of.uid(), of.gid());
            if let Some((uid, gid)) =
                before.as_ref().map(owner).filter(|before| fs_err::metadata(&path).is_ok_and(|now| owner(&now) != *before))
            {
                std::os::unix::fs::chown(&path, Some(uid), Some(gid)).with_context(|| path.display().to_string())?;
            }
            return Ok(());
        }
        match fs_err::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What a path names after its symbolic links, of which the last may have no target.
    fn link_target(&self, mut path: PathBuf) -> PathBuf {
        for _ in 0..MAX_LINKS {
            let Ok(target) = std::fs::read_link(&path) else { break };
            path = if target.is_absolute() { self.path(target) } else { path.parent().unwrap_or(Path::new("/")).join(target) };
        }
        path
    }

    /// Prepares a program with only `PATH`, `HOME` and the C locale in its environment, `/` as its directory, and no stdin.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let program = program.as_ref();
        let path = Path::new(program);
        let found = if path.is_absolute() { None } else { self.find(path) };
        let mut command = Command::new(found.as_deref().unwrap_or(path));
        command.env_clear().env("PATH", &self.programs).env("HOME", "/root").env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8");
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Prepares `bash`, or `sh` on hosts without it.
    pub fn shell(&self) -> Command {
        self.command(if self.path("/bin/bash").exists() { "bash" } else { "sh" })
    }

    /// Runs a program and returns its stdout; an exit status other than 0 is an error with the last 8 lines of stderr.
    pub fn output(&self, argv: &[&str]) -> Result<String> {
        let (program, arguments) = argv.split_first().context("empty command")?;
        let output = self.command(program).args(arguments).output().with_context(|| format!("`{program}`"))?;
        check_status(&argv.join(" "), output.status, &String::from_utf8_lossy(&output.stderr))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program and logs its output; an exit status other than 0 is an error with the last 8 lines.
    pub fn run(&self, argv: &[&str], log: &mut dyn FnMut(&str)) -> Result<()> {
        let (program, arguments) = argv.split_first().context("empty command")?;
        let mut command = self.command(program);
        command.args(arguments);
        run(command, None, &argv.join(" "), log)
    }

    fn find(&self, program: &Path) -> Option<PathBuf> {
        self.programs.split(':').map(|dir| Path::new(dir).join(program)).find(|path| path.is_file())
    }
}

/// Runs `command` with `input` as its stdin and logs the lines of stdout and stderr; an exit status other than 0 is an error with
/// `what` and the last 8 lines.
pub fn run(mut command: Command, input: Option<&[u8]>, what: &str, log: &mut dyn FnMut(&str)) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().with_context(|| what.to_owned())?;
    drop(command); // it has the write ends of the pipe open
    if let (Some(bytes), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(bytes).ok(); // a program that does not read its input reports why by its exit status
    }
    let mut last = std::collections::VecDeque::with_capacity(8);
    each_line(reader, |line| {
        log(line);
        if last.len() == 8 {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    })?;
    check_status(what, child.wait()?, &last.make_contiguous().join("\n"))
}

/// Fails with `what` and the last 8 lines of `text` unless the status is 0.
pub(super) fn check_status(what: &str, status: ExitStatus, text: &str) -> Result<()> {
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
    fn output_is_logged_and_an_error_has_its_last_lines() {
        let system = System::new("/");
        let mut lines = Vec::new();
        system.run(&["sh", "-c", "echo one; echo two >&2"], &mut |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
        let error = system.run(&["sh", "-c", "echo because >&2; exit 3"], &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("because"), "{error}");
        assert!(system.output(&["no-such-program"]).unwrap_err().to_string().contains("no-such-program"));
    }

    #[test]
    fn the_target_of_a_link_is_written_with_its_mode_and_group() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
        let dir = tempfile::tempdir().unwrap();
        let system = System::new(dir.path());
        std::fs::create_dir_all(dir.path().join("etc/real")).unwrap();
        let target = dir.path().join("etc/real/hosts");
        std::fs::write(&target, "old\n").unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
        let group = if chown(&target, None, Some(4)).is_ok() { 4 } else { std::fs::metadata(&target).unwrap().gid() };
        for (link, to) in [("hosts", "real/hosts"), ("absolute", "/etc/real/hosts"), ("twice", "hosts")] {
            symlink(to, dir.path().join("etc").join(link)).unwrap();
            for text in ["new\n", "", "newer\n"] {
                system.write_text(format!("/etc/{link}"), text).unwrap();
                assert_eq!(std::fs::read_to_string(&target).unwrap(), text, "{link}");
                let meta = std::fs::metadata(&target).unwrap();
                assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o640, group), "{link}");
                assert_eq!(std::fs::read_link(dir.path().join("etc").join(link)).unwrap(), Path::new(to));
            }
        }
    }

    #[test]
    fn an_empty_text_removes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let system = System::new(dir.path());
        system.write_text("/etc/a", "x\n").unwrap();
        assert_eq!(system.read_text("/etc/a").unwrap(), "x\n");
        system.write_text("/etc/a", "").unwrap();
        system.write_text("/etc/a", "").unwrap();
        assert!(!dir.path().join("etc/a").exists());
    }
}
