//! Uploads the agent to a host and starts it there as root.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use russh::ChannelMsg;
use russh::client::Msg;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::watch;
use tokio::time::{Duration, timeout};

use super::AgentBinaries;
use super::client::Client;
use super::protocol::Handshake;
use crate::error::{Failure, Kind};
use crate::events::{Context, Unit};
use crate::host::Target;
use crate::host::ssh::Session;
use crate::image::Blob;

/// The prompt that sudo is told to print.
const PROMPT: &str = "[sealift] sudo password:";
/// The start of our lines of output; a login shell may print others before.
const MARKER: &str = "sealift-agent:";
/// How long to read on after a command ended: its last lines may arrive later.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the agent, and uploads it first if the host does not have it.
///
/// # Errors
/// Of kind `Verification` if the agent's digest is wrong even after a second upload. Failures of sudo and a full disk have hints.
pub async fn start(session: &Session, target: &Target, agents: &AgentBinaries, ctx: &Context) -> Result<(Client, Handshake)> {
    let output =
        session.output(&format!("/bin/sh -c 'echo {MARKER} $(uname -m) $(id -u)'")).await.context("detect the host's architecture")?;
    let facts: Vec<&str> = output.lines().find_map(|line| line.strip_prefix(MARKER)).unwrap_or_default().split_whitespace().collect();
    let [machine, uid] = facts[..] else {
        return Err(Failure::failed(format!("the host did not report architecture and user, but {:?}", output.trim()))
            .hint("check that the login shell of the user on the host can run `/bin/sh`, `uname` and `id`")
            .into());
    };
    let (file, blob) = {
        let (agents, machine) = (agents.clone(), machine.to_owned());
        tokio::task::spawn_blocking(move || agents.find(&machine)).await??
    };
    for reinstall in [false, true] {
        let (client, handshake) = Bootstrap { session, target, file: &file, blob, is_root: uid == "0", ctx }.run(reinstall).await?;
        if handshake.digest == blob.digest {
            return Ok((client, handshake));
        }
    }
    Err(Failure::verification(format!("the agent was uploaded twice, but its digest is not {}", blob.digest))
        .hint("check the disk of the host below /var/lib/sealift/bin (`dmesg`, `smartctl`)")
        .into())
}

struct Bootstrap<'a> {
    session: &'a Session,
    target: &'a Target,
    file: &'a Path,
    blob: Blob,
    is_root: bool,
    ctx: &'a Context,
}

impl Bootstrap<'_> {
    /// Starts it; `reinstall` uploads it even if the host has it.
    async fn run(&self, reinstall: bool) -> Result<(Client, Handshake)> {
        let channel = self.session.start(&self.command(reinstall)).await?;
        let (read, write) = channel.split();
        let mut stdin = write.make_writer();
        let (near_end, far_end) = tokio::io::duplex(1 << 20);
        let remote = Arc::new(RemoteOutput::default());
        tokio::spawn(forward_output(read, write, far_end, remote.clone()));
        let mut stdout = BufReader::with_capacity(256 << 10, near_end);
        let started = async {
            self.answer_sudo_and_upload(&mut stdout, &mut stdin, &remote).await?;
            Client::start(stdout, stdin).await
        };
        started.await.map_err(|error| remote.explain(error))
    }

    /// A command line without single quotes inside, which every login shell passes to `sh` unchanged.
    fn command(&self, reinstall: bool) -> String {
        let (short, size) = (self.blob.digest.short(), self.blob.size);
        let reinstall = if reinstall { "rm -f $b; " } else { "" };
        let script = format!(
            "umask 022; d=/var/lib/sealift/bin; b=$d/sealift-{short}; t=$d/.new-{short}.$$; {reinstall}\
             if test -x $b && test $(wc -c <$b) -eq {size}; then echo {MARKER}have; else echo {MARKER}want; \
             mkdir -p $d && head -c {size} >$t && test $(wc -c <$t) -eq {size} && chmod 755 $t && mv $t $b || \
             {{ rm -f $t; echo cannot write $b >&2; exit 1; }}; fi; exec $b agent"
        );
        match self.is_root {
            true => format!("/bin/sh -c '{script}'"),
            false => format!("sudo -S -p '{PROMPT}' -- /bin/sh -c '{script}'"),
        }
    }

    /// Answers sudo's prompt, and uploads the binary if the host does not have it.
    async fn answer_sudo_and_upload<W: AsyncWrite + Unpin>(
        &self,
        stdout: &mut BufReader<DuplexStream>,
        stdin: &mut W,
        remote: &RemoteOutput,
    ) -> Result<()> {
        let mut prompts = remote.prompts.subscribe();
        let mut line = Vec::new();
        let mut answered = 0;
        let word = loop {
            tokio::select! {
                prompt_count = prompts.wait_for(|&prompt_count| prompt_count > answered), if answered < 2 => {
                    answered = *prompt_count?;
                    self.answer_sudo(answered, stdin).await?;
                }
                count = stdout.read_until(b'\n', &mut line) => {
                    anyhow::ensure!(count? > 0, "the agent exited before it started");
                    if let Some(word) = String::from_utf8_lossy(&line).trim().strip_prefix(MARKER) {
                        break word.to_owned();
                    }
                    line.clear();
                }
            }
        };
        if word != "want" {
            return Ok(());
        }
        // a write to a channel whose peer is gone may block for ever
        let mut ended = remote.ended.subscribe();
        let uploaded = tokio::select! {
            uploaded = self.upload(stdin) => uploaded,
            _ = ended.wait_for(|&ended| ended) => Err(anyhow!("the upload was cut off")),
        };
        if uploaded.is_err() {
            timeout(DRAIN_TIMEOUT, ended.wait_for(|&ended| ended)).await.ok();
        }
        uploaded
    }

    async fn answer_sudo<W: AsyncWrite + Unpin>(&self, prompt_count: usize, stdin: &mut W) -> Result<()> {
        let Target { user, address, sudo_password, auth, .. } = self.target;
        let refusal = |what: &str| Failure::failed(format!("{user}@{address}: {what}"));
        let password: &SecretString = sudo_password.as_ref().or(auth.password.as_ref()).ok_or_else(|| {
            refusal("sudo: a password is required")
                .hint("set `ssh.sudo.passwdFrom` in the Clusterfile, or give the user `NOPASSWD` in sudoers")
        })?;
        if prompt_count > 1 {
            return Err(refusal("sudo: wrong password").hint("check the password for sudo").into());
        }
        stdin.write_all(format!("{}\n", password.expose_secret()).as_bytes()).await?;
        Ok(stdin.flush().await?)
    }

    async fn upload<W: AsyncWrite + Unpin>(&self, stdin: &mut W) -> Result<()> {
        let task = self.ctx.task(format!("{}: agent", self.target.address), Some(self.blob.size), Unit::Bytes);
        let mut file = tokio::fs::File::open(self.file).await?;
        let mut chunk = vec![0; 256 << 10];
        loop {
            let count = file.read(&mut chunk).await?;
            if count == 0 {
                break;
            }
            self.ctx.check()?;
            stdin.write_all(&chunk[..count]).await.context("upload the agent")?;
            task.advance(count as u64);
        }
        stdin.flush().await?;
        task.done("");
        Ok(())
    }
}

/// What a running command sends besides stdout.
#[derive(Default)]
struct RemoteOutput {
    stderr: Mutex<Vec<u8>>,
    prompts: watch::Sender<usize>,
    ended: watch::Sender<bool>,
}

impl RemoteOutput {
    fn add_stderr(&self, bytes: &[u8]) {
        let mut stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        stderr.extend_from_slice(bytes);
        let surplus = stderr.len().saturating_sub(16 << 10);
        stderr.drain(..surplus);
        let prompts = String::from_utf8_lossy(&stderr).matches(PROMPT).count();
        self.prompts.send_if_modified(|count| std::mem::replace(count, prompts) != prompts);
    }

    /// Adds stderr to an error without a kind and hints, and a hint for known causes.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if error.downcast_ref::<Failure>().is_some() {
            return error;
        }
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&stderr).replace(PROMPT, "");
        let text = text.trim();
        let failure =
            Failure::new(Kind::Failed, if text.is_empty() { "start the agent".into() } else { format!("start the agent: {text}") });
        error.context(if text.contains("must have a tty") {
            failure.hint("disable `requiretty` for this user in sudoers")
        } else if text.contains("not in the sudoers file") || text.contains("not allowed to") {
            failure.hint("log in as root, or as a user who may use sudo")
        } else if text.contains("No space left") {
            failure.hint("free disk space in /var/lib/sealift on the host")
        } else {
            failure
        })
    }
}

/// Forwards the output of the channel: stdout to `out`, stderr to `remote`.
async fn forward_output(
    mut read: russh::ChannelReadHalf,
    write: russh::ChannelWriteHalf<Msg>,
    mut out: DuplexStream,
    remote: Arc<RemoteOutput>,
) {
    let mut exited = false;
    loop {
        // sshd may send the exit status before the last lines of stderr, which say why
        let message = if exited { timeout(DRAIN_TIMEOUT, read.wait()).await.ok().flatten() } else { read.wait().await };
        match message {
            Some(ChannelMsg::Data { data }) if out.write_all(&data).await.is_err() => break,
            Some(ChannelMsg::ExtendedData { data, .. }) => remote.add_stderr(&data),
            Some(ChannelMsg::ExitStatus { .. } | ChannelMsg::ExitSignal { .. }) => exited = true,
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    remote.ended.send_replace(true);
    write.close().await.ok();
}
