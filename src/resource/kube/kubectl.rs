//! Runs kubectl on a control plane node.

use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::System;
use crate::error::Failure;
use crate::paths::KUBECTL_CACHE;

/// The administrator's kubeconfig, which kubeadm writes on control plane nodes.
pub const ADMIN: &str = "/etc/kubernetes/admin.conf";

/// Runs kubectl as the administrator, and returns its output whatever its exit status is.
pub fn run(system: &System, arguments: &[&str]) -> Result<Output> {
    let config = system.path(ADMIN);
    let mut command = system.command("kubectl");
    command
        .arg("--kubeconfig")
        .arg(&config)
        .arg("--cache-dir")
        .arg(system.path(KUBECTL_CACHE))
        .arg("--request-timeout=15s")
        .args(arguments);
    command.output().context("kubectl")
}

/// Runs kubectl and returns its stdout; an exit status other than 0 is an error with the last lines of stderr.
pub fn output(system: &System, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = run(system, arguments)?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Failure::failed(format!("kubectl {}: {}", arguments.join(" "), last_stderr_lines(&output))).into())
}

/// Runs `kubectl get … -o json` and parses its output.
pub fn get_json(system: &System, arguments: &[&str]) -> Result<Value> {
    let text = output(system, &[arguments, &["-o", "json"]].concat())?;
    serde_json::from_slice(&text).with_context(|| format!("kubectl {}", arguments.join(" ")))
}

/// The last three lines of stderr, joined by `; `.
pub fn last_stderr_lines(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(3)..].join("; ")
}

/// Whether this host has the administrator's kubeconfig, as control plane nodes have.
pub fn is_configured(system: &System) -> bool {
    system.path(Path::new(ADMIN)).is_file()
}
