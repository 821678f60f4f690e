//! The descriptors of container images' blobs in a workloads manifest.
//!
//! Among them are manifests and indexes, as layers. Tools that copy images follow what has the media type of a manifest, wherever it is named, and
//! ask registries for a manifest that is stored as a blob. So all of these layers have a media type of their own, and their true one in an
//! annotation. Images built before have the true media types; they are read too.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, DescriptorBuilder, MediaType};

/// The media type of the layers of a workloads manifest.
pub const TYPE_WORKLOAD_BLOB: &str = "application/vnd.sealift.workload.blob.v1";
/// On a layer of a workloads manifest: the media type that the blob has in its container image.
pub const ANNOTATION_MEDIA_TYPE: &str = "io.sealift.media-type";

/// The layer of a workloads manifest for a blob of a container image, with its annotations.
pub fn wrap_workload_blob(blob: &Descriptor) -> Descriptor {
    let mut annotations = blob.annotations().clone().unwrap_or_default();
    annotations.insert(ANNOTATION_MEDIA_TYPE.to_owned(), blob.media_type().to_string());
    describe(blob, MediaType::from(TYPE_WORKLOAD_BLOB), annotations)
}

/// The blob of a container image for a layer of a workloads manifest, with its true media type and the other annotations.
pub fn unwrap_workload_blob(layer: &Descriptor) -> Descriptor {
    let mut annotations = layer.annotations().clone().unwrap_or_default();
    match annotations.remove(ANNOTATION_MEDIA_TYPE) {
        Some(media_type) if layer.media_type().as_ref() == TYPE_WORKLOAD_BLOB => {
            describe(layer, MediaType::from(media_type.as_str()), annotations)
        }
        _ => layer.clone(),
    }
}

fn describe(blob: &Descriptor, media_type: MediaType, annotations: HashMap<String, String>) -> Descriptor {
    let builder = DescriptorBuilder::default().media_type(media_type).digest(blob.digest().clone()).size(blob.size());
    let builder = if annotations.is_empty() { builder } else { builder.annotations(annotations) };
    builder.build().expect("media type, digest and size are given")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Digest;

    #[test]
    fn layers_keep_the_media_type_and_the_annotations_of_their_blob() {
        for annotations in [HashMap::new(), HashMap::from([("a".to_owned(), "b".to_owned())])] {
            for media_type in [MediaType::ImageManifest, MediaType::ImageLayerZstd, MediaType::from("application/x")] {
                let blob = describe(&Descriptor::new(MediaType::ImageConfig, 3, Digest::of(b"x")), media_type, annotations.clone());
                let layer = wrap_workload_blob(&blob);
                assert_eq!(layer.media_type().as_ref(), TYPE_WORKLOAD_BLOB);
                assert_eq!((unwrap_workload_blob(&layer), unwrap_workload_blob(&blob)), (blob.clone(), blob));
            }
        }
    }
}
