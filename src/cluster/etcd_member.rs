//! Removes the etcd member that a failed join of a master leaves behind: it counts for the quorum, and etcd would refuse a
//! second join of the same host.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::events::Context;
use crate::host::{Exec, Host};

const PEER_PORT: u16 = 2380;

/// Removes the members whose peer URL is `$Peer`. Does nothing if etcd is external.
const SCRIPT: &str = r#"set -eu
pki=${Pki:-/etc/kubernetes/pki/etcd}
[ -f "$pki/healthcheck-client.crt" ] || exit 0
command -v etcdctl >/dev/null || { echo "etcdctl: not found; the etcd member of a failed join, if any, is not removed" >&2; exit 0; }
etcd() {
    ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2379 --command-timeout 15s \
        --cacert "$pki/ca.crt" --cert "$pki/healthcheck-client.crt" --key "$pki/healthcheck-client.key" "$@"
}
members=$(etcd member list)
printf '%s\n' "$members" | while IFS=, read -r id status name peers rest; do
    [ "${peers# }" = "$Peer" ] || continue
    etcd member remove "$id"
done"#;

/// Removes the etcd member of a host whose join failed, by `etcdctl` on the first master. Call it before the leftovers on that
/// host are cleaned up: as long as the member runs, etcd has a quorum.
pub async fn remove(first_master: &Host, host: IpAddr, ctx: &Context) -> Result<()> {
    let peer = format!("https://{}", SocketAddr::new(host, PEER_PORT));
    let command = Exec::shell(SCRIPT).env("Peer", &peer);
    first_master.exec(&command, ctx).await?.ensure_success("etcdctl member remove").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_the_member_with_the_peer_url_of_the_host_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let etcdctl = dir.path().join("etcdctl");
        let list = "a1, started, m1, https://10.0.0.1:2380, https://10.0.0.1:2379, false\\n\
            a2, unstarted, , https://10.0.0.2:2380, , true\\na3, started, m3, https://10.0.0.22:2380, https://10.0.0.22:2379, false\\n";
        let fake = format!(
            "#!/bin/sh\ncase \"$*\" in *'member list') printf '{list}' ;; *) echo \"${{*##*member }}\" >>{}/calls ;; esac\n",
            dir.path().display()
        );
        std::fs::write(&etcdctl, fake).unwrap();
        std::fs::set_permissions(&etcdctl, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(dir.path().join("healthcheck-client.crt"), "").unwrap();
        let path = format!("{}:/usr/bin:/bin", dir.path().display());
        let run = |peer: &str| {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", SCRIPT]).env("PATH", &path).env("Pki", dir.path()).env("Peer", peer);
            assert!(command.status().unwrap().success());
        };
        run("https://10.0.0.4:2380");
        assert!(!dir.path().join("calls").exists());
        run("https://10.0.0.2:2380");
        assert_eq!(std::fs::read_to_string(dir.path().join("calls")).unwrap(), "remove a2\n");
    }
}
