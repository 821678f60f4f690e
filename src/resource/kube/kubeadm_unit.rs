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
    let kubelet = fatal_line(&kubelet_journal(system));
    // kubeadm only says that the kubelet does not answer
    let last = last_lines(&visible_lines(system), if kubelet.is_some() { 3 } else { 12 }).join("\n  ");
    let why = kubelet.map(|line| format!("\n  kubelet: {}", redact_secrets(&line))).unwrap_or_default();
    let verb = arguments.first().map_or("", String::as_str);
    Failure::failed(format!("kubeadm {verb} failed:{why}\n  {last}"))
        .hint(format!("see {LOG} and `journalctl -u kubelet` on the host"))
        .hint("run the same command again: it resets the node and tries again")
        .into()
}

/// The last lines, each once: kubeadm repeats what it waits for.
fn last_lines(lines: &[String], most: usize) -> Vec<&str> {
    let mut unique: Vec<&str> = Vec::new();
    for line in lines {
        unique.retain(|known| known != line);
        unique.push(line);
    }
    unique.split_off(unique.len().saturating_sub(most))
}

/// What the kubelet wrote lately; empty if that cannot be read.
fn kubelet_journal(system: &System) -> String {
    let mut command = system.command("journalctl");
    let output = command.args(["--unit=kubelet", "--since=-20min", "--lines=500", "--output=cat", "--no-pager", "--quiet"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

/// The last line with which the kubelet ended, without klog's header. Versions say it as a fatal line of klog (up to 1.22), as an error
/// `command failed` (from 1.23), or as the error of its flags.
fn fatal_line(journal: &str) -> Option<String> {
    let is_fatal = |line: &&str| {
        let klog = |level: char| line.starts_with(level) && line.get(1..5).is_some_and(|day| day.bytes().all(|byte| byte.is_ascii_digit()));
        klog('F')
            || (klog('E')
                && ["\"command failed\"", "\"Failed to run kubelet\"", "failed to run Kubelet"].iter().any(|end| line.contains(end)))
            || ["Error: ", "panic: "].iter().any(|start| line.starts_with(start))
    };
    let line = journal.lines().map(str::trim_end).rfind(is_fatal)?;
    let text = if line.starts_with(['F', 'E']) && line.as_bytes()[1].is_ascii_digit() {
        line.split_once("] ").map_or(line, |(_, text)| text)
    } else {
        line
    };
    Some(text.chars().take(600).collect())
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
    fn a_failure_has_the_line_with_which_the_kubelet_ended_and_kubeadms_lines_once() {
        let host = crate::resource::tests::FakeHost::new();
        let check = "[kubelet-check] The HTTP call equal to 'curl -sSL http://localhost:10248/healthz' failed with error: refused.";
        host.write(
            LOG,
            &format!("[init] Using x\n{}error execution phase wait-control-plane: couldn't initialize\n", format!("{check}\n").repeat(10)),
        );
        let failed = || kubeadm_error(&host.system, &["init".to_owned()]).to_string();
        host.program("journalctl", "exit 1");
        assert_eq!(failed().matches("kubelet-check").count(), 1, "{}", failed());
        assert!(failed().starts_with("kubeadm init failed:\n  [init] Using x\n"), "{}", failed());
        host.program(
            "journalctl",
            "echo 'I1201 server.go:1] fine'; echo 'E1201 00:00:00.1 7 run.go:74] \"command failed\" err=\"swap is on\"'; echo restarted",
        );
        assert!(failed().starts_with("kubeadm init failed:\n  kubelet: \"command failed\" err=\"swap is on\"\n"), "{}", failed());
    }

    #[test]
    fn every_version_of_the_kubelet_says_with_one_line_why_it_ended() {
        let cases = [
            (
                "F1130 09:12:01.123456    1234 server.go:198] failed to load Kubelet config file /x\ngoroutine 1 [running]:",
                Some("failed to load Kubelet config file /x"),
            ),
            (
                "E1130 09:12:01.1 1 server.go:294] \"Failed to run kubelet\" err=\"misconfiguration: cgroup\"",
                Some("\"Failed to run kubelet\" err=\"misconfiguration: cgroup\""),
            ),
            (
                "E1130 09:12:01.1 1 run.go:72] \"command failed\" err=\"a\"\nE1130 09:13:01.1 1 run.go:72] \"command failed\" err=\"b\"",
                Some("\"command failed\" err=\"b\""),
            ),
            ("Error: unknown flag: --network-plugin\nUsage:", Some("Error: unknown flag: --network-plugin")),
            ("E1130 09:12:01.1 1 kubelet.go:1] \"node not found\"\nFailed with result", None),
            ("", None),
        ];
        for (journal, expected) in cases {
            assert_eq!(fatal_line(journal).as_deref(), expected, "{journal}");
        }
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
