//! Small images put straight into a store.

use oci_spec::image::{
    Arch, Descriptor, DescriptorBuilder, ImageIndex, ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, Platform, PlatformBuilder,
};
use sealift::image::{
    ANNOTATION_CLUSTER, ANNOTATION_PLATFORM, ANNOTATION_REF_NAME, Blob, ClusterConfig, ClusterKind, Digest, TYPE_CLUSTER, TYPE_WORKLOADS,
};
use sealift::store::Store;

/// `size` bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// A tar with one file of `size` bytes of noise.
pub fn tar_layer(seed: u64, size: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(size as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, format!("noise-{seed}"), noise(seed, size).as_slice()).expect("a tar entry");
    tar.into_inner().expect("a tar")
}

/// Compresses.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).and_then(|()| encoder.finish()).expect("gzip into memory")
}

/// Puts bytes into the store and describes them.
pub fn put(store: &Store, media_type: MediaType, bytes: &[u8]) -> Descriptor {
    let mut writer = store.writer().expect("a writer");
    std::io::Write::write_all(&mut writer, bytes).expect("the blob is written");
    describe(media_type, writer.commit().expect("the blob is whole"))
}

fn describe(media_type: MediaType, blob: Blob) -> Descriptor {
    DescriptorBuilder::default().media_type(media_type).digest(blob.digest).size(blob.size).build().expect("a descriptor")
}

/// Puts a container image for linux/amd64 with one gzip layer for each size, and gives its manifest's descriptor.
pub fn container_image(store: &Store, seed: u64, layers: &[usize]) -> Descriptor {
    manifest(store, seed, layers, None).0
}

/// Its parts: the manifest's descriptor, then all blobs it names.
fn manifest(store: &Store, seed: u64, layers: &[usize], cluster: Option<&ClusterConfig>) -> (Descriptor, Vec<Descriptor>) {
    let tars: Vec<Vec<u8>> = (0u64..).zip(layers).map(|(number, size)| tar_layer(seed * 100 + number, *size)).collect();
    let diff_ids: Vec<String> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": [format!("SEED={seed}")]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = put(store, MediaType::ImageConfig, config.to_string().as_bytes());
    let layers: Vec<_> = tars.iter().map(|tar| put(store, MediaType::ImageLayerGzip, &gzip(tar))).collect();
    let mut builder = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config.clone())
        .layers(layers.clone());
    if let Some(cluster) = cluster {
        let text = serde_json::to_string(cluster).expect("a cluster config");
        builder = builder.annotations([(ANNOTATION_CLUSTER.to_owned(), text)]);
    }
    let manifest = builder.build().expect("a manifest").to_string().expect("a manifest prints");
    let descriptor = put(store, MediaType::ImageManifest, manifest.as_bytes());
    (descriptor, std::iter::once(config).chain(layers).collect())
}

fn linux(arch: Arch) -> Platform {
    PlatformBuilder::default().os(Os::Linux).architecture(arch).build().expect("a platform")
}

/// Puts an index that names this manifest for amd64, and one that is not there for arm64.
fn multi_arch(store: &Store, manifest: &Descriptor) -> Descriptor {
    let (mut here, mut elsewhere) = (manifest.clone(), describe(MediaType::ImageManifest, Blob::of(b"somewhere else")));
    here.set_platform(Some(linux(Arch::Amd64)));
    elsewhere.set_platform(Some(linux(Arch::ARM64)));
    let index = ImageIndexBuilder::default().schema_version(2u32).media_type(MediaType::ImageIndex).manifests([elsewhere, here]);
    let index = index.build().expect("an index").to_string().expect("an index prints");
    put(store, MediaType::ImageIndex, index.as_bytes())
}

/// Puts a cluster image for linux/amd64 into the store and names it: a rootfs of the given layers (bytes each) and the container
/// images named by `workloads`, 100 kB each. Every second of those is an index that also names an arm for arm64, which is not there,
/// as with images taken from a registry. The cluster image's descriptor.
pub fn cluster_image(store: &Store, name: &str, seed: u64, layers: &[usize], workloads: &[&str]) -> Descriptor {
    let (mut rootfs, _) = manifest(store, seed, layers, Some(&ClusterConfig::new(ClusterKind::KubeInstaller)));
    rootfs.set_platform(Some(linux(Arch::Amd64)));
    let mut blobs = Vec::new();
    for (number, workload) in (0..).zip(workloads) {
        let (mut root, mut parts) = manifest(store, seed * 1000 + number, &[100_000], None);
        if number % 2 == 1 {
            let index = multi_arch(store, &root);
            parts.push(std::mem::replace(&mut root, index));
        }
        root.set_annotations(Some([(ANNOTATION_REF_NAME.to_owned(), (*workload).to_owned())].into()));
        blobs.push(root);
        blobs.extend(parts);
    }
    let workloads = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .artifact_type(MediaType::from(TYPE_WORKLOADS))
        .config(put(store, MediaType::EmptyJSON, b"{}"))
        .layers(blobs)
        .build()
        .expect("a manifest");
    let mut workloads = put(store, MediaType::ImageManifest, workloads.to_string().expect("a manifest prints").as_bytes());
    workloads.set_artifact_type(Some(MediaType::from(TYPE_WORKLOADS)));
    workloads.set_annotations(Some([(ANNOTATION_PLATFORM.to_owned(), "linux/amd64".to_owned())].into()));
    let index: ImageIndex = ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .artifact_type(MediaType::from(TYPE_CLUSTER))
        .manifests([rootfs, workloads])
        .build()
        .expect("an index");
    let descriptor = put(store, MediaType::ImageIndex, index.to_string().expect("an index prints").as_bytes());
    store.tag(&name.parse().expect("a name"), &descriptor).expect("the name is kept");
    descriptor
}
