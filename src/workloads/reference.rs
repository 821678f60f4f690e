//! Which texts name a container image.

use crate::image::Reference;

/// The image that `text` names where nothing but an image can stand: `nginx` is enough.
pub fn named(text: &str) -> Option<Reference> {
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_whitespace) || text.contains("://") {
        return None;
    }
    text.parse().ok()
}

/// The image that `text` names where other texts are likely too: it must have a tag or digest, or a registry's host.
pub fn plausible(text: &str) -> Option<Reference> {
    let name = named(text)?;
    let (path, last) = text.trim().rsplit_once('/').unwrap_or(("", text.trim()));
    let versioned = last.contains('@') || last.split_once(':').is_some_and(|(_, tag)| !tag.is_empty() && !is_port(path, tag));
    (versioned || has_host(text)).then_some(name)
}

/// Whether `text` reads like nothing else than an image: a registry's host, a repository, and a tag or digest.
pub fn unmistakable(text: &str) -> bool {
    has_host(text) && named(text).is_some() && text.rsplit('/').next().is_some_and(|last| last.contains([':', '@']))
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
    fn images_are_told_from_other_texts() {
        for (text, is_named, is_plausible, is_unmistakable) in [
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
            assert_eq!(named(text).is_some(), is_named, "named {text}");
            assert_eq!(plausible(text).is_some(), is_plausible, "plausible {text}");
            assert_eq!(unmistakable(text), is_unmistakable, "unmistakable {text}");
        }
    }
}
