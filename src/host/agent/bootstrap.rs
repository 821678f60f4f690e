//! Brings the agent to a host and starts it there as root.

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

/// What sudo asks with.
const PROMPT: &str = "[sealift] sudo password:";
/// What our lines of output start with; login shells may say other things before.
const MARK: &str = "sealift-agent:";
/// How long a command that has ended may take to have its last words read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts the agent, uploading it before if it is not there.
pub async fn start(session: &Session, target: &Target, agents: &AgentBinaries, ctx: &Context) -> Result<(Client, Handshake)> {
    let said = session.output(&format!("/bin/sh -c 'echo {MARK} $(uname -m) $(id -u)'")).await.context("look at the host")?;
    let facts: Vec<&str> = said.lines().find_map(|line| line.strip_prefix(MARK)).unwrap_or_default().split_whitespace().collect();
    let [machine, uid] = facts[..] else {
        return Err(Failure::failed(format!("the host does not tell what it is, but {:?}", said.trim())).into());
    };
    let (file, blob) = {
        let (agents, machine) = (agents.clone(), machine.to_owned());
        tokio::task::spawn_blocking(move || agents.find(&machine)).await??
    };
    for fresh in [false, true] {
        let (link, hello) = Bootstrap { session, target, file: &file, blob, is_root: uid == "0", ctx }.run(fresh).await?;
        if hello.digest == blob.digest {
            return Ok((link, hello));
        }
    }
    Err(Failure::verification(format!("the agent's binary is damaged on its way or on the host (want {})", blob.digest)).into())
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
    /// Starts it; `fresh` does not trust a binary that is there.
    async fn run(&self, fresh: bool) -> Result<(Client, Handshake)> {
        let channel = self.session.start(&self.command(fresh)).await?;
        let (read, write) = channel.split();
        let mut stdin = write.make_writer();
        let (end, far_end) = tokio::io::duplex(1 << 20);
        let said = Arc::new(Said::default());
        tokio::spawn(pump(read, write, far_end, said.clone()));
        let mut stdout = BufReader::with_capacity(256 << 10, end);
        let started = async {
            self.until_asked(&mut stdout, &mut stdin, &said).await?;
            Client::start(stdout, stdin).await
        };
        started.await.map_err(|error| said.explain(error))
    }

    /// One line without single quotes, which every login shell hands to `sh` as it is.
    fn command(&self, fresh: bool) -> String {
        let (short, size) = (self.blob.digest.short(), self.blob.size);
        let fresh = if fresh { "rm -f $b; " } else { "" };
        let script = format!(
            "umask 022; d=/var/lib/sealift/bin; b=$d/sealift-{short}; t=$d/.new-{short}.$$; {fresh}\
             if test -x $b && test $(wc -c <$b) -eq {size}; then echo {MARK}have; else echo {MARK}want; \
             mkdir -p $d && head -c {size} >$t && test $(wc -c <$t) -eq {size} && chmod 755 $t && mv $t $b || \
             {{ rm -f $t; echo cannot write $b >&2; exit 1; }}; fi; exec $b agent"
        );
        match self.is_root {
            true => format!("/bin/sh -c '{script}'"),
            false => format!("sudo -S -p '{PROMPT}' -- /bin/sh -c '{script}'"),
        }
    }

    /// Gets past sudo, and brings the binary if it is wanted.
    async fn until_asked<W: AsyncWrite + Unpin>(&self, stdout: &mut BufReader<DuplexStream>, stdin: &mut W, said: &Said) -> Result<()> {
        let mut prompts = said.prompts.subscribe();
        let mut line = Vec::new();
        let mut answered = 0;
        let word = loop {
            tokio::select! {
                asked = prompts.wait_for(|&asked| asked > answered), if answered < 2 => {
                    answered = *asked?;
                    self.answer_sudo(answered, stdin).await?;
                }
                count = stdout.read_until(b'\n', &mut line) => {
                    anyhow::ensure!(count? > 0, "the agent did not start");
                    if let Some(word) = String::from_utf8_lossy(&line).trim().strip_prefix(MARK) {
                        break word.to_owned();
                    }
                    line.clear();
                }
            }
        };
        if word != "want" {
            return Ok(());
        }
        // a channel whose other end is gone may take bytes no more, and say nothing
        let mut ended = said.ended.subscribe();
        let uploaded = tokio::select! {
            uploaded = self.upload(stdin) => uploaded,
            _ = ended.wait_for(|&ended| ended) => Err(anyhow!("the upload broke off")),
        };
        if uploaded.is_err() {
            timeout(LAST_WORDS, ended.wait_for(|&ended| ended)).await.ok();
        }
        uploaded
    }

    async fn answer_sudo<W: AsyncWrite + Unpin>(&self, asked: usize, stdin: &mut W) -> Result<()> {
        let Target { user, address, sudo_password, auth, .. } = self.target;
        let refused = |what: &str| Failure::failed(format!("{user}@{address}: {what}"));
        let password: &SecretString = sudo_password.as_ref().or(auth.password.as_ref()).ok_or_else(|| {
            refused("sudo asks for a password and none is given").hint("give one, or let the user use sudo without (NOPASSWD)")
        })?;
        if asked > 1 {
            return Err(refused("sudo does not accept the password").hint("check the password for sudo").into());
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

/// What a started command says besides stdout.
#[derive(Default)]
struct Said {
    stderr: Mutex<Vec<u8>>,
    prompts: watch::Sender<usize>,
    ended: watch::Sender<bool>,
}

impl Said {
    fn take(&self, bytes: &[u8]) {
        let mut stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        stderr.extend_from_slice(bytes);
        let surplus = stderr.len().saturating_sub(16 << 10);
        stderr.drain(..surplus);
        let prompts = String::from_utf8_lossy(&stderr).matches(PROMPT).count();
        self.prompts.send_if_modified(|known| std::mem::replace(known, prompts) != prompts);
    }

    /// Adds what the other end said to an error that does not explain itself.
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
            failure.hint("switch `requiretty` off for this user in sudoers")
        } else if text.contains("not in the sudoers file") || text.contains("not allowed to") {
            failure.hint("log in as root or as a user who may use sudo")
        } else if text.contains("No space left") {
            failure.hint("free some space in /var/lib/sealift on the host")
        } else {
            failure
        })
    }
}

/// Carries what the channel brings: stdout to `out`, stderr to where it is looked at.
async fn pump(mut read: russh::ChannelReadHalf, write: russh::ChannelWriteHalf<Msg>, mut out: DuplexStream, said: Arc<Said>) {
    let mut exited = false;
    loop {
        // sshd may tell the exit status first and the last words on stderr, which say why, after it
        let message = if exited { timeout(LAST_WORDS, read.wait()).await.ok().flatten() } else { read.wait().await };
        match message {
            Some(ChannelMsg::Data { data }) if out.write_all(&data).await.is_err() => break,
            Some(ChannelMsg::ExtendedData { data, .. }) => said.take(&data),
            Some(ChannelMsg::ExitStatus { .. } | ChannelMsg::ExitSignal { .. }) => exited = true,
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    said.ended.send_replace(true);
    write.close().await.ok();
}
