//! Who may use the registry: users of an htpasswd file with bcrypt hashes, as docker-registry takes it, by password or by token.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::tokens::Tokens;
use crate::error::Failure;
use crate::image::Digest;

/// What a request wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<'a> {
    /// To be told that the credentials are good.
    Enter,
    /// To read in a repository.
    Pull(&'a str),
    /// To write in a repository.
    Push(&'a str),
    /// To list all repositories.
    Catalog,
}

impl Action<'_> {
    /// The scope of a token that is good for it, if it needs one.
    pub fn scope(&self) -> Option<String> {
        match self {
            Action::Enter => None,
            Action::Pull(repository) => Some(format!("repository:{repository}:pull")),
            Action::Push(repository) => Some(format!("repository:{repository}:pull,push")),
            Action::Catalog => Some("registry:catalog:*".to_owned()),
        }
    }
}

/// The users, and what is allowed without being one.
#[derive(Debug, Default)]
pub struct Auth {
    hashes: HashMap<String, String>,
    /// Digests of headers that were found good: bcrypt is slow on purpose, and clients send the same header with every request.
    good: Mutex<HashSet<Digest>>,
    /// Whoever is not a user may pull.
    pub anonymous_pull: bool,
    /// The tokens given out; `None` where passwords are wanted with every request.
    pub tokens: Option<Tokens>,
}

impl Auth {
    /// Reads an htpasswd file.
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

    /// Whether a request with this `Authorization` header may do what it wants. Takes time on purpose: call it where blocking
    /// is allowed.
    pub fn allows(&self, header: Option<&str>, wish: &Action) -> bool {
        let Some(header) = header else { return self.anonymous_pull && matches!(wish, Action::Pull(_)) };
        match (&self.tokens, header.split_once(' ')) {
            (Some(tokens), Some((scheme, token))) if scheme.eq_ignore_ascii_case("bearer") => tokens.allow(token.trim(), wish),
            _ => self.knows(header),
        }
    }

    /// Whether the header has a user and the right password.
    pub fn knows(&self, header: &str) -> bool {
        let digest = Digest::of(header.as_bytes());
        if self.good().contains(&digest) {
            return true;
        }
        let known = self.verify(header).unwrap_or(false);
        if known {
            self.good().insert(digest);
        }
        known
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

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64.encode(text))
    }

    #[test]
    fn only_users_with_their_password_are_let_in() {
        let text = format!("# users\n\nann:{}\n", bcrypt::hash("secret", 4).unwrap());
        let mut access = Auth::parse(&text, "htpasswd").unwrap();
        for (header, pull, push) in [
            (Some(basic("ann:secret")), true, true),
            (Some(basic("ann:secret")), true, true),
            (Some(basic("ann:wrong")), false, false),
            (Some(basic("bob:secret")), false, false),
            (Some("Bearer x".to_owned()), false, false),
            (Some("Basic ???".to_owned()), false, false),
            (None, false, false),
        ] {
            access.anonymous_pull = false;
            let header = header.as_deref();
            let allowed = (access.allows(header, &Action::Pull("a")), access.allows(header, &Action::Push("a")));
            assert_eq!(allowed, (pull, push), "{header:?}");
            // whoever shows something must show the right thing, also where nothing need be shown
            access.anonymous_pull = true;
            assert_eq!(access.allows(header, &Action::Pull("a")), pull || header.is_none(), "{header:?}");
            assert_eq!(access.allows(header, &Action::Enter), push, "{header:?}");
        }
        let error = Auth::parse("ann:{SHA}abc", "htpasswd").unwrap_err();
        assert!(error.to_string().starts_with("htpasswd:1:"), "{error}");
    }
}
