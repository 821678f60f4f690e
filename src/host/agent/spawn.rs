//! Runs a command on the host for the agent.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use super::Exec;
use super::protocol::ExitStatus;
use super::server::Responder;
use crate::program_output::MAX_LINE;
use crate::resource::{GRACE_PERIOD, System, interrupted, signal_tree};

/// How many of the last bytes of each stream are kept.
const TAIL_BYTES: usize = 4 << 20;
/// How long to read on after the command ended: a background process may have its streams open for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a command may take to end after SIGKILL before it is only waited for.
const KILL_INTERVAL: Duration = Duration::from_secs(5);

/// Runs a command to its end, and sends the lines of its output as events unless it is quiet.
///
/// # Errors
/// Of kind `Interrupted` if the call is cancelled and the command does not succeed nevertheless.
pub async fn run(system: &System, exec: &Exec, responder: &Responder) -> Result<(ExitStatus, Vec<u8>)> {
    let (program, arguments) = exec.argv.split_first().context("empty command")?;
    let mut command = system.command(program);
    command.args(arguments).envs(&exec.env).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir(system.path(exec.cwd.as_deref().unwrap_or("/")));
    command.stdin(if exec.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().with_context(|| format!("`{program}`"))?;
    if let (Some(mut stdin), Some(bytes)) = (child.stdin.take(), exec.stdin.clone()) {
        tokio::spawn(async move { stdin.write_all(&bytes).await }); // a command that does not read its input reports why by its exit status
    }
    let lines_to = (!exec.quiet).then_some(responder);
    let (mut stdout, mut stderr) = (Tail::default(), Tail::default());
    let streams = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let process = child.id();
    let status = {
        let ended = async {
            let reading = async { tokio::join!(read_tail(streams.0, &mut stdout, lines_to), read_tail(streams.1, &mut stderr, lines_to)) };
            tokio::pin!(reading);
            tokio::select! {
                status = child.wait() => {
                    timeout(DRAIN_TIMEOUT, reading).await.ok();
                    status
                }
                _ = &mut reading => child.wait().await,
            }
        };
        tokio::pin!(ended);
        tokio::select! {
            status = &mut ended => status?,
            () = system.stop().cancelled() => {
                let status = stop(process, &mut ended).await?;
                if !status.success() {
                    return Err(interrupted(format!("`{program}`: stopped")).into());
                }
                status
            }
        }
    };
    let exit_status = ExitStatus {
        status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: stdout.bytes.len(),
        truncated_bytes: stdout.truncated + stderr.truncated,
    };
    stdout.bytes.append(&mut stderr.bytes);
    Ok((exit_status, stdout.bytes))
}

/// Sends SIGTERM to a command and its child processes, and SIGKILL after the grace period; returns its exit status.
async fn stop<T>(process: Option<u32>, mut ended: impl Future<Output = T> + Unpin) -> T {
    for (signal, patience) in [(Signal::TERM, GRACE_PERIOD), (Signal::KILL, KILL_INTERVAL)] {
        process.into_iter().for_each(|process| signal_tree(process, signal));
        if let Ok(result) = timeout(patience, &mut ended).await {
            return result;
        }
    }
    ended.await
}

/// The last bytes of a stream, and how many before them were dropped.
#[derive(Default)]
struct Tail {
    bytes: Vec<u8>,
    truncated: u64,
}

impl Tail {
    fn truncate(&mut self) {
        let surplus = self.bytes.len().saturating_sub(TAIL_BYTES);
        self.bytes.drain(..surplus);
        self.truncated += surplus as u64;
    }
}

async fn read_tail(stream: impl AsyncRead + Unpin, tail: &mut Tail, lines_to: Option<&Responder>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while (&mut stream).take(MAX_LINE).read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        if let Some(responder) = lines_to {
            responder.line(String::from_utf8_lossy(&line).trim_end()).await;
        }
        tail.bytes.append(&mut line);
        if tail.bytes.len() > 2 * TAIL_BYTES {
            tail.truncate();
        }
    }
    tail.truncate();
}
