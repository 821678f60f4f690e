//! The data model of a cluster image: names, digests, manifests, the cluster config. No I/O: functions take and return values.
//!
//! ```text
//! index (what a tag points at)                     artifactType application/vnd.sealift.cluster.v1
//!  |-- rootfs manifest, platform linux/amd64       an ordinary OCI image: config and tar layers
//!  `-- workloads manifest for linux/amd64          its layers are the untouched blobs of all container images
//! ```

mod canonical_json;
mod cluster_config;
mod digest;
mod manifest;
mod platform;
mod reference;
mod referrer;
mod workload_blob;

pub use canonical_json::canonical;
pub use cluster_config::{App, AppKind, ClusterConfig, ClusterKind, Launch, Role, RuntimeKind, SealerApp, SealerExtension, SealerLaunch};
pub use digest::{Algorithm, Blob, Digest, Hasher};
pub use manifest::{
    ANNOTATION_APP, ANNOTATION_CLUSTER, ANNOTATION_PLATFORM, ANNOTATION_REF_NAME, ANNOTATION_SEALER, ANNOTATION_SEALER_IMAGES,
    ANNOTATION_ZSTD, ClusterImage, Content, Part, TYPE_CLUSTER, TYPE_WORKLOADS, UNKNOWN_REGISTRY, announce_compression, children,
    content_of, media_type_of,
};
pub use platform::{host_platform, oci_arch, parse_platform, platform_string, qemu_arch, serves, uname_arch, variant_of};
pub use reference::Reference;
pub use referrer::{image_of_tag, referrer, subject_of};
pub use workload_blob::{ANNOTATION_MEDIA_TYPE, TYPE_WORKLOAD_BLOB, unwrap_workload_blob, wrap_workload_blob};
