//! What an image installs on a host is applied, repaired, upgraded, and undone without a trace.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::hosts::Hosts;
use common::images::put;
use oci_spec::image::{ImageManifestBuilder, MediaType};
use sealift::distribute::{Distribution, distribute};
use sealift::events::Context;
use sealift::host::{AgentBinaries, Host, HostKeyPolicy, HostKeys, Target};
use sealift::image::Blob;
use sealift::layer::{Compression, Entry, PackOptions, Source, Tree, pack};
use sealift::resource::{
    Directory, Endpoint, File, HostFiles, HostsEntry, KernelModule, Limit, PathMapping, RegistryMirror, Resource, Rootfs, Script, State,
    SwapOff, Symlink, Sysctl, SystemdUnit,
};
use sealift::store::Store;

const UNIT: &str = "[Unit]\nDescription=demo\n[Service]\nExecStart=/usr/bin/demo\n[Install]\nWantedBy=multi-user.target\n";

/// Everything below these directories, as one text.
const SNAPSHOT: &str = "find /etc /usr /opt -xdev -printf '%p %y %m %l\\n' | sort; find /etc /opt -xdev -type f -exec sha256sum {} + | sort; \
    sysctl net.ipv4.ip_forward; systemctl is-enabled demo.service; systemctl is-active demo.service; ls -A /var/lib/sealift";

fn entry(source: Source, mode: u32) -> Entry {
    Entry { source, mode, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() }
}

fn tree(greeting: &str) -> Tree {
    let mut tree = Tree::new();
    for (path, mode, text) in [
        ("host/usr/bin/demo", 0o755, "#!/bin/sh\nexec sleep infinity\n".to_owned()),
        ("host/etc/systemd/system/demo.service", 0o644, UNIT.to_owned()),
        ("host/etc/demo/demo.conf.tmpl", 0o640, format!("{greeting} {{{{ .HostName }}}}\n")),
        ("scripts/install.sh", 0o644, "echo installing for $HostName; touch /opt/installed\n".to_owned()),
        ("scripts/check.sh", 0o644, "test -e /opt/installed\n".to_owned()),
        ("scripts/uninstall.sh", 0o644, "rm -f /opt/installed\n".to_owned()),
    ] {
        for parent in PathBuf::from(path).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            tree.insert(parent.to_owned(), entry(Source::Directory, 0o755));
        }
        tree.insert(path.into(), entry(Source::Bytes(text.into_bytes()), mode));
    }
    tree
}

/// Packs a root file system into the store: its manifest, and all blobs that a host needs for it.
fn rootfs(store: &Store, greeting: &str) -> (Blob, Vec<Blob>) {
    let options = PackOptions { compression: Compression::Zstd, newest_mtime: 0, max_layers: 10 };
    let layers = pack(&tree(greeting), &options, store, &Context::silent()).unwrap();
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = put(store, MediaType::ImageConfig, config.to_string().as_bytes());
    let layers: Vec<_> = layers.into_iter().map(|layer| layer.descriptor).collect();
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config.clone())
        .layers(layers.clone())
        .build()
        .unwrap();
    let manifest = put(store, MediaType::ImageManifest, manifest.to_string().unwrap().as_bytes());
    let blobs = layers.iter().chain([&config, &manifest]).map(|descriptor| Blob::try_from(descriptor).unwrap()).collect();
    (Blob::try_from(&manifest).unwrap(), blobs)
}

fn resources(manifest: Blob) -> Vec<Resource> {
    let env = BTreeMap::from([("HostName".to_owned(), "h1".to_owned())]);
    let script = Script {
        name: "install".into(),
        directory: "/var/lib/sealift/rootfs/current".into(),
        apply: "scripts/install.sh".into(),
        check: Some("scripts/check.sh".into()),
        undo: Some("scripts/uninstall.sh".into()),
        public: env.keys().cloned().collect(),
        env: env.clone(),
    };
    vec![
        Resource::Sysctl(Sysctl::exactly("net.ipv4.ip_forward", 1)),
        Resource::KernelModule(KernelModule::new("overlay")),
        Resource::Limit(Limit::new("nofile", 1_048_576)),
        Resource::HostsEntry(HostsEntry::new("apiserver.cluster.local", [10, 0, 0, 1])),
        Resource::Directory(Directory::new("/opt/demo/deep", 0o700)),
        Resource::File(File::new("/etc/motd", "welcome\n", 0o644)),
        Resource::Symlink(Symlink::new("/opt/demo/link", "deep")),
        Resource::RegistryMirror(RegistryMirror::all_registries([Endpoint::new("http://10.0.0.1:5000")])),
        Resource::Rootfs(Rootfs { manifest, current: true }),
        Resource::HostFiles(HostFiles { manifest: manifest.digest, env, mappings: PathMapping::of_sealift_images() }),
        Resource::SystemdUnit(SystemdUnit::running(
            "demo.service",
            ["/etc/systemd/system/demo.service", "/etc/demo/demo.conf", "/usr/bin/demo"],
        )),
        Resource::Script(script),
    ]
}

struct Lab {
    hosts: Hosts,
    _dir: tempfile::TempDir,
    store: Store,
    host: Host,
    ctx: Context,
}

impl Lab {
    async fn new() -> Self {
        let (hosts, dir, ctx) = (Hosts::up(1), tempfile::tempdir().unwrap(), Context::silent());
        let keys = HostKeys { file: dir.path().join("known_hosts"), policy: HostKeyPolicy::AcceptNew };
        let mut target = Target::new(hosts.addresses()[0], "deploy", keys);
        target.auth.keys = vec![hosts.key()];
        let agents = AgentBinaries::default().with(std::env::consts::ARCH, env!("CARGO_BIN_EXE_sealift"));
        let host = Host::connect(&target, &agents, &ctx).await.unwrap_or_else(|error| panic!("{error:#}"));
        Lab { store: Store::open(&dir.path().join("store")).unwrap(), hosts, _dir: dir, host, ctx }
    }

    async fn distribute(&self, greeting: &str) -> Vec<Resource> {
        let (manifest, blobs) = rootfs(&self.store, greeting);
        distribute(&[Distribution { host: &self.host, blobs }], &self.store, &self.ctx).await.unwrap();
        resources(manifest)
    }

    async fn states(&self, resources: &[Resource]) -> Vec<State> {
        self.host.check(resources).await.unwrap().into_iter().map(|state| state.unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    async fn apply_all(&self, resources: &[Resource]) {
        for resource in resources {
            self.host.apply(resource, &self.ctx).await.unwrap_or_else(|error| panic!("{}: {error:#}", resource.title()));
        }
    }

    async fn assert_present(&self, resources: &[Resource]) {
        for (resource, state) in resources.iter().zip(self.states(resources).await) {
            assert_eq!(state, State::Present, "{}", resource.title());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_installed_repaired_and_undone_without_a_trace() {
    let lab = Lab::new().await;
    lab.hosts.run("h1", "echo 0 > /proc/sys/net/ipv4/ip_forward; echo mine > /etc/motd; echo theirs > /usr/bin/demo");
    lab.host.purge(false).await.unwrap();
    let before = lab.hosts.run("h1", &format!("{SNAPSHOT}; true"));

    let resources = lab.distribute("hello").await;
    assert!(lab.states(&resources[4..]).await.iter().all(|state| *state != State::Present));
    lab.apply_all(&resources).await;
    lab.assert_present(&resources).await;
    assert_eq!(lab.hosts.run("h1", "cat /etc/demo/demo.conf"), "hello h1\n");
    assert_eq!(lab.hosts.run("h1", "readlink /usr/bin/demo").trim(), "/var/lib/sealift/rootfs/current/host/usr/bin/demo");
    assert_eq!(
        lab.hosts.run("h1", "systemctl is-enabled demo.service; getent hosts apiserver.cluster.local | cut -d' ' -f1"),
        "enabled\n10.0.0.1\n"
    );

    // drift is found and repaired, and nothing else is changed
    let pid = lab.hosts.run("h1", "systemctl show -P MainPID demo.service");
    lab.hosts.run("h1", "echo changed > /etc/demo/demo.conf; rm /opt/demo/link; sed -i /apiserver/d /etc/hosts");
    let wrong: Vec<String> = resources
        .iter()
        .zip(lab.states(&resources).await)
        .filter(|(_, state)| *state != State::Present)
        .map(|(resource, _)| resource.title())
        .collect();
    assert_eq!(wrong.len(), 4, "{wrong:?}");
    lab.apply_all(&resources).await;
    lab.assert_present(&resources).await;
    assert_eq!(lab.hosts.run("h1", "systemctl show -P MainPID demo.service"), pid, "restarted for nothing");

    // a next release: its files change, the unit is restarted
    let next = lab.distribute("good morning").await;
    lab.apply_all(&next).await;
    lab.assert_present(&next).await;
    assert_eq!(lab.hosts.run("h1", "cat /etc/demo/demo.conf"), "good morning h1\n");
    assert_ne!(lab.hosts.run("h1", "systemctl show -P MainPID demo.service"), pid, "runs with old files");

    lab.host.undo(&lab.ctx).await.unwrap_or_else(|error| panic!("{error:#}"));
    lab.host.purge(false).await.unwrap();
    let after = lab.hosts.run("h1", &format!("{SNAPSHOT}; true"));
    for (old, new) in before.lines().zip(after.lines()) {
        assert_eq!(old, new);
    }
    assert_eq!(before.lines().count(), after.lines().count());
    assert_eq!(lab.host.undo(&lab.ctx).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_that_does_not_start_says_why() {
    let lab = Lab::new().await;
    let unit = "[Service]\nExecStart=/bin/sh -c \"echo no such license >&2; exit 3\"\nType=oneshot\n";
    let file = Resource::File(File::new("/etc/systemd/system/broken.service", unit, 0o644));
    lab.host.apply(&file, &lab.ctx).await.unwrap();
    let unit = Resource::SystemdUnit(SystemdUnit {
        enabled: false,
        ..SystemdUnit::running("broken.service", ["/etc/systemd/system/broken.service"])
    });
    let error = format!("{:#}", lab.host.apply(&unit, &lab.ctx).await.unwrap_err());
    assert!(error.contains("broken.service does not start") && error.contains("status=3"), "{error}");
    let absent = Resource::SystemdUnit(SystemdUnit::enabled("no-such.service"));
    let error = format!("{:#}", lab.host.apply(&absent, &lab.ctx).await.unwrap_err());
    assert!(error.contains("no such unit file"), "{error}");
}

/// What is in the packet filters, without counters and comments.
const RULES: &str =
    "iptables-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'; ip6tables-save | grep -v '^#' | sed 's/\\[[0-9:]*\\]//'; nft list tables";

#[tokio::test(flavor = "multi_thread")]
async fn undoing_a_node_removes_its_rules_and_leaves_those_of_others() {
    let lab = Lab::new().await;
    for line in [
        "iptables -N theirs",
        "iptables -A theirs -s 10.9.0.0/16 -m comment --comment 'not for \"KUBE-SERVICES\"' -j ACCEPT",
        "iptables -A INPUT -j theirs",
        "iptables -t nat -N CNI-of-podman",
        "iptables -t nat -A POSTROUTING -s 10.88.0.0/16 -m comment --comment 'name: \"podman\"' -j CNI-of-podman",
        "ip6tables -A FORWARD -s fd00:9::/64 -j DROP",
        "nft add table ip theirs",
    ] {
        lab.hosts.run("h1", line);
    }
    let before = lab.hosts.run("h1", RULES);
    let snapshot = serde_json::json!({"links": [], "routes": [], "cni": [], "rules": ["iptables nat CNI-of-podman"],
        "tables": ["ip filter", "ip nat", "ip6 filter"]});
    let resource = serde_json::json!({"resource": "kubeadm-init", "node": "h1", "config": {"text": ""}});
    let entry =
        serde_json::json!({"before": {"version": 1, "title": "first master h1", "resource": resource, "before": snapshot}}).to_string();
    let line = format!("{:08x} {entry}", crc32fast::hash(entry.as_bytes()));
    lab.hosts.run("h1", &format!("mkdir -p /var/lib/sealift/undo; echo '{line}' >/var/lib/sealift/undo/ledger.jsonl"));
    for line in [
        "iptables -t nat -N KUBE-SERVICES; iptables -t nat -N KUBE-SVC-A; iptables -t nat -A KUBE-SERVICES -d 10.96.0.1/32 -j KUBE-SVC-A",
        "iptables -t nat -I PREROUTING -m comment --comment 'kubernetes service portals' -j KUBE-SERVICES",
        "iptables -t mangle -N KUBE-KUBELET-CANARY",
        "iptables -N KUBE-FORWARD; iptables -I FORWARD -m comment --comment 'kubernetes forwarding rules' -j KUBE-FORWARD",
        "iptables -t nat -N CNI-5d2a; iptables -t nat -A POSTROUTING -s 10.244.0.7/32 -m comment --comment 'name: \"cbr0\" id: \"x\"' -j CNI-5d2a",
        "ip6tables -t nat -N KUBE-POSTROUTING; ip6tables -t nat -A POSTROUTING -j KUBE-POSTROUTING",
        "nft add table ip kube-proxy; nft add table ip6 kube-proxy; nft add chain ip kube-proxy services",
    ] {
        lab.hosts.run("h1", line);
    }
    assert_ne!(lab.hosts.run("h1", RULES), before);
    assert_eq!(lab.host.undo(&lab.ctx).await.unwrap_or_else(|error| panic!("{error:#}")), 1);
    assert_eq!(lab.hosts.run("h1", RULES), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_and_swap_stay_as_they_are_after_a_reboot() {
    let lab = Lab::new().await;
    lab.hosts.run("h1", "echo net.ipv4.ip_forward = 0 >/etc/sysctl.conf; ln -sf ../sysctl.conf /etc/sysctl.d/99-sysctl.conf");
    lab.hosts.run("h1", "printf '[Swap]\\nWhat=/no/such\\n[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/no-such.swap");
    lab.hosts.run("h1", "systemctl daemon-reload; systemctl enable --quiet no-such.swap");
    let resources = [Resource::Sysctl(Sysctl::exactly("net.ipv4.ip_forward", 1)), Resource::SwapOff(SwapOff {})];
    let swap = lab.states(&resources).await.remove(1);
    assert_eq!(swap, State::differs("on at boot: no-such.swap", "off at boot"));
    lab.apply_all(&resources).await;
    lab.assert_present(&resources).await;
    lab.hosts.run("h1", "echo 0 >/proc/sys/net/ipv4/ip_forward; systemctl restart systemd-sysctl");
    assert_eq!(lab.hosts.run("h1", "cat /proc/sys/net/ipv4/ip_forward").trim(), "1");
    // the condition keeps it off: starting it is no error
    lab.hosts.run("h1", "systemctl start no-such.swap");
    assert_eq!(lab.hosts.run("h1", "systemctl show -P ConditionResult no-such.swap").trim(), "no");
    lab.host.undo(&lab.ctx).await.unwrap_or_else(|error| panic!("{error:#}"));
    assert!(!lab.hosts.succeeds("h1", "ls -d /etc/systemd/system/no-such.swap.d || ls /etc/sysctl.d/*sealift*"));
    assert!(lab.hosts.succeeds("h1", "systemctl is-enabled --quiet no-such.swap"));
}
