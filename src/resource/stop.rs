//! Stops a script that is running for a call which the client cancelled: SIGTERM, a grace period, SIGKILL.

use std::collections::VecDeque;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio_util::sync::CancellationToken;

use super::System;
use super::system::check_status;
use crate::error::{Failure, Kind};
use crate::program_output::each_line;

/// The time that a script or command has between SIGTERM and SIGKILL.
pub const GRACE_PERIOD: Duration = Duration::from_secs(30);
/// How often to look whether the script ended or is to be stopped.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The same for a script that has closed its output.
const CLOSED_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How long to read on after the script ended: a background process may have its output open for ever.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a script and logs its lines, as [`super::run`] does. If the call is stopped meanwhile, the script and its child processes get
/// SIGTERM, and after [`GRACE_PERIOD`] SIGKILL.
///
/// # Errors
/// Of kind `Interrupted` if the script was stopped and did not succeed nevertheless.
pub fn run_stoppable(system: &System, command: Command, what: &str, log: &mut dyn FnMut(&str)) -> Result<()> {
    run_with_grace(command, system.stop(), GRACE_PERIOD, what, log)
}

/// The failure of work that the user interrupted.
pub fn interrupted(message: impl Into<String>) -> Failure {
    Failure::new(Kind::Interrupted, message).hint("run the same command again to resume")
}

/// Sends a signal to a process and all its descendants.
pub fn signal_tree(root: u32, signal: Signal) {
    for process in process_tree(root) {
        if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
            kill_process(process, signal).ok(); // it may have ended meanwhile
        }
    }
}

fn run_with_grace(mut command: Command, stop: &CancellationToken, grace: Duration, what: &str, log: &mut dyn FnMut(&str)) -> Result<()> {
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut script = Running { child: command.spawn().with_context(|| what.to_owned())?, stopped: None, killed: false };
    drop(command); // it has the write ends of the pipe open
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || each_line(reader, |line| drop(sender.send(line.to_owned()))));
    let mut last = VecDeque::with_capacity(8);
    let (mut open, mut ended) = (true, None);
    let status = loop {
        match if open { lines.recv_timeout(POLL_INTERVAL) } else { Err(RecvTimeoutError::Disconnected) } {
            Ok(line) => {
                log(&line);
                if last.len() == 8 {
                    last.pop_front();
                }
                last.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if open => open = false,
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(CLOSED_POLL_INTERVAL),
        }
        ended = ended.or(script.child.try_wait()?.map(|status| (status, Instant::now())));
        match ended {
            Some((status, at)) if !open || at.elapsed() > DRAIN_TIMEOUT => break status,
            None if stop.is_cancelled() => script.stop(grace),
            _ => {}
        }
    };
    script.check_status(what, status, &last.make_contiguous().join("\n"), grace)
}

struct Running {
    child: Child,
    /// When it got SIGTERM.
    stopped: Option<Instant>,
    killed: bool,
}

impl Running {
    fn stop(&mut self, grace: Duration) {
        match self.stopped {
            None => {
                signal_tree(self.child.id(), Signal::TERM);
                self.stopped = Some(Instant::now());
            }
            Some(at) if at.elapsed() > grace => {
                signal_tree(self.child.id(), Signal::KILL);
                self.killed = true;
            }
            Some(_) => {}
        }
    }

    fn check_status(&self, what: &str, status: ExitStatus, text: &str, grace: Duration) -> Result<()> {
        if self.stopped.is_none() || status.success() {
            return check_status(what, status, text);
        }
        let how = if self.killed { format!("killed, {} s after SIGTERM", grace.as_secs()) } else { "stopped by SIGTERM".to_owned() };
        Err(interrupted(format!("`{what}`: {how}")).into())
    }
}

/// A process and its descendants, parents first (proc_pid_stat(5)).
fn process_tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let process: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
            let (_, after_name) = stat.rsplit_once(')')?;
            Some((process, after_name.split_whitespace().nth(1)?.parse().ok()?))
        })
        .collect();
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&parent) = tree.get(next) {
        tree.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        next += 1;
    }
    tree
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    /// Runs a shell line, stops it as soon as it says `ready`, and returns the result, its lines and the seconds it took.
    fn stopped(line: &str, grace: Duration) -> (Result<()>, Vec<String>, Duration) {
        let stop = CancellationToken::new();
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        let (mut lines, began) = (Vec::new(), Instant::now());
        let result = run_with_grace(command, &stop, grace, "script", &mut |line| {
            lines.push(line.to_owned());
            if line == "ready" {
                stop.cancel();
            }
        });
        (result, lines, began.elapsed())
    }

    #[test]
    fn a_script_that_is_stopped_gets_sigterm_and_a_grace_period() {
        let second = Duration::from_secs(1);
        let cases = [
            ("it ends with its children", "echo ready; sleep 50; echo late", 20 * second, Some("stopped by SIGTERM"), 0..10),
            (
                "it may clean up",
                "trap 'echo cleaned; exit 1' TERM; echo ready; sleep 50 & wait",
                20 * second,
                Some("stopped by SIGTERM"),
                0..10,
            ),
            ("it may finish", "trap '' TERM; echo ready; sleep 1; echo finished", 20 * second, None, 0..15),
            ("it is killed", "trap '' TERM; echo ready; sleep 50; echo late", second, Some("killed, 1 s after SIGTERM"), 0..10),
            ("its output is closed", "echo ready; exec >&- 2>&-; sleep 50", 20 * second, Some("stopped by SIGTERM"), 0..10),
            ("it ended before", "echo ready", 20 * second, None, 0..10),
        ];
        for (name, line, grace, expected, seconds) in cases {
            let (result, lines, took) = stopped(line, grace);
            let error = result.err();
            assert_eq!(error.as_ref().map(kind_of), expected.map(|_| Kind::Interrupted), "{name}: {error:?}");
            assert!(error.is_none_or(|error| error.to_string().contains(expected.unwrap_or_default())), "{name}");
            assert!(seconds.contains(&took.as_secs()) && !lines.contains(&"late".to_owned()), "{name}: {took:?} {lines:?}");
        }
        assert_eq!(stopped("trap 'echo cleaned; exit 1' TERM; echo ready; sleep 50 & wait", second * 20).1, ["ready", "cleaned"]);
    }

    #[test]
    fn a_background_process_does_not_delay_its_script() {
        let began = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", "echo started; sleep 20 &"]);
        run_with_grace(command, &CancellationToken::new(), Duration::ZERO, "script", &mut |_| ()).unwrap();
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_failure_without_a_stop_is_what_it_was() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo because >&2; exit 3"]);
        let error = run_with_grace(command, &CancellationToken::new(), Duration::ZERO, "script", &mut |_| ()).unwrap_err();
        assert!(kind_of(&error) == Kind::Failed && error.to_string().contains("because"), "{error:#}");
    }
}
