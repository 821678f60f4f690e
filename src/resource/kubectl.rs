//! Questions to a cluster's API server, asked on a master.

use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::System;
use crate::error::Failure;

/// The administrator's kubeconfig that kubeadm writes on masters.
pub const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// Runs kubectl as the administrator; whatever its exit status is.
pub fn run(system: &System, arguments: &[&str]) -> Result<Output> {
    let config = system.path(ADMIN);
    let mut command = system.command("kubectl");
    command.arg("--kubeconfig").arg(&config).arg("--request-timeout=15s").args(arguments);
    command.output().context("kubectl")
}

/// Runs kubectl and gives its stdout; any other status than 0 is an error with what it said.
pub fn output(system: &System, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = run(system, arguments)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Failure::failed(format!("kubectl {}: {}", arguments.join(" "), complaint(&output))).into())
}

/// Asks for objects as JSON.
pub fn json(system: &System, arguments: &[&str]) -> Result<Value> {
    let text = output(system, &[arguments, &["-o", "json"]].concat())?;
    serde_json::from_slice(&text).with_context(|| format!("kubectl {}", arguments.join(" ")))
}

/// What kubectl said on stderr, at most its last three lines.
pub fn complaint(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// Whether this host is a master that has an administrator's kubeconfig.
pub fn is_there(system: &System) -> bool {
    system.path(Path::new(ADMIN)).is_file()
}
