//! A member of a Kubernetes cluster, as kubeadm makes it: what its first master and those that join have in common.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::kubeadm_reset::clean;
use super::pod_network::Network;
use super::{State, System, kubeadm_unit, kubectl};
use crate::error::Failure;

/// How a host is on which kubeadm failed or was ended.
pub const UNFINISHED: &str = "kubeadm was begun and did not end well";
const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
const KUBELET_PORT: u16 = 10248;
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(240);

/// How this host stands to a cluster.
pub fn check(system: &System, master: bool) -> Result<State> {
    if kubeadm_unit::is_running(system) {
        return Ok(State::differs("kubeadm still runs", "a member"));
    }
    if kubeadm_unit::is_unfinished(system) {
        return Ok(State::differs(UNFINISHED, "a member"));
    }
    if !system.path(KUBELET).exists() {
        return Ok(State::Absent);
    }
    if master && !kubectl::is_there(system) {
        return Ok(State::differs("a worker", "a master"));
    }
    Ok(unhealthy(system, master).map_or(State::Present, |why| State::differs(why, "healthy")))
}

/// Runs kubeadm unless this host is a member already, after cleaning up what an earlier try left; then waits for its health.
pub fn apply(
    system: &System,
    master: bool,
    kubeadm: impl FnOnce(&mut dyn FnMut(&str)) -> Result<()>,
    say: &mut dyn FnMut(&str),
) -> Result<()> {
    kubeadm_unit::wait_until_idle(system)?;
    if kubeadm_unit::is_unfinished(system) {
        say("an earlier try did not end well: cleaning up");
        clean(system, &Network::of(system), say)?;
    }
    if !system.path(KUBELET).exists() {
        kubeadm(say)?;
    }
    wait_for_health(system, master)
}

fn wait_for_health(system: &System, master: bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Some(why) = unhealthy(system, master) {
        if Instant::now() > deadline {
            return Err(Failure::verification(format!("after {} s still: {why}", PATIENCE.as_secs()))
                .hint("look at `journalctl -u kubelet` and `crictl ps -a` on the host")
                .into());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn unhealthy(system: &System, master: bool) -> Option<String> {
    if !kubelet_is_healthy() {
        return Some("the kubelet does not answer".to_owned());
    }
    if !master {
        return None;
    }
    match kubectl::run(system, &["get", "--raw=/readyz"]) {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("the API server is not ready ({})", kubectl::complaint(&output))),
        Err(error) => Some(format!("{error:#}")),
    }
}

/// Asks the kubelet's health endpoint, which is on the loopback only.
fn kubelet_is_healthy() -> bool {
    let ask = || -> std::io::Result<bool> {
        let limit = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, KUBELET_PORT)), limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4096).read_to_string(&mut answer)?;
        Ok(answer.lines().next().is_some_and(|status| status.contains(" 200 ")))
    };
    ask().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::Lab;

    #[test]
    fn a_host_without_kubelet_config_is_no_member_and_a_begun_one_is_told() {
        let lab = Lab::new();
        assert_eq!(check(&lab.system, false).unwrap(), State::Absent);
        lab.write("/var/lib/sealift/kubeadm/begun", "begun\n");
        assert!(matches!(check(&lab.system, true).unwrap(), State::Differs { .. }));
    }

    #[test]
    fn a_worker_is_no_master() {
        let lab = Lab::new();
        lab.write(KUBELET, "x");
        assert_eq!(check(&lab.system, true).unwrap(), State::differs("a worker", "a master"));
    }
}
