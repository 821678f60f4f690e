//! Transfers of blobs to hosts: complete, only what is missing, resumed after a failure.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::hosts::Hosts;
use common::images::noise;
use sealift::distribute::{Distributed, Distribution, missing, distribute};
use sealift::error::{Kind, kind_of};
use sealift::events::{Context, Unit};
use sealift::host::{AgentBinaries, Host, HostKeyPolicy, HostKeys, Target};
use sealift::image::Blob;
use sealift::store::Store;

struct Lab {
    hosts: Hosts,
    dir: tempfile::TempDir,
    store: Store,
    ctx: Context,
}

impl Lab {
    fn new(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Lab { hosts: Hosts::up(count), dir, store, ctx: Context::silent() }
    }

    async fn connect(&self, number: usize) -> Host {
        let keys = HostKeys { file: self.dir.path().join("known_hosts"), policy: HostKeyPolicy::AcceptNew };
        let mut target = Target::new(self.hosts.addresses()[number], "root", keys);
        target.auth.keys = vec![self.hosts.key()];
        let agents = AgentBinaries::default().with(std::env::consts::ARCH, env!("CARGO_BIN_EXE_sealift"));
        Host::connect(&target, &agents, &self.ctx).await.unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn blobs(&self, sizes: &[usize]) -> Vec<Blob> {
        (1..).zip(sizes).map(|(seed, size)| self.store.put(&noise(seed, *size)).unwrap()).collect()
    }

    fn damage(&self, path: &Path) {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    /// The digest of a file in the store of a host, as the host computes it.
    fn digest_on(&self, host: &str, blob: &Blob) -> String {
        let line = format!("sha256sum < /var/lib/sealift/store/blobs/sha256/{}", blob.digest.hex());
        format!("sha256:{}", self.hosts.run(host, &line).split_whitespace().next().unwrap())
    }
}

fn bytes_of(blobs: &[Blob]) -> u64 {
    blobs.iter().map(|blob| blob.size).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_get_missing_blobs_and_nothing_twice() {
    let lab = Lab::new(2);
    let (first, second) = tokio::join!(lab.connect(0), lab.connect(1));
    let blobs = lab.blobs(&[0, 1, 262_144, 262_145, 9 << 20, 40 << 20]);
    let half = Distribution { host: &first, blobs: blobs[..5].to_vec() };
    assert_eq!(distribute(&[half], &lab.store, &lab.ctx).await.unwrap(), Distributed { blobs: 5, bytes: bytes_of(&blobs[..5]) });

    let both = [&first, &second].map(|host| Distribution { host, blobs: blobs.iter().chain(&blobs).copied().collect() });
    let lacking = missing(&both).await.unwrap();
    assert_eq!(lacking, [Distributed { blobs: 1, bytes: blobs[5].size }, Distributed { blobs: 6, bytes: bytes_of(&blobs) }]);
    let shipped = distribute(&both, &lab.store, &lab.ctx).await.unwrap();
    assert_eq!(shipped, Distributed { blobs: 7, bytes: blobs[5].size + bytes_of(&blobs) });
    for host in ["h1", "h2"] {
        for blob in &blobs {
            assert_eq!(lab.digest_on(host, blob), blob.digest.to_string());
        }
    }
    assert_eq!(distribute(&both, &lab.store, &lab.ctx).await.unwrap(), Distributed::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_transfer_resumes() {
    let lab = Lab::new(1);
    let blob = lab.blobs(&[64 << 20])[0];
    lab.connect(0).await.close().await; // the agent is there: only the blob is slow
    lab.hosts.rate("h1", "200mbit");
    for break_off in ["pkill -KILL -f 'sealift-[0-9a-f]* agent'", "pkill -KILL -f 'sshd: root'"] {
        let host = lab.connect(0).await;
        let shipments = [Distribution { host: &host, blobs: vec![blob] }];
        let broken = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            lab.hosts.succeeds("h1", break_off);
        };
        let (result, ()) = tokio::join!(distribute(&shipments, &lab.store, &lab.ctx), broken);
        let error = result.unwrap_err();
        assert_eq!(kind_of(&error), Kind::Network, "{error:#}");
        assert!(format!("{error:#}").contains("connection lost"), "{error:#}");
    }
    lab.hosts.rate("h1", "none");
    let host = lab.connect(0).await;
    let shipments = [Distribution { host: &host, blobs: vec![blob] }];
    let left = distribute(&shipments, &lab.store, &lab.ctx).await.unwrap();
    assert!(left.bytes > 0 && left.bytes < blob.size - (10 << 20), "{left:?} of {}", blob.size);
    assert_eq!(lab.digest_on("h1", &blob), blob.digest.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_blobs_are_named_on_the_sender_and_repaired_on_the_host() {
    let lab = Lab::new(1);
    let host = lab.connect(0).await;
    let blob = lab.blobs(&[5 << 20])[0];
    let shipments = [Distribution { host: &host, blobs: vec![blob] }];
    let path = lab.store.blob_path(&blob.digest);
    let whole = std::fs::read(&path).unwrap();

    lab.damage(&path);
    let error = distribute(&shipments, &lab.store, &lab.ctx).await.unwrap_err();
    assert_eq!(kind_of(&error), Kind::Verification);
    assert!(format!("{error:#}").contains(&blob.digest.to_string()) && format!("{error:#}").contains("local store"), "{error:#}");
    assert!(!lab.hosts.succeeds("h1", &format!("test -e /var/lib/sealift/store/blobs/sha256/{}", blob.digest.hex())));

    // half of it arrived earlier and rotted there
    std::fs::write(&path, &whole).unwrap();
    let part = format!("/var/lib/sealift/store/ingest/{}.part", blob.digest.hex());
    lab.hosts.run("h1", &format!("head -c 2000000 /dev/zero > {part}"));
    let task = lab.ctx.task("t", None, Unit::Bytes);
    host.send_blob(&blob, &lab.store, &task).await.unwrap();
    assert_eq!(lab.digest_on("h1", &blob), blob.digest.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_and_does_not_stop_other_hosts() {
    let lab = Lab::new(2);
    lab.hosts.run("h1", "mkdir -p /var/lib/sealift/store && mount -t tmpfs -o size=3m tmpfs /var/lib/sealift/store");
    let (full, fine) = tokio::join!(lab.connect(0), lab.connect(1));
    let blob = lab.blobs(&[20 << 20])[0];
    let shipments = [&full, &fine].map(|host| Distribution { host, blobs: vec![blob] });
    let error = distribute(&shipments, &lab.store, &lab.ctx).await.unwrap_err();
    let text = format!("{error:#}");
    assert_eq!(kind_of(&error), Kind::SomeHosts, "{text}");
    assert!(text.contains("h1") && text.contains("No space left on device") && !text.contains("h2"), "{text}");
    assert_eq!(lab.digest_on("h2", &blob), blob.digest.to_string());

    let alive = lab.blobs(&[100])[0];
    lab.hosts.run("h1", "umount /var/lib/sealift/store");
    distribute(&[Distribution { host: &full, blobs: vec![alive, blob] }], &lab.store, &lab.ctx).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_transfer_stops_at_once() {
    let lab = Lab::new(1);
    let host = lab.connect(0).await;
    let blob = lab.blobs(&[64 << 20])[0];
    lab.hosts.rate("h1", "50mbit");
    let cancel = lab.ctx.cancel().clone();
    let started = std::time::Instant::now();
    let shipments = [Distribution { host: &host, blobs: vec![blob] }];
    let interrupt = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cancel.cancel();
    };
    let (result, ()) = tokio::join!(distribute(&shipments, &lab.store, &lab.ctx), interrupt);
    assert_eq!(kind_of(&result.unwrap_err()), Kind::Interrupted);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}
