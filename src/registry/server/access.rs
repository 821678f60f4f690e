//! Who may use the registry: an htpasswd file with bcrypt hashes, as docker-registry takes it.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::error::Failure;
use crate::image::Digest;

/// The users.
#[derive(Debug, Default)]
pub struct Access {
    hashes: HashMap<String, String>,
    /// Digests of headers that were found good: bcrypt is slow on purpose, and clients send the same header with every request.
    good: Mutex<HashSet<Digest>>,
}

impl Access {
    /// Reads an htpasswd file.
    pub fn read(path: &Path) -> Result<Access> {
        Self::parse(&fs_err::read_to_string(path)?, &path.display().to_string())
    }

    fn parse(text: &str, place: &str) -> Result<Access> {
        let mut hashes = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some((user, hash)) if hash.starts_with("$2") => {
                    hashes.insert(user.to_owned(), hash.to_owned());
                }
                _ => bail!(
                    Failure::usage(format!("{place}:{number}: want USER:HASH with a bcrypt hash"))
                        .hint("`htpasswd -Bc FILE USER` writes such a file")
                ),
            }
        }
        Ok(Access { hashes, good: Mutex::default() })
    }

    /// Whether the `Authorization` header is a user's. Takes time on purpose: call it where blocking is allowed.
    pub fn allows(&self, header: Option<&str>) -> bool {
        let Some(header) = header else { return false };
        let digest = Digest::of(header.as_bytes());
        if self.good().contains(&digest) {
            return true;
        }
        let allowed = self.verify(header).unwrap_or(false);
        if allowed {
            self.good().insert(digest);
        }
        allowed
    }

    fn good(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.good.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verify(&self, header: &str) -> Option<bool> {
        let (scheme, encoded) = header.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = String::from_utf8(BASE64.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = decoded.split_once(':')?;
        bcrypt::verify(password, self.hashes.get(user)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_users_with_their_password_are_let_in() {
        let text = format!("# users\n\nann:{}\n", bcrypt::hash("secret", 4).unwrap());
        let access = Access::parse(&text, "htpasswd").unwrap();
        let basic = |text: &str| format!("Basic {}", BASE64.encode(text));
        for (header, expected) in [
            (Some(basic("ann:secret")), true),
            (Some(basic("ann:secret")), true),
            (Some(basic("ann:wrong")), false),
            (Some(basic("bob:secret")), false),
            (Some("Bearer x".to_owned()), false),
            (Some("Basic ???".to_owned()), false),
            (None, false),
        ] {
            assert_eq!(access.allows(header.as_deref()), expected, "{header:?}");
        }
        let error = Access::parse("ann:{SHA}abc", "htpasswd").unwrap_err();
        assert!(error.to_string().starts_with("htpasswd:1:"), "{error}");
    }
}
