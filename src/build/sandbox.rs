//! The sandbox of RUN: a command in namespaces of its own, which can change the rootfs and nothing else.

use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result};
use oci_spec::image::Platform;
use serde::Serialize;

use super::user_namespace;
use crate::error::Failure;
use crate::events::{Context, Event};
use crate::image::{host_platform, platform_string, qemu_arch};
use crate::program_output::each_line;

/// Whose programs a command uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tools {
    /// Those of the rootfs: the command runs in a chroot.
    #[serde(rename = "own")]
    Rootfs,
    /// Those of the build machine: the rootfs, which has no shell, is the working directory.
    Host,
}

/// A command to run, as the cache key of a RUN has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invocation {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Its whole environment.
    pub env: BTreeMap<String, String>,
    /// Whose programs it uses.
    #[serde(rename = "mode")]
    pub tools: Tools,
}

const SCRIPT: &str = include_str!("sandbox.sh");
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The path of the rootfs for a command that uses the build machine's tools; the same in every build.
const HOST_ROOTFS: &str = "/mnt/rootfs";
/// The number of lines of output that an error repeats.
const LAST_LINES: usize = 20;
/// The exit code of `sandbox.sh` when it cannot set up the sandbox.
const SETUP_FAILED: i32 = 125;

impl Invocation {
    /// Adds PATH and HOME to the environment. With the build machine's tools, the rootfs's `bin/` comes first in PATH.
    pub fn new(argv: Vec<String>, mut env: BTreeMap<String, String>, tools: Tools) -> Self {
        let path = env.remove("PATH").unwrap_or_else(|| DEFAULT_PATH.to_owned());
        let (path, home) = match tools {
            Tools::Rootfs => (path, "/root"),
            Tools::Host => (format!("{HOST_ROOTFS}/bin:{path}"), "/tmp"),
        };
        env.insert("PATH".to_owned(), path);
        env.entry("HOME".to_owned()).or_insert_with(|| home.to_owned());
        Invocation { argv, env, tools }
    }

    /// Runs it on the directory `build/rootfs`. Its output becomes events of `source`, line by line.
    ///
    /// # Errors
    /// Fails with exit code and last lines of output if the command fails; with hints if namespaces do not work here.
    pub fn run(&self, build: &Path, source: &str, ctx: &Context) -> Result<()> {
        fs_err::create_dir_all(build.join("tmp"))?;
        let mount_points = match self.tools {
            Tools::Rootfs => Some(MountPoints::create(&build.join("rootfs"))?),
            Tools::Host => None,
        };
        let mut child = self.command(build).spawn().map_err(start_error)?;
        let last = Mutex::new(VecDeque::new());
        let status = watch(&mut child, source, &last, ctx);
        if let Some(mount_points) = mount_points {
            mount_points.remove()?;
        }
        let last: Vec<String> = last.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into();
        result_of(status?, &last)
    }

    fn command(&self, build: &Path) -> Command {
        let mut command = Command::new("setpriv");
        // when this process ends for any reason, the command is killed too
        command.args(["--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["/bin/sh", "-c", SCRIPT, "sandbox.sh", if self.tools == Tools::Rootfs { "own" } else { "host" }]).arg(build);
        command.args(self.env.iter().map(|(key, value)| format!("{key}={value}")));
        if self.tools == Tools::Rootfs {
            command.arg(chroot_program()).arg(build.join("rootfs"));
        }
        command.args(&self.argv).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

fn chroot_program() -> &'static str {
    let paths = ["/usr/sbin/chroot", "/usr/bin/chroot", "/sbin/chroot", "/bin/chroot"];
    paths.into_iter().find(|path| Path::new(path).exists()).unwrap_or("chroot")
}

/// Whether this machine runs programs of a platform: natively, or with an emulator that is registered with binfmt_misc.
pub fn can_run(platform: &Platform) -> bool {
    if platform.architecture() == host_platform().architecture() {
        return true;
    }
    let emulator = format!("/proc/sys/fs/binfmt_misc/qemu-{}", qemu_arch(&platform.architecture().to_string()));
    std::fs::read_to_string(emulator).is_ok_and(|text| text.starts_with("enabled"))
}

/// The error of a RUN in a rootfs whose programs do not run here.
pub fn cannot_run(platform: &Platform) -> anyhow::Error {
    Failure::failed(format!("this machine cannot run programs for {}, such as the stage's /bin/sh", platform_string(platform)))
        .hint("install an emulator: `apt-get install qemu-user-static binfmt-support` (binfmt_misc), and build again")
        .hint("or build on a machine of that architecture")
        .into()
}

fn start_error(error: std::io::Error) -> anyhow::Error {
    let hint = "RUN needs `unshare`, `setpriv` and `mount` (package util-linux) and `env` (coreutils) on the build machine";
    anyhow::Error::from(error).context(Failure::failed("cannot start the sandbox for RUN").hint(hint))
}

/// Forwards output until the command ends, and kills it when the user interrupts.
fn watch(child: &mut Child, source: &str, last: &Mutex<VecDeque<String>>, ctx: &Context) -> Result<ExitStatus> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(|| stdout.map(|stream| forward(stream, source, last, ctx)));
        scope.spawn(|| stderr.map(|stream| forward(stream, source, last, ctx)));
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if let Err(interrupted) = ctx.check() {
                child.kill().ok();
                child.wait().ok();
                return Err(interrupted);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    })
}

fn forward(stream: impl Read, source: &str, last: &Mutex<VecDeque<String>>, ctx: &Context) {
    each_line(stream, |line| {
        ctx.emit(Event::Output { source: source.to_owned(), line: line.to_owned() });
        let mut last = last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    })
    .ok(); // a read error ends the stream
}

fn result_of(status: ExitStatus, last: &[String]) -> Result<()> {
    use std::os::unix::process::ExitStatusExt as _;
    if status.success() {
        return Ok(());
    }
    let lines: String = last.iter().map(|line| format!("\n  | {line}")).collect();
    let unshare_failed = last.last().is_some_and(|line| line.starts_with("unshare:"));
    if unshare_failed || (status.code() == Some(SETUP_FAILED) && last.last().is_some_and(|line| line.starts_with("sandbox:"))) {
        let failure = Failure::failed(format!("cannot set up the sandbox for RUN{lines}"));
        let obstacles = user_namespace::obstacles(Path::new("/proc"), rustix::process::geteuid().is_root());
        return Err(obstacles.into_iter().fold(failure, Failure::hint).into());
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let failure = Failure::failed(format!("{how}{lines}"));
    let is_id_error = |line: &String| line.contains("Invalid argument") || line.contains("Operation not permitted");
    let remedy = user_namespace::too_few_ids().filter(|_| last.iter().any(is_id_error));
    Err(remedy.into_iter().fold(failure, Failure::hint).into())
}

/// Mount points that a rootfs lacks, created for a command and removed after it.
struct MountPoints {
    created: Vec<PathBuf>,
}

impl MountPoints {
    fn create(root: &Path) -> Result<Self> {
        let mut mount_points = MountPoints { created: Vec::new() };
        for dir in ["proc", "dev", "etc"] {
            mount_points.add(root.join(dir), |path| std::fs::create_dir(path))?;
        }
        for file in ["etc/resolv.conf", "etc/hosts"] {
            if Path::new("/").join(file).exists() {
                mount_points.add(root.join(file), |path| std::fs::File::create(path).map(drop))?;
            }
        }
        Ok(mount_points)
    }

    fn add(&mut self, path: PathBuf, create: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
        if path.symlink_metadata().is_err() {
            create(&path).with_context(|| path.display().to_string())?;
            self.created.push(path);
        }
        Ok(())
    }

    /// Removes those that are still empty.
    fn remove(self) -> Result<()> {
        for path in self.created.iter().rev() {
            let is_dir = path.is_dir();
            let empty = if is_dir { std::fs::read_dir(path)?.next().is_none() } else { std::fs::metadata(path)?.len() == 0 };
            if empty {
                (if is_dir { std::fs::remove_dir(path) } else { std::fs::remove_file(path) })
                    .with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str) -> (tempfile::TempDir, Result<()>) {
        let build = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(build.path().join("rootfs/bin")).unwrap();
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let result = Invocation::new(argv, BTreeMap::new(), Tools::Host).run(build.path(), "RUN", &Context::silent());
        (build, result)
    }

    #[test]
    fn a_command_changes_the_rootfs_and_nothing_else() {
        let outside = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let script = format!("pwd > created && echo x > /tmp/scratch && ! (echo bad > {}) 2>/dev/null", outside.path().display());
        let (build, result) = run(&script);
        result.unwrap();
        assert_eq!(std::fs::read_to_string(build.path().join("rootfs/created")).unwrap(), "/mnt/rootfs\n");
        assert_eq!(std::fs::read_to_string(outside.path()).unwrap(), "");
        assert!(!Path::new("/tmp/scratch").exists());
    }

    #[test]
    fn the_error_of_a_command_has_its_exit_code_and_last_lines() {
        let (_build, result) = run("for n in $(seq 30); do echo line $n; done; exit 7");
        let error = format!("{:#}", result.unwrap_err());
        assert!(error.contains("exit code 7") && error.contains("line 30") && !error.contains("line 5\n"), "{error}");
    }

    #[test]
    fn an_interrupted_command_ends() {
        let build = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(build.path().join("rootfs")).unwrap();
        let ctx = Context::silent();
        let cancel = ctx.cancel().clone();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            cancel.cancel();
        });
        let began = std::time::Instant::now();
        let argv = ["/bin/sh", "-c", "sleep 60 & wait"].map(str::to_owned).to_vec();
        Invocation::new(argv, BTreeMap::new(), Tools::Host).run(build.path(), "RUN", &ctx).unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
