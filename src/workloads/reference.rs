//! Which texts in a manifest name a container image.

use crate::image::Reference;

/// Parses a text in a field that holds nothing but images: `nginx` is enough.
pub fn parse_image(text: &str) -> Option<Reference> {
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_whitespace) || text.contains("://") {
        return None;
    }
    text.parse().ok()
}

/// Parses a text in a field that may hold something else: a tag, a digest or the host of a registry is required.
pub fn parse_likely_image(text: &str) -> Option<Reference> {
    let name = parse_image(text)?;
    let (path, last) = text.trim().rsplit_once('/').unwrap_or(("", text.trim()));
    let versioned = last.contains('@') || last.split_once(':').is_some_and(|(_, tag)| !tag.is_empty() && !is_port(path, tag));
    (versioned || has_host(text)).then_some(name)
}

/// Whether a text in any field can only be an image: it has the host of a registry, a repository, and a tag or digest.
pub fn is_clearly_image(text: &str) -> bool {
    has_host(text) && parse_image(text).is_some() && text.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
}

/// `host:5000` without a path is an address, not an image.
fn is_port(path: &str, tag: &str) -> bool {
    path.is_empty() && tag.bytes().all(|byte| byte.is_ascii_digit()) && tag.len() >= 4
}

fn has_host(text: &str) -> bool {
    text.split_once('/').is_some_and(|(host, rest)| !rest.is_empty() && host.contains('.') && !host.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_distinguished_from_other_texts() {
        for (text, in_image_field, likely, clearly) in [
            ("nginx", true, false, false),
            ("nginx:1.25", true, true, false),
            ("calico/cni:v3.22.1", true, true, false),
            ("quay.io/tigera/operator:v1.25.3", true, true, true),
            ("quay.io/tigera/operator", true, true, false),
            ("127.0.0.1:5000/a/b", true, true, false),
            ("localhost:5000", true, false, false),
            ("10.0.0.1:6443", true, false, false),
            ("true", true, false, false),
            ("http://example.com/a:b", false, false, false),
            ("Always pull", false, false, false),
            ("", false, false, false),
            ("a/UPPER:1", false, false, false),
        ] {
            assert_eq!(parse_image(text).is_some(), in_image_field, "{text} in a field for images");
            assert_eq!(parse_likely_image(text).is_some(), likely, "{text} in a field that is likely for images");
            assert_eq!(is_clearly_image(text), clearly, "{text} in any field");
        }
    }
}
