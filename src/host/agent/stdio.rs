//! The agent as a process: frames on stdin and stdout, and nothing left behind at the end.

use std::time::Duration;

use anyhow::Result;
use rustix::process::{Signal, getpgrp, getpid, kill_process_group, setpgid};

use super::server::{activate, hello, serve};
use crate::resource::System;

/// What it runs has this long to end by itself.
const GRACE: Duration = Duration::from_millis(500);

/// Serves the runner at the other end of stdin and stdout, then ends everything it started.
pub async fn serve_stdio() -> Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    setpgid(None, None).ok(); // refused to the leader of a session, which leads its group already
    let system = System::new("/");
    let hello = hello()?;
    if let Err(error) = activate(&system, &hello.digest) {
        tracing::warn!("{error:#}");
    }
    let served = serve(tokio::io::stdin(), tokio::io::stdout(), system, hello).await;
    end_group().await;
    served
}

/// Ends all processes of this group, this one too: units live elsewhere, what is left here nobody waits for.
async fn end_group() {
    if getpgrp() != getpid() {
        return;
    }
    kill_process_group(getpgrp(), Signal::TERM).ok();
    tokio::time::sleep(GRACE).await;
    kill_process_group(getpgrp(), Signal::KILL).ok();
}
