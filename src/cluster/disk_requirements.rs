//! The disk space that a run needs on a host. What is there already does not count again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;

use super::preflight::DiskRequirement;
use super::{Hosts, ImageContent, ImagePart};
use crate::events::Context;
use crate::host::facts::Facts;
use crate::host::{Exec, Host};
use crate::image::{Blob, Digest, RuntimeKind};
use crate::paths::HOME;

const CONTAINERD: &str = "/var/lib/containerd";
/// Files take about three times the bytes of their compressed layers.
const UNPACKED: u64 = 3;

/// What a host has of an image.
#[derive(Debug, Clone, Default)]
pub struct PresentContent {
    /// How many bytes of each blob its store lacks; a blob that is not listed is there.
    missing: BTreeMap<Digest, u64>,
    /// The unpacked root file systems, by digest in hex.
    unpacked: BTreeSet<String>,
    /// The one in use.
    current: Option<String>,
    /// Whether it is a node of a Kubernetes cluster.
    is_node: bool,
    /// The blobs in containerd, by digest in hex.
    containerd: BTreeSet<String>,
}

/// The directories that a run writes to.
pub fn directories(image: &ImageContent) -> Vec<String> {
    let containerd = (image.config().runtime == RuntimeKind::Kubernetes).then(|| CONTAINERD.to_owned());
    std::iter::once(HOME.to_owned()).chain(containerd).collect()
}

/// Asks every host what it has of the image.
pub async fn present_content(
    hosts: &Hosts,
    image: &ImageContent,
    facts: &BTreeMap<IpAddr, (Facts, i64)>,
    ctx: &Context,
) -> Result<BTreeMap<IpAddr, PresentContent>> {
    let of_host = async |host: &Host| {
        let part = facts.get(&host.address()).and_then(|(facts, _)| image.part(&facts.machine).ok());
        match part {
            Some(part) => of(host, part, ctx).await,
            None => Ok(PresentContent::default()), // the image is not built for it: refused by another check
        }
    };
    hosts.on_all(of_host).await
}

async fn of(host: &Host, part: &ImagePart, ctx: &Context) -> Result<PresentContent> {
    let script = format!(
        "cd {HOME}/rootfs 2>/dev/null && {{ for it in *; do [ -L \"$it\" ] || echo \"unpacked $it\"; done; echo \"current $(readlink current)\"; }}
        [ ! -e /etc/kubernetes/kubelet.conf ] || echo node
        ls {CONTAINERD}/io.containerd.content.v1.content/blobs/sha256 2>/dev/null | sed 's/^/containerd /'; true"
    );
    let output = host.exec(&Exec::shell(&script).quiet(), ctx).await?.ensure_success("what the host has of the image")?;
    let mut present = PresentContent::parse(&output.text());
    let blobs: Vec<Blob> = part.rootfs_blobs.iter().chain(&part.workload_blobs).copied().collect();
    let missing = host.missing(&blobs).await?;
    present.missing = missing.into_iter().map(|(blob, received)| (blob.digest, blob.size.saturating_sub(received))).collect();
    Ok(present)
}

impl PresentContent {
    fn parse(text: &str) -> Self {
        let mut present = PresentContent::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("unpacked", digest)) => _ = present.unpacked.insert(digest.to_owned()),
                Some(("current", digest)) => present.current = Some(digest.to_owned()),
                Some(("containerd", digest)) => _ = present.containerd.insert(digest.to_owned()),
                _ => present.is_node |= line == "node",
            }
        }
        present
    }

    /// The bytes that the store lacks of these blobs.
    fn missing_bytes(&self, blobs: &[Blob]) -> u64 {
        blobs.iter().filter_map(|blob| self.missing.get(&blob.digest)).sum()
    }
}

/// The disk space that a run needs on a host: for missing blobs, for unpacking the root file system, on registry hosts for the blobs of
/// container images, and on every Kubernetes host for unpacking these. A node that runs the image already unpacks nothing more.
pub fn of_host(part: &ImagePart, runtime: RuntimeKind, has_registry: bool, present: &PresentContent) -> Vec<DiskRequirement> {
    let (rootfs, size) = (part.rootfs.digest.hex(), |blobs: &[Blob]| blobs.iter().map(|blob| blob.size).sum::<u64>());
    let mut bytes = if present.unpacked.contains(&rootfs) {
        0
    } else {
        present.missing_bytes(&part.rootfs_blobs) + UNPACKED * size(&part.rootfs_blobs)
    };
    if has_registry {
        bytes += present.missing_bytes(&part.workload_blobs);
    }
    let mut requirements = vec![DiskRequirement { path: HOME.to_owned(), bytes }];
    if runtime == RuntimeKind::Kubernetes {
        let absent: Vec<Blob> =
            part.workload_blobs.iter().filter(|blob| !present.containerd.contains(&blob.digest.hex())).copied().collect();
        let runs_it = present.is_node && present.current.as_ref() == Some(&rootfs);
        let bytes = if runs_it { 0 } else { (1 + UNPACKED) * size(&absent) };
        requirements.push(DiskRequirement { path: CONTAINERD.to_owned(), bytes });
    }
    requirements
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::image_content::tests::part;

    #[test]
    fn what_is_there_does_not_count() {
        let blob = |text: &str, size: u64| Blob { digest: Digest::of(text.as_bytes()), size };
        let mut part = part([]);
        part.rootfs = blob("rootfs", 1);
        part.rootfs_blobs = vec![part.rootfs, blob("layer", 1000)];
        part.workload_blobs = vec![blob("nginx", 5000), blob("etcd", 300)];
        let hex = |text: &str| Digest::of(text.as_bytes()).hex();
        let empty = || PresentContent {
            missing: part.rootfs_blobs.iter().chain(&part.workload_blobs).map(|blob| (blob.digest, blob.size)).collect(),
            ..PresentContent::default()
        };
        let with = |change: &dyn Fn(&mut PresentContent)| {
            let mut present = empty();
            change(&mut present);
            present
        };
        let unpacked = |present: &mut PresentContent| _ = present.unpacked.insert(hex("rootfs"));
        for (name, present, registry, expected) in [
            ("a new master", empty(), true, [4 * 1001 + 5300, 4 * 5300]),
            ("a new worker", empty(), false, [4 * 1001, 4 * 5300]),
            ("half of a blob", with(&|it| it.missing.extend([(Digest::of(b"layer"), 500)])), false, [4 * 1001 - 500, 4 * 5300]),
            ("all blobs", with(&|it| it.missing.clear()), true, [3 * 1001, 4 * 5300]),
            ("unpacked", with(&unpacked), true, [5300, 4 * 5300]),
            ("an image in containerd", with(&|it| _ = it.containerd.insert(hex("nginx"))), false, [4 * 1001, 4 * 300]),
            (
                "a node that runs it",
                with(&|it| {
                    unpacked(it);
                    it.missing.clear();
                    it.current = Some(hex("rootfs"));
                    it.is_node = true;
                }),
                true,
                [0, 0],
            ),
            (
                "a node that runs another image",
                with(&|it| {
                    unpacked(it);
                    it.current = Some(hex("other"));
                    it.is_node = true;
                }),
                false,
                [0, 4 * 5300],
            ),
        ] {
            let bytes: Vec<u64> =
                of_host(&part, RuntimeKind::Kubernetes, registry, &present).iter().map(|required| required.bytes).collect();
            assert_eq!(bytes, expected, "{name}");
        }
        assert_eq!(of_host(&part, RuntimeKind::None, false, &empty()).len(), 1);
    }

    #[test]
    fn the_answer_of_a_host_is_read() {
        let present = PresentContent::parse("unpacked aa\nunpacked bb\ncurrent bb\nnode\ncontainerd cc\n");
        assert_eq!((present.unpacked.len(), present.current.as_deref(), present.is_node), (2, Some("bb"), true));
        assert!(present.containerd.contains("cc"));
        assert!(!PresentContent::parse("").is_node);
    }
}
