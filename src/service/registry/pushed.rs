//! Names pushed manifests in the store: images as images, and what belongs to an image with that image.

use anyhow::Result;
use oci_spec::image::Descriptor;

use crate::image::{Blob, Content, Digest, Reference, image_of_tag, media_type_of, subject_of};
use crate::store::Store;
use crate::trust::adopt_signatures;

/// Names a manifest of the store as it was pushed. A referrer is listed with its subject. What is pushed under a tag that names the digest of an
/// image, as cosign does, belongs to that image too, and signatures among it become signatures that the store knows.
pub fn name_pushed(store: &Store, name: &Reference, descriptor: &Descriptor, content: &Content) -> Result<()> {
    if matches!(subject_of(content), Ok(Some(_))) {
        return store.attach_as(name, descriptor);
    }
    let Some(image) = name.tag().and_then(image_of_tag) else { return store.tag(name, descriptor) };
    store.tag_for(name, descriptor, &image)?;
    match (content, descriptor_of(store, &image)?) {
        (Content::Manifest(manifest), Some(image)) => adopt_signatures(store, &image, manifest),
        _ => Ok(()),
    }
}

/// The descriptor of a manifest or index in the store.
fn descriptor_of(store: &Store, digest: &Digest) -> Result<Option<Descriptor>> {
    let Some(size) = store.size_of(digest) else { return Ok(None) };
    let media_type = media_type_of(&store.read(&Blob { digest: *digest, size })?);
    Ok(media_type.map(|media_type| Descriptor::new(media_type.as_str().into(), size, oci_spec::image::Digest::from(*digest))))
}

/// Names again what earlier versions named as images although it belongs to one.
pub fn name_again(store: &Store) -> Result<()> {
    for (name, descriptor) in store.refs()? {
        let has_tag_of_image = name.tag().and_then(image_of_tag).is_some();
        if name.digest().is_none() && !has_tag_of_image {
            continue;
        }
        let Ok(content) = store.read_manifest(&descriptor) else { continue };
        if has_tag_of_image || matches!(subject_of(&content), Ok(Some(_))) {
            name_pushed(store, &name, &descriptor, &content)?;
        }
    }
    Ok(())
}
