//! The member of etcd that a master leaves behind whose join failed: it counts for the quorum, and a second try of the same
//! host would be refused.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::events::Context;
use crate::host::{Exec, Host};

const PEER_PORT: u16 = 2380;

/// Removes the members at `$Peer`; clusters whose etcd is elsewhere have nothing to remove here.
const SCRIPT: &str = r#"set -eu
pki=${Pki:-/etc/kubernetes/pki/etcd}
[ -f "$pki/healthcheck-client.crt" ] || exit 0
command -v etcdctl >/dev/null || { echo "no etcdctl: a member that a failed join left stays" >&2; exit 0; }
etcd() {
    ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2379 --command-timeout 15s \
        --cacert "$pki/ca.crt" --cert "$pki/healthcheck-client.crt" --key "$pki/healthcheck-client.key" "$@"
}
members=$(etcd member list)
printf '%s\n' "$members" | while IFS=, read -r id status name peers rest; do
    [ "${peers# }" = "$Peer" ] || continue
    etcd member remove "$id"
done"#;

/// Removes the member at the address of a host that is no master yet; asked on the first master. Must come before what is left
/// of the member on the host is cleaned up: as long as it runs, there is a quorum.
pub async fn remove(first_master: &Host, host: IpAddr, ctx: &Context) -> Result<()> {
    let peer = format!("https://{}", SocketAddr::new(host, PEER_PORT));
    let command = Exec::shell(SCRIPT).env("Peer", &peer);
    first_master.exec(&command, ctx).await?.success("etcdctl member remove").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn only_the_member_at_the_host_s_address_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let etcdctl = dir.path().join("etcdctl");
        let list = "a1, started, m1, https://10.0.0.1:2380, https://10.0.0.1:2379, false\\n\
            a2, unstarted, , https://10.0.0.2:2380, , true\\na3, started, m3, https://10.0.0.22:2380, https://10.0.0.22:2379, false\\n";
        let fake = format!(
            "#!/bin/sh\ncase \"$*\" in *'member list') printf '{list}' ;; *) echo \"${{*##*member }}\" >>{}/did ;; esac\n",
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
        assert!(!dir.path().join("did").exists());
        run("https://10.0.0.2:2380");
        assert_eq!(std::fs::read_to_string(dir.path().join("did")).unwrap(), "remove a2\n");
    }
}
