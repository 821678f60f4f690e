//! What `kubeadm init` and `kubeadm join` have in common: whether this host is a healthy member of a cluster.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::kubeadm_reset::reset_node;
use super::pod_network::Network;
use super::{State, System, kubeadm_unit, kubectl};
use crate::error::Failure;

/// The state of a host on which kubeadm failed or was killed.
pub const UNFINISHED: &str = "an earlier kubeadm run failed";
const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
const KUBELET_PORT: u16 = 10248;
const POLL_INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(240);

/// Whether this host is a healthy member of a cluster; of its control plane if `master`.
pub fn check(system: &System, master: bool) -> Result<State> {
    if kubeadm_unit::is_running(system) {
        return Ok(State::differs("kubeadm is still running", "a member"));
    }
    if kubeadm_unit::is_unfinished(system) {
        return Ok(State::differs(UNFINISHED, "a member"));
    }
    if !system.path(KUBELET).exists() {
        return Ok(State::Absent);
    }
    if master && !kubectl::is_configured(system) {
        return Ok(State::differs("a worker", "a control plane node"));
    }
    Ok(health_problem(system, master).map_or(State::Present, |problem| State::differs(problem, "healthy")))
}

/// Runs kubeadm unless this host is a member already, after resetting what a failed run left; of a member, starts a kubelet that was
/// stopped. Then waits until it is healthy.
///
/// # Errors
/// Of kind `Verification` if the kubelet or the API server is not healthy after 240 seconds.
pub fn apply(
    system: &System,
    master: bool,
    kubeadm: impl FnOnce(&mut dyn FnMut(&str)) -> Result<()>,
    log: &mut dyn FnMut(&str),
) -> Result<()> {
    kubeadm_unit::wait_until_idle(system)?;
    if kubeadm_unit::is_unfinished(system) {
        log("an earlier kubeadm run failed: resetting the node");
        reset_node(system, &Network::of(system), log)?;
    }
    if !system.path(KUBELET).exists() {
        kubeadm(log)?;
    } else if !kubelet_is_healthy() {
        system.run(&["systemctl", "start", "kubelet.service"], log)?; // somebody stopped it; a running one starts no second time
    }
    wait_for_health(system, master)
}

fn wait_for_health(system: &System, master: bool) -> Result<()> {
    let deadline = Instant::now() + TIMEOUT;
    while let Some(problem) = health_problem(system, master) {
        if Instant::now() > deadline {
            return Err(Failure::verification(format!("not healthy after {} s: {problem}", TIMEOUT.as_secs()))
                .hint("see `journalctl -u kubelet` and `crictl ps -a` on the host")
                .into());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn health_problem(system: &System, master: bool) -> Option<String> {
    if !kubelet_is_healthy() {
        return Some("the kubelet does not answer on port 10248".to_owned());
    }
    if !master {
        return None;
    }
    match kubectl::run(system, &["get", "--raw=/readyz"]) {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("the API server is not ready ({})", kubectl::last_stderr_lines(&output))),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Probes the kubelet's `/healthz`, which listens on loopback only.
fn kubelet_is_healthy() -> bool {
    let probe = || -> std::io::Result<bool> {
        let timeout = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, KUBELET_PORT)), timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut response = String::new();
        stream.take(4096).read_to_string(&mut response)?;
        Ok(response.lines().next().is_some_and(|status| status.contains(" 200 ")))
    };
    probe().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    #[test]
    fn a_host_without_kubelet_config_is_absent_and_a_failed_run_is_drift() {
        let host = FakeHost::new();
        assert_eq!(check(&host.system, false).unwrap(), State::Absent);
        host.write("/var/lib/sealift/kubeadm/begun", "begun\n");
        assert!(matches!(check(&host.system, true).unwrap(), State::Differs { .. }));
    }

    #[test]
    fn a_worker_is_not_a_control_plane_node() {
        let host = FakeHost::new();
        host.write(KUBELET, "x");
        assert_eq!(check(&host.system, true).unwrap(), State::differs("a worker", "a control plane node"));
    }
}
