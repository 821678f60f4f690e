//! Runs kubeadm in a transient systemd unit: it continues when the agent or the operator's machine goes away, so that a change to
//! etcd or certificates is never cut off in the middle.

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
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// How long kubeadm may run: longer than all of its own limits together, and the pulls of images, which have none.
pub const KUBEADM_TIMEOUT: Duration = Duration::from_secs(30 * 60);

/// The file that exists from the start of kubeadm until it succeeds.
fn marker() -> &'static Path {
    Path::new(KUBEADM_BEGUN)
}

/// Whether kubeadm was started and did not succeed.
pub fn is_unfinished(system: &System) -> bool {
    system.path(marker()).exists()
}

/// Removes the marker of a failed run.
pub fn clear_unfinished(system: &System) -> Result<()> {
    system.write_text(marker(), "")
}

/// Whether the unit is active.
pub fn is_running(system: &System) -> bool {
    let state = system.command("systemctl").args(["is-active", UNIT]).output();
    state.is_ok_and(|output| matches!(output.stdout.trim_ascii(), b"active" | b"activating" | b"deactivating"))
}

/// Waits until no kubeadm is running.
///
/// # Errors
/// Fails after [`KUBEADM_TIMEOUT`].
pub fn wait_until_idle(system: &System) -> Result<()> {
    follow_log(system, &mut |_| ())
}

/// Runs `kubeadm` with these arguments and `config` as its `--config` file, and waits for its end. Its phases and errors are logged,
/// with secrets redacted.
pub fn run(system: &System, arguments: &[String], config: &[u8], log: &mut dyn FnMut(&str)) -> Result<()> {
    atomic_file::write(&system.path(CONFIG), config, 0o600)?;
    atomic_file::write(&system.path(LOG), b"", 0o600)?;
    system.write_text(marker(), "begun\n")?;
    system.run(&["systemctl", "reset-failed", UNIT], &mut |_| ()).ok();
    let line = format!(
        "export PATH={PATH}; kubeadm {} --config {CONFIG} >{LOG} 2>&1 && rm -f {KUBEADM_BEGUN}; status=$?; rm -f {CONFIG}; exit $status",
        arguments.join(" ")
    );
    system.run(&["systemd-run", "--quiet", "--unit", UNIT, "--description=kubeadm, run by sealift", "/bin/sh", "-c", &line], log)?;
    follow_log(system, log)?;
    if is_unfinished(system) {
        return Err(kubeadm_error(system, arguments));
    }
    fs_err::remove_file(system.path(LOG)).with_context(|| format!("log of kubeadm {LOG}"))
}

fn follow_log(system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
    let (deadline, mut printed) = (Instant::now() + KUBEADM_TIMEOUT, 0);
    loop {
        let running = is_running(system);
        for line in visible_lines(system).iter().skip(printed) {
            printed += 1;
            log(line);
        }
        if !running {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::failed(format!("kubeadm is still running after {} minutes", KUBEADM_TIMEOUT.as_secs() / 60))
                .hint(format!("see `systemctl status {UNIT}` and {LOG} on the host"))
                .into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// The lines of kubeadm's output worth showing: phases and errors, with secrets redacted.
fn visible_lines(system: &System) -> Vec<String> {
    let text = std::fs::read(system.path(LOG)).unwrap_or_default();
    let whole = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    String::from_utf8_lossy(&text[..whole]).lines().filter(|line| is_visible(line)).map(redact_secrets).collect()
}

fn is_visible(line: &str) -> bool {
    ["[", "\t[", "error", "W", "I", "E", "Unfortunately", "timed out"].iter().any(|start| line.starts_with(start))
}

/// Replaces tokens and keys, which are recognised by their form: `abcdef.0123456789abcdef`, 64 hex digits.
fn redact_secrets(line: &str) -> String {
    let part_of_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.';
    let words = line.split(|c| !part_of_word(c)).map(|word| word.trim_matches('.'));
    let is_secret = |word: &&str| {
        let token = word.len() == 23 && word.as_bytes()[6] == b'.' && word.matches('.').count() == 1;
        token || (word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    words.filter(is_secret).fold(line.to_owned(), |line, secret| line.replace(secret, "…"))
}

fn kubeadm_error(system: &System, arguments: &[String]) -> anyhow::Error {
    let lines = visible_lines(system);
    let last = lines[lines.len().saturating_sub(12)..].join("\n  ");
    let verb = arguments.first().map_or("", String::as_str);
    Failure::failed(format!("kubeadm {verb} failed:\n  {last}"))
        .hint(format!("see {LOG} and `journalctl -u kubelet` on the host"))
        .hint("run the same command again: it resets the node and tries again")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubeadm_ends_by_its_own_limits_first() {
        // of `kubeadm join` of a control plane node, in minutes, each silent; see constants.go of kubeadm
        let limits = [("discovery", 5), ("TLS bootstrap", 5), ("etcd member added", 2), ("etcd member promoted", 2), ("health", 4)];
        let pulls = 10;
        assert!(KUBEADM_TIMEOUT.as_secs() / 60 >= limits.iter().map(|(_, minutes)| minutes).sum::<u64>() + pulls);
    }

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
            assert_eq!(is_visible(line).then(|| redact_secrets(line)).as_deref(), shown, "{line}");
        }
    }
}
