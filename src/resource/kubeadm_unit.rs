//! kubeadm as a unit of its own: it goes on when the agent or the operator's machine goes away, so that what it does to
//! etcd and certificates is never cut off in the middle.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::{PATH, System};
use crate::atomic_file;
use crate::error::Failure;
use crate::paths::KUBEADM_BEGUN;

const UNIT: &str = "sealift-kubeadm.service";
const CONFIG: &str = "/run/sealift/kubeadm.yaml";
const LOG: &str = "/run/sealift/kubeadm.log";
const PAUSE: Duration = Duration::from_millis(300);
/// Longer than all of kubeadm's own time-outs together.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Says that kubeadm was begun; it goes when kubeadm ends well.
fn begun() -> &'static Path {
    Path::new(KUBEADM_BEGUN)
}

/// Whether kubeadm was begun and did not end well.
pub fn is_unfinished(system: &System) -> bool {
    system.path(begun()).exists()
}

/// Forgets that kubeadm was begun.
pub fn remove_unit(system: &System) -> Result<()> {
    system.write_text(begun(), "")
}

/// Whether kubeadm runs now.
pub fn is_running(system: &System) -> bool {
    let state = system.command("systemctl").args(["is-active", UNIT]).output();
    state.is_ok_and(|output| matches!(output.stdout.trim_ascii(), b"active" | b"activating" | b"deactivating"))
}

/// Waits for the end of a kubeadm that runs.
pub fn wait_until_idle(system: &System) -> Result<()> {
    follow(system, &mut |_| ())
}

/// Runs `kubeadm` with these arguments and `--config` naming a file with `config`, and waits for its end.
pub fn run(system: &System, arguments: &[String], config: &[u8], say: &mut dyn FnMut(&str)) -> Result<()> {
    atomic_file::write(&system.path(CONFIG), config, 0o600)?;
    atomic_file::write(&system.path(LOG), b"", 0o600)?;
    system.write_text(begun(), "begun\n")?;
    system.run(&["systemctl", "reset-failed", UNIT], &mut |_| ()).ok();
    let line = format!(
        "export PATH={PATH}; kubeadm {} --config {CONFIG} >{LOG} 2>&1 && rm -f {KUBEADM_BEGUN}; status=$?; rm -f {CONFIG}; exit $status",
        arguments.join(" ")
    );
    system.run(&["systemd-run", "--quiet", "--unit", UNIT, "--description=kubeadm, run by sealift", "/bin/sh", "-c", &line], say)?;
    follow(system, say)?;
    if is_unfinished(system) {
        return Err(failed(system, arguments));
    }
    fs_err::remove_file(system.path(LOG)).context("log of kubeadm")
}

fn follow(system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
    let (deadline, mut told) = (Instant::now() + DEADLINE, 0);
    loop {
        let running = is_running(system);
        for line in log(system).iter().skip(told) {
            told += 1;
            say(line);
        }
        if !running {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::failed(format!("kubeadm runs for more than {} minutes", DEADLINE.as_secs() / 60)).into());
        }
        std::thread::sleep(PAUSE);
    }
}

/// The lines of kubeadm's output that tell something: its phases, and errors; without what is secret in them.
fn log(system: &System) -> Vec<String> {
    let text = std::fs::read(system.path(LOG)).unwrap_or_default();
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    String::from_utf8_lossy(&text[..whole]).lines().filter(|line| is_telling(line)).map(without_secrets).collect()
}

fn is_telling(line: &str) -> bool {
    ["[", "\t[", "error", "W", "I", "E", "Unfortunately", "timed out"].iter().any(|start| line.starts_with(start))
}

/// Tokens and keys are known by their form: `abcdef.0123456789abcdef`, 64 hex digits.
fn without_secrets(line: &str) -> String {
    let part_of_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let words = line.split(|c| !part_of_word(c)).map(|word| word.trim_matches('.'));
    let is_secret = |word: &&str| {
        let token = word.len() == 23 && word.as_bytes()[6] == b'.' && word.matches('.').count() == 1;
        token || (word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    words.filter(is_secret).fold(line.to_owned(), |line, secret| line.replace(secret, "…"))
}

fn failed(system: &System, arguments: &[String]) -> anyhow::Error {
    let lines = log(system);
    let last = lines[lines.len().saturating_sub(12)..].join("\n  ");
    let verb = arguments.first().map_or("", String::as_str);
    Failure::failed(format!("kubeadm {verb} did not end well:\n  {last}"))
        .hint(format!("its whole output is in {LOG} on the host; the kubelet's is in `journalctl -u kubelet`"))
        .hint("the same command again cleans up and tries once more")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_the_output_are_not_shown() {
        let cases = [
            ("[init] Using Kubernetes version: v1.20.2", Some("[init] Using Kubernetes version: v1.20.2")),
            ("\t[ERROR Port-6443]: Port 6443 is in use", Some("\t[ERROR Port-6443]: Port 6443 is in use")),
            ("  kubeadm join apiserver.cluster.local:6443 --token abcdef.0123456789abcdef \\", None),
            ("[bootstrap-token] Using token: abcdef.0123456789abcdef", Some("[bootstrap-token] Using token: …")),
            ("error: could not find token \"abcdef.0123456789abcdef\".", Some("error: could not find token \"…\".")),
            ("a4e7b2d0a4e7b2d0a4e7b2d0a4e7b2d0a4e7b2d0a4e7b2d0a4e7b2d0a4e7b2d0", None),
        ];
        for (line, shown) in cases {
            assert_eq!(is_telling(line).then(|| without_secrets(line)).as_deref(), shown, "{line}");
        }
    }
}
