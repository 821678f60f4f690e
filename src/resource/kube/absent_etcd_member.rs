//! A member that etcd does not have any more: removed by `etcdctl` on a control plane node.
//!
//! A member that is gone counts for the quorum until it is removed, and etcd refuses a second join of the same host.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Reconcile, Snapshot, State, System};
use crate::resource::system::run;

const PEER_PORT: u16 = 2380;

/// Defines `etcd`, which runs etcdctl: that of the host, else that of etcd's container. Ends at once if etcd is external.
const ETCDCTL: &str = r#"set -eu
pki=${Pki:-/etc/kubernetes/pki/etcd}
[ -f "$pki/healthcheck-client.crt" ] || exit 0
etcd() {
    if command -v etcdctl >/dev/null; then
        ETCDCTL_API=3 etcdctl "$@"
    else
        container=$(crictl ps --name '^etcd$' --state Running -q | head -n 1)
        [ -n "$container" ] || { echo "etcdctl: not found, and no container of etcd runs" >&2; exit 1; }
        crictl exec "$container" etcdctl "$@"
    fi
}
set -- --endpoints https://127.0.0.1:2379 --command-timeout 15s --cacert "$pki/ca.crt" --cert "$pki/healthcheck-client.crt" --key "$pki/healthcheck-client.key"
"#;

/// Prints the identifiers of the members whose peer URL is `$Peer`.
const FIND: &str = r#"members=$(etcd "$@" member list)
printf '%s\n' "$members" | while IFS=, read -r id status name peers rest; do
    [ "${peers# }" != "$Peer" ] || echo "$id"
done"#;

/// Removes the members whose peer URL is `$Peer`.
const REMOVE: &str = r#"members=$(etcd "$@" member list)
printf '%s\n' "$members" | while IFS=, read -r id status name peers rest; do
    [ "${peers# }" = "$Peer" ] || continue
    etcd "$@" member remove "$id"
done"#;

/// Prints the members and the health of their endpoints, a line of JSON each. Members that are gone make the second command fail.
const LIST: &str = r#"etcd "$@" member list -w json
etcd "$@" --command-timeout 4s endpoint health --cluster -w json 2>/dev/null || true"#;

/// A member of etcd that the cluster does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbsentEtcdMember {
    /// Its peer URL, such as `https://10.0.0.2:2380`.
    pub peer: String,
}

impl AbsentEtcdMember {
    /// The member of the host with this address, which the cluster must not have.
    pub fn of(host: IpAddr) -> Self {
        AbsentEtcdMember { peer: format!("https://{}", SocketAddr::new(host, PEER_PORT)) }
    }

    /// A shell script for a control plane node that prints two lines of JSON: the members of etcd, and the health of their endpoints. It
    /// prints nothing if etcd is external.
    pub fn list_script() -> String {
        format!("{ETCDCTL}{LIST}")
    }

    fn script(&self, system: &System, script: &str) -> Command {
        let mut command = system.command("sh");
        command.args(["-c", &format!("{ETCDCTL}{script}")]).env("Peer", &self.peer);
        command.env("Pki", system.path("/etc/kubernetes/pki/etcd"));
        command
    }
}

impl Reconcile for AbsentEtcdMember {
    fn title(&self) -> String {
        format!("etcd member {}", self.peer)
    }

    fn check(&self, system: &System) -> Result<State> {
        let mut found = Vec::new();
        run(self.script(system, FIND), None, "etcdctl member list", &mut |line| found.push(line.to_owned()))?;
        Ok(if found.is_empty() { State::Present } else { State::differs("a member of etcd", "removed") })
    }

    fn snapshot(&self, _: &System) -> Result<Snapshot> {
        Ok(json!({}))
    }

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        run(self.script(system, REMOVE), None, "etcdctl member remove", log)
    }

    /// Nothing to do: the member is no part of this host.
    fn undo(&self, _: &System, _: &Snapshot, _: &mut dyn FnMut(&str)) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;

    fn shell(host: &FakeHost) {
        std::os::unix::fs::symlink("/bin/sh", host.system.path("/fake-programs/sh")).unwrap();
    }

    #[test]
    fn only_the_member_with_the_peer_url_of_the_host_is_removed() {
        let host = FakeHost::new();
        host.write("/etc/kubernetes/pki/etcd/healthcheck-client.crt", "");
        host.write(
            "/members",
            "a1, started, m1, https://10.0.0.1:2380, https://10.0.0.1:2379, false\na2, unstarted, , https://10.0.0.2:2380, , true\n\
            a3, started, m3, https://10.0.0.22:2380, https://10.0.0.22:2379, false\n",
        );
        host.program(
            "etcdctl",
            "case \"$*\" in *'member list') cat $ROOT/members ;; *) echo \"${*##*member }\" >>$ROOT/calls; sed -i /^a2,/d $ROOT/members ;; esac",
        );
        shell(&host);
        let none = AbsentEtcdMember::of(IpAddr::from([10, 0, 0, 4]));
        assert_eq!(none.check(&host.system).unwrap(), State::Present);
        let second = AbsentEtcdMember::of(IpAddr::from([10, 0, 0, 2]));
        assert!(matches!(second.check(&host.system).unwrap(), State::Differs { .. }));
        second.apply(&host.system, &mut |_| ()).unwrap();
        assert_eq!(host.read("/calls"), "remove a2\n");
        assert_eq!(second.check(&host.system).unwrap(), State::Present);
    }

    #[test]
    fn without_etcd_of_its_own_a_cluster_has_no_members() {
        let host = FakeHost::new();
        host.write("/fake-programs/x", "");
        shell(&host);
        assert_eq!(AbsentEtcdMember::of(IpAddr::from([10, 0, 0, 2])).check(&host.system).unwrap(), State::Present);
    }
}
