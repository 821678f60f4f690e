//! Authentication and authorization: users of an htpasswd file (bcrypt, as docker-registry), by password or by token.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::tokens::Tokens;
use crate::error::Failure;
use crate::image::Digest;

/// What a request needs permission for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'a> {
    /// Checking the credentials (`GET /v2/`).
    Authenticate,
    /// Reading from a repository.
    Pull(&'a str),
    /// Writing to a repository.
    Push(&'a str),
    /// Listing all repositories.
    Catalog,
}

impl Action<'_> {
    /// The token scope that it requires, if any (distribution token specification, "scope").
    pub fn scope(&self) -> Option<String> {
        match self {
            Action::Authenticate => None,
            Action::Pull(repository) => Some(format!("repository:{repository}:pull")),
            Action::Push(repository) => Some(format!("repository:{repository}:pull,push")),
            Action::Catalog => Some("registry:catalog:*".to_owned()),
        }
    }
}

/// The users, and the rights of others.
#[derive(Debug, Default)]
pub struct Auth {
    hashes: HashMap<String, String>,
    /// Digests of verified `Authorization` headers: bcrypt is slow on purpose, and clients send the same header with every request.
    verified: Mutex<HashSet<Digest>>,
    /// Whether anonymous clients may pull.
    pub anonymous_pull: bool,
    /// The issued tokens; `None` if clients send the password with every request.
    pub tokens: Option<Tokens>,
}

impl Auth {
    /// Reads an htpasswd file. A line without a bcrypt hash is an error of kind `Usage`.
    pub fn read(path: &Path) -> Result<Auth> {
        Self::parse(&fs_err::read_to_string(path)?, &path.display().to_string())
    }

    fn parse(text: &str, place: &str) -> Result<Auth> {
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
                    Failure::usage(format!("{place}:{number}: expected USER:HASH with a bcrypt hash"))
                        .hint("`htpasswd -Bc FILE USER` writes such a file")
                ),
            }
        }
        Ok(Auth { hashes, ..Auth::default() })
    }

    /// Whether a request with this `Authorization` header is allowed. Blocks, since bcrypt is slow: call it on a blocking thread.
    pub fn allows(&self, header: Option<&str>, action: &Action) -> bool {
        let Some(header) = header else { return self.anonymous_pull && matches!(action, Action::Pull(_)) };
        match (&self.tokens, header.split_once(' ')) {
            (Some(tokens), Some((scheme, token))) if scheme.eq_ignore_ascii_case("bearer") => tokens.allows(token.trim(), action),
            _ => self.authenticates(header),
        }
    }

    /// Whether the header has a user with the right password.
    pub fn authenticates(&self, header: &str) -> bool {
        let digest = Digest::of(header.as_bytes());
        if self.verified().contains(&digest) {
            return true;
        }
        let known = self.verify(header).unwrap_or(false);
        if known {
            self.verified().insert(digest);
        }
        known
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    #[test]
    fn only_users_with_their_password_are_allowed() {
        let text = format!("# users\n\nann:{}\n", bcrypt::hash("secret", 4).unwrap());
        let mut auth = Auth::parse(&text, "htpasswd").unwrap();
        for (header, pull, push) in [
            (Some(basic("ann:secret")), true, true),
            (Some(basic("ann:secret")), true, true),
            (Some(basic("ann:wrong")), false, false),
            (Some(basic("bob:secret")), false, false),
            (Some("Bearer x".to_owned()), false, false),
            (Some("Basic ???".to_owned()), false, false),
            (None, false, false),
        ] {
            auth.anonymous_pull = false;
            let header = header.as_deref();
            let allowed = (auth.allows(header, &Action::Pull("a")), auth.allows(header, &Action::Push("a")));
            assert_eq!(allowed, (pull, push), "{header:?}");
            // wrong credentials are refused, also where none are required
            auth.anonymous_pull = true;
            assert_eq!(auth.allows(header, &Action::Pull("a")), pull || header.is_none(), "{header:?}");
            assert_eq!(auth.allows(header, &Action::Authenticate), push, "{header:?}");
        }
        let error = Auth::parse("ann:{SHA}abc", "htpasswd").unwrap_err();
        assert!(error.to_string().starts_with("htpasswd:1:"), "{error}");
    }
}
