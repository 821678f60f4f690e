//! An image named on the command line: by its name, or by its digest as `sealift images` prints it.

use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::{Result, ensure};

use crate::error::Failure;
use crate::image::Reference;
use crate::store::Store;

/// So many digits of a digest are needed: shorter words are names.
const MIN_DIGITS: usize = 6;

/// An image's name, or the beginning of its digest.
#[derive(Debug, Clone)]
pub struct ImageArg {
    name: Reference,
    /// The digits, if it can be a digest.
    digits: Option<String>,
}

impl FromStr for ImageArg {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let is_digest = (MIN_DIGITS..=64).contains(&digits.len()) && digits.chars().all(|digit| matches!(digit, '0'..='9' | 'a'..='f'));
        // a whole digest alone is no name for a registry
        let name = if is_digest && digits.len() == 64 { format!("sha256:{digits}").parse()? } else { text.parse()? };
        Ok(ImageArg { name, digits: is_digest.then(|| digits.to_owned()) })
    }
}

impl ImageArg {
    /// The name by which a store knows the image. What is neither a name nor a digest there stays the name that was typed.
    ///
    /// # Errors
    /// Of kind `Usage` if several images' digests begin so.
    pub fn in_store(&self, store: &Store) -> Result<Reference> {
        let Some(digits) = &self.digits else { return Ok(self.name.clone()) };
        let names = store.refs()?;
        if names.iter().any(|(name, _)| *name == self.name) {
            return Ok(self.name.clone());
        }
        let is_it = |digest: &str| digest.split_once(':').is_some_and(|(_, hex)| hex.starts_with(digits.as_str()));
        let mut found = names.iter().filter(|(_, descriptor)| is_it(descriptor.digest().as_ref()));
        let Some((name, first)) = found.next() else { return Ok(self.name.clone()) };
        let others: BTreeSet<&str> =
            found.map(|(_, descriptor)| descriptor.digest().as_ref()).filter(|digest| *digest != first.digest().as_ref()).collect();
        if others.is_empty() {
            return Ok(name.clone());
        }
        let digests: Vec<&str> = std::iter::once(first.digest().as_ref()).chain(others).collect();
        Err(Failure::usage(format!("digest `{digits}` is ambiguous: {}", digests.join(", ")))
            .hint("type more of its digits, or the image's name")
            .into())
    }

    /// As [`ImageArg::in_store`], for commands that hand the name on: a digest must have one name in the store.
    ///
    /// # Errors
    /// Of kind `Usage` also if the image has several names.
    pub fn only_name_in_store(&self, store: &Store) -> Result<Reference> {
        let name = self.in_store(store)?;
        let Some(digest) = self.digits.as_ref().filter(|_| name != self.name) else { return Ok(name) };
        let names = store.refs()?;
        let Some(root) = names.iter().find(|(known, _)| *known == name).map(|(_, root)| root.digest()) else { return Ok(name) };
        let all: Vec<String> = names.iter().filter(|(_, other)| other.digest() == root).map(|(known, _)| known.familiar()).collect();
        ensure!(
            all.len() == 1,
            Failure::usage(format!("{digest} has several names: {}", all.join(", "))).hint("type the name that is meant")
        );
        Ok(name)
    }

    /// The names by which a store knows the image of several arguments, in their order.
    pub fn all_in_store(args: &[ImageArg], store: &Store) -> Result<Vec<Reference>> {
        args.iter().map(|arg| arg.in_store(store)).collect()
    }

    /// Whether it can be a digest rather than a name.
    pub fn is_digest(&self) -> bool {
        self.digits.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_with(names: &[(&str, &[u8])]) -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for (name, content) in names {
            let blob = store.put(content).unwrap();
            let descriptor = oci_spec::image::DescriptorBuilder::default()
                .media_type(oci_spec::image::MediaType::ImageManifest)
                .digest(blob.digest.to_string().parse::<oci_spec::image::Digest>().unwrap())
                .size(blob.size)
                .build()
                .unwrap();
            store.tag(&name.parse().unwrap(), &descriptor).unwrap();
        }
        (directory, store)
    }

    #[test]
    fn an_image_is_found_by_its_name_and_by_the_beginning_of_its_digest() {
        let (_directory, store) = store_with(&[("shop:1", b"{}"), ("web:1", b"{ }")]);
        let digest = crate::image::Digest::of(b"{}").to_string();
        let (full, short) = (digest.strip_prefix("sha256:").unwrap(), &digest[7..19]);
        let found = |text: &str| text.parse::<ImageArg>().unwrap().in_store(&store).unwrap().familiar();
        for text in ["shop:1", &digest, full, short, &digest[..19]] {
            assert_eq!(found(text), "shop:1", "{text}");
        }
        assert_eq!(found("web:1"), "web:1");
        assert_eq!(found("abcdef"), "abcdef:latest", "neither a name nor a digest: as it was typed");
        assert!("UPPER CASE".parse::<ImageArg>().is_err());
    }

    #[test]
    fn a_digest_with_several_names_is_none_to_hand_on() {
        let (_directory, store) = store_with(&[("shop:1", b"{}"), ("shop:2", b"{}")]);
        let digest = crate::image::Digest::of(b"{}").to_string();
        let error = digest[7..19].parse::<ImageArg>().unwrap().only_name_in_store(&store).unwrap_err().to_string();
        assert!(error.contains("shop:1, shop:2"), "{error}");
        assert_eq!("shop:2".parse::<ImageArg>().unwrap().only_name_in_store(&store).unwrap().familiar(), "shop:2");
    }

    #[test]
    fn a_name_goes_before_a_digest() {
        let digest = crate::image::Digest::of(b"{}").to_string();
        let (_directory, store) = store_with(&[("shop:1", b"{}"), (&digest[7..19], b"{ }")]);
        let found = digest[7..19].parse::<ImageArg>().unwrap().in_store(&store).unwrap();
        assert_eq!(found.familiar(), format!("{}:latest", &digest[7..19]));
    }
}
