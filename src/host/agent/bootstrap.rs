//! Uploads the agent to a host and starts it there as root.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow};
use russh::ChannelMsg;
use russh::client::Msg;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, DuplexStream};
use tokio::sync::watch;
use tokio::time::{Duration, sleep, timeout};

use super::AgentBinaries;
use super::client::Client;
use super::protocol::Handshake;
use crate::error::{Failure, Kind};
use crate::events::{Context, Unit};
use crate::host::Target;
use crate::host::ssh::Session;
use crate::image::Blob;
use crate::program_output::printable;

/// The prompt that sudo is told to print.
const PROMPT: &str = "[sealift] sudo password:";
/// The start of our lines of output; a login shell may print others before.
const MARKER: &str = "sealift-agent:";
/// How long sudo or the login shell may be silent before the agent starts.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The same after the begin of a line that is no answer to anything: a question that nobody answers.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the upload may stand still.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How often to start again where another sealift's `reset` removes the agent while it starts.
const ATTEMPTS: usize = 4;
/// The exit status of our script when its file is gone, and the shell's when the program is (sh(1)).
const GONE: [u32; 2] = [75, 127];
/// How long to read on after a command ended: its last lines may arrive later.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts the agent, and uploads it first if the host does not have it.
///
/// # Errors
/// Of kind `Verification` if the agent's digest is wrong even after a second upload. Failures of sudo and a full disk have hints.
pub async fn start(session: &Session, target: &Target, agents: &AgentBinaries, ctx: &Context) -> Result<(Client, Handshake)> {
    let output = session.output(&format!("/bin/sh -c 'echo {MARKER} $(uname -m) $(id -u)'")).await;
    let output = output.map_err(|error| {
        let Target { user, address, .. } = target;
        let failure = Failure::over(&error, "detect the host's architecture");
        error.context(failure.hint(format!(
            "the login shell of {user} must run commands: `ssh {user}@{address} true` must succeed; with `nologin`, or an `exit` in a start file, it does not"
        )))
    })?;
    let facts: Vec<&str> = output.lines().find_map(after_marker).unwrap_or_default().split_whitespace().collect();
    let [machine, uid] = facts[..] else {
        return Err(Failure::failed(format!("the host did not report architecture and user, but {:?}", output.trim()))
            .hint("check that the login shell of the user on the host can run `/bin/sh`, `uname` and `id`")
            .into());
    };
    let (file, blob) = {
        let (agents, machine) = (agents.clone(), machine.to_owned());
        tokio::task::spawn_blocking(move || agents.find(&machine)).await??
    };
    let bootstrap = Bootstrap { session, target, file: &file, blob, is_root: uid == "0", ctx };
    let (mut reinstall, mut attempt) = (false, 1);
    loop {
        match bootstrap.run(reinstall).await {
            Ok((client, handshake)) if handshake.digest == blob.digest => return Ok((client, handshake)),
            Ok(_) if reinstall => break,
            Ok(_) => reinstall = true,
            Err(Failed { is_gone: true, error }) if attempt < ATTEMPTS => {
                tracing::info!("{}: the agent was removed while it started: {error:#}", target.address);
                attempt += 1;
            }
            Err(Failed { error, .. }) => return Err(error),
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

/// A start that failed.
struct Failed {
    /// The agent's file was removed meanwhile: start again.
    is_gone: bool,
    error: anyhow::Error,
}

impl Bootstrap<'_> {
    /// Starts it; `reinstall` uploads it even if the host has it.
    async fn run(&self, reinstall: bool) -> Result<(Client, Handshake), Failed> {
        let started = self.session.start(&self.command(reinstall)).await;
        let channel = started.map_err(|error| Failed { is_gone: false, error })?;
        let (read, write) = channel.split();
        let mut stdin = write.make_writer();
        let (near_end, far_end) = tokio::io::duplex(1 << 20);
        let remote = Arc::new(RemoteOutput::default());
        tokio::spawn(forward_output(read, write, far_end, remote.clone()));
        let mut stdout = BufReader::with_capacity(256 << 10, near_end);
        let started = async {
            self.answer_sudo_and_upload(&mut stdout, &mut stdin, &remote).await?;
            let peer = self.target.address.to_string();
            Client::start(stdout, stdin, &peer, self.ctx).await
        };
        match started.await {
            Ok(started) => Ok(started),
            Err(error) => Err(Failed { is_gone: remote.is_gone().await, error: remote.explain(error) }),
        }
    }

    /// A command line without single quotes inside, which every login shell passes to `sh` unchanged.
    fn command(&self, reinstall: bool) -> String {
        let (short, size, gone) = (self.blob.digest.short(), self.blob.size, GONE[0]);
        let reinstall = if reinstall { "rm -f $b; " } else { "" };
        let script = format!(
            "umask 022; d=/var/lib/sealift/bin; b=$d/sealift-{short}; t=$d/.new-{short}.$$; {reinstall}\
             if test -x $b && test $(wc -c <$b) -eq {size}; then echo {MARKER}have; else echo {MARKER}want; \
             mkdir -p $d && head -c {size} >$t && test $(wc -c <$t) -eq {size} && chmod 755 $t && mv $t $b || \
             {{ s=1; test -e $t || s={gone}; rm -f $t; echo cannot write $b >&2; exit $s; }}; fi; exec $b agent"
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
        let mut activity = remote.activity.subscribe();
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
                    if let Some(word) = after_marker(&String::from_utf8_lossy(&line)) {
                        break word.trim().to_owned();
                    }
                    line.clear();
                }
                _ = activity.changed() => {}
                () = sleep(if remote.question().is_some() { QUESTION_TIMEOUT } else { START_TIMEOUT }) => {
                    return Err(self.no_start(remote.question()).into());
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

    /// Sudo or the login shell waits for something that does not come.
    fn no_start(&self, question: Option<String>) -> Failure {
        let Target { user, address, .. } = self.target;
        let who = if self.is_root { "the login shell" } else { "sudo" };
        let Some(question) = question else {
            let seconds = START_TIMEOUT.as_secs();
            return Failure::network(format!("{user}@{address}: no answer from {who} for {seconds} s"))
                .hint(format!("see why `ssh {user}@{address} {}` does not end", if self.is_root { "true" } else { "sudo true" }));
        };
        Failure::failed(format!("{user}@{address}: {who} asks `{question}`, which sealift cannot answer")).hint(match self.is_root {
            true => "the start files of the user's login shell must ask nothing",
            false => "give the user `NOPASSWD` in sudoers, or log in as root; of sudo's questions only that for the password is answered",
        })
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
            let write = timeout(UPLOAD_TIMEOUT, stdin.write_all(&chunk[..count])).await;
            let stands_still = || Failure::network(format!("upload of the agent: no progress for {} s", UPLOAD_TIMEOUT.as_secs()));
            write.map_err(|_| stands_still())?.context("upload the agent")?;
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
    /// Changes with everything that arrives.
    activity: watch::Sender<u64>,
    exit_status: watch::Sender<Option<u32>>,
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

    /// The begin of a line on stderr, which has no end: a question, but for sudo's for the password.
    fn question(&self) -> Option<String> {
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        open_question(&String::from_utf8_lossy(&stderr))
    }

    /// Whether the command ended because its file was removed.
    async fn is_gone(&self) -> bool {
        let mut exit_status = self.exit_status.subscribe();
        let ended = timeout(DRAIN_TIMEOUT, exit_status.wait_for(Option::is_some)).await;
        matches!(ended, Ok(Ok(status)) if status.is_some_and(|status| GONE.contains(&status)))
    }

    /// Adds stderr to an error without a kind and hints, and a hint for known causes.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        if error.downcast_ref::<Failure>().is_some() {
            return error;
        }
        let stderr = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&stderr).replace(PROMPT, "");
        error.context(no_agent(&printable(text.trim())))
    }
}

/// The failure of a start, with a hint if what the host says has a known cause.
fn no_agent(text: &str) -> Failure {
    let message = if text.is_empty() { "start the agent".into() } else { format!("start the agent: {text}") };
    let failure = Failure::new(Kind::Failed, message);
    let says = |part: &str| text.contains(part);
    if says("must have a tty") {
        failure.hint("disable `requiretty` for this user in sudoers")
    } else if says("not in the sudoers file") || says("not allowed to") {
        failure.hint("log in as root, or as a user who may use sudo")
    } else if says("sudo") && (says("not found") || says("No such file")) {
        failure.hint("install sudo on the host, or log in as root")
    } else if says("No space left") {
        failure.hint("free disk space in /var/lib/sealift on the host")
    } else if says("/var/lib/sealift/bin/sealift-") && says("Permission denied") && !says("cannot write") {
        Failure { kind: Kind::Preflight, ..failure }
            .hint("the host does not let programs in /var/lib/sealift run: mostly its filesystem is mounted noexec, as hardened hosts mount /var")
            .hint("mount it without noexec (`findmnt -T /var/lib/sealift`), or give /var/lib/sealift a filesystem of its own")
    } else {
        failure
    }
}

/// What follows the marker in a line. The start files of a login shell may have printed the begin of that line.
fn after_marker(line: &str) -> Option<&str> {
    Some(line.split_once(MARKER)?.1)
}

/// The text after the last line end, if it is not the prompt that is answered.
fn open_question(stderr: &str) -> Option<String> {
    let last = stderr.rsplit(['\n', '\r']).next().unwrap_or_default().trim();
    (!last.is_empty() && !last.ends_with(PROMPT)).then(|| last.to_owned())
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
        remote.activity.send_modify(|count| *count += 1);
        match message {
            Some(ChannelMsg::Data { data }) if out.write_all(&data).await.is_err() => break,
            Some(ChannelMsg::ExtendedData { data, .. }) => remote.add_stderr(&data),
            Some(ChannelMsg::ExitStatus { exit_status }) => {
                remote.exit_status.send_replace(Some(exit_status));
                exited = true;
            }
            Some(ChannelMsg::ExitSignal { .. }) => exited = true,
            Some(ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    remote.ended.send_replace(true);
    write.close().await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_lines_are_found_after_what_a_login_shell_printed() {
        for (line, expected) in [
            ("sealift-agent: x86_64 0", Some(" x86_64 0")),
            ("\u{1b}]0;host\u{7}sealift-agent: x86_64 0", Some(" x86_64 0")),
            ("Welcome! sealift-agent:want\n", Some("want\n")),
            ("Welcome to this host", None),
        ] {
            assert_eq!(after_marker(line), expected, "{line:?}");
        }
    }

    #[test]
    fn known_causes_have_a_hint() {
        let exec = "/bin/sh: 1: exec: /var/lib/sealift/bin/sealift-0123456789ab: Permission denied";
        for (text, kind, hint) in [
            ("bash: line 1: sudo: command not found", Kind::Failed, "install sudo"),
            ("sh: 1: sudo: not found", Kind::Failed, "install sudo"),
            (exec, Kind::Preflight, "noexec"),
            ("sh: line 1: /var/lib/sealift/bin/sealift-0123456789ab: Permission denied", Kind::Preflight, "noexec"),
            ("cannot write /var/lib/sealift/bin/sealift-0123456789ab: Permission denied", Kind::Failed, ""),
            ("head: write error: No space left on device", Kind::Failed, "free disk space"),
            ("ops is not in the sudoers file", Kind::Failed, "may use sudo"),
        ] {
            let failure = no_agent(text);
            assert_eq!((failure.kind, failure.message.contains(text)), (kind, true), "{text}");
            assert_eq!(failure.hints.is_empty(), hint.is_empty(), "{text}");
            assert!(failure.hints.first().is_none_or(|first| first.contains(hint)), "{text}: {:?}", failure.hints);
        }
    }

    #[test]
    fn what_has_no_line_end_is_a_question_but_for_the_prompt() {
        let prompt = format!("We trust you have received the usual lecture\n{PROMPT} ");
        for (stderr, expected) in [
            ("", None),
            ("sudo: a password is required\n", None),
            (prompt.as_str(), None),
            ("Verification code: ", Some("Verification code:")),
            ("sudo: Account or password is expired, reset your password and try again\nCurrent password: ", Some("Current password:")),
            (&format!("{prompt}\nVerification code: "), Some("Verification code:")),
        ] {
            assert_eq!(open_question(stderr).as_deref(), expected, "{stderr:?}");
        }
    }
}
