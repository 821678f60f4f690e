//! The agent as a process: frames on stdin and stdout; at its end it finishes the step that it is in, and kills what is left.

use std::time::Duration;

use anyhow::Result;
use rustix::process::{Signal, getpgrp, getpid, kill_process_group, setpgid};

use super::change::activate;
use super::server::{handshake, serve};
use crate::resource::System;

/// The time between SIGTERM and SIGKILL for background processes that are left.
const GRACE_PERIOD: Duration = Duration::from_millis(500);

/// Serves the client on stdin and stdout, then kills everything that is left of what it started.
pub async fn serve_stdio() -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    setpgid(None, None).ok(); // fails for a session leader, which leads its group already
    let system = System::new("/");
    let handshake = handshake(&system)?;
    if let Err(error) = activate(&system) {
        tracing::warn!("{error:#}");
    }
    let result = serve(tokio::io::stdin(), tokio::io::stdout(), system, handshake).await;
    end_group().await;
    result
}

/// Kills all processes of this group, this one too. Systemd units are not in it; nobody waits for the others any more.
async fn end_group() {
    if getpgrp() != getpid() {
        return;
    }
    kill_process_group(getpgrp(), Signal::TERM).ok();
    tokio::time::sleep(GRACE_PERIOD).await;
    kill_process_group(getpgrp(), Signal::KILL).ok();
}
