//! The agent runs a command.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::time::timeout;

use super::Exec;
use super::protocol::ExitStatus;
use super::server::Responder;
use crate::program_output::LONGEST_LINE;
use crate::resource::System;

/// So many last bytes of each stream are kept.
const KEPT: usize = 4 << 20;
/// A process that a command left behind may hold its streams open; they are read this much longer.
const AFTERWARDS: Duration = Duration::from_millis(500);

/// Runs a command to its end, telling its lines.
pub async fn run(system: &System, exec: &Exec, speaker: &Responder) -> Result<(ExitStatus, Vec<u8>)> {
    let (program, arguments) = exec.argv.split_first().context("no program")?;
    let mut command = system.command(program);
    command.args(arguments).envs(&exec.env).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.current_dir(system.path(exec.cwd.as_deref().unwrap_or("/")));
    command.stdin(if exec.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn().with_context(|| format!("`{program}`"))?;
    if let (Some(mut stdin), Some(bytes)) = (child.stdin.take(), exec.stdin.clone()) {
        tokio::spawn(async move { stdin.write_all(&bytes).await }); // one that does not read says why by its status
    }
    let told = (!exec.quiet).then_some(speaker);
    let (mut stdout, mut stderr) = (Kept::default(), Kept::default());
    let streams = (child.stdout.take().context("stdout")?, child.stderr.take().context("stderr")?);
    let status = {
        let reading = async { tokio::join!(keep(streams.0, &mut stdout, told), keep(streams.1, &mut stderr, told)) };
        tokio::pin!(reading);
        tokio::select! {
            status = child.wait() => {
                timeout(AFTERWARDS, reading).await.ok();
                status
            }
            _ = &mut reading => child.wait().await,
        }
    }?;
    let ended = ExitStatus {
        status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
        stdout: stdout.bytes.len(),
        lost: stdout.lost + stderr.lost,
    };
    stdout.bytes.append(&mut stderr.bytes);
    Ok((ended, stdout.bytes))
}

/// The last bytes of a stream.
#[derive(Default)]
struct Kept {
    bytes: Vec<u8>,
    lost: u64,
}

impl Kept {
    fn cut(&mut self) {
        let surplus = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..surplus);
        self.lost += surplus as u64;
    }
}

async fn keep(stream: impl AsyncRead + Unpin, kept: &mut Kept, told: Option<&Responder>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    while (&mut stream).take(LONGEST_LINE).read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        if let Some(speaker) = told {
            speaker.line(String::from_utf8_lossy(&line).trim_end()).await;
        }
        kept.bytes.append(&mut line);
        if kept.bytes.len() > 2 * KEPT {
            kept.cut();
        }
    }
    kept.cut();
}
