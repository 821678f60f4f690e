//! Tokens (distribution token specification): issued at `/token`, valid for five minutes and for the requested scopes. They are kept
//! in memory: after a restart, clients have to request new ones.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Response, StatusCode};
use rand::Rng as _;
use serde_json::json;
use url::form_urlencoded;

use super::auth::Action;
use super::response;
use crate::image::Digest;

/// How long a token is valid.
const LIFETIME: Duration = Duration::from_secs(300);
/// The limit for valid tokens; more are refused until some have expired.
const MAX_TOKENS: usize = 100_000;

/// The issued tokens, by their digests.
#[derive(Debug, Default)]
pub struct Tokens {
    grants: Mutex<HashMap<Digest, Grant>>,
}

#[derive(Debug)]
struct Grant {
    expires: Instant,
    /// Whether it was issued to a user, not to an anonymous client.
    user: bool,
    scopes: Vec<Scope>,
}

/// The permissions of a token in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    repository: String,
    pull: bool,
    push: bool,
}

impl Tokens {
    /// Whether a token is valid for this action.
    pub fn allows(&self, token: &str, action: &Action) -> bool {
        let grants = self.grants();
        let Some(grant) = grants.get(&Digest::of(token.as_bytes())).filter(|grant| grant.expires > Instant::now()) else { return false };
        match action {
            Action::Authenticate => true,
            Action::Catalog => grant.user,
            Action::Pull(repository) => grant.scopes.iter().any(|scope| scope.repository == *repository && scope.pull),
            Action::Push(repository) => grant.scopes.iter().any(|scope| scope.repository == *repository && scope.push),
        }
    }

    /// Issues a token for the scopes in the query: all of them to a user, only pull to an anonymous client.
    pub fn issue(&self, query: &str, user: bool) -> Response<Body> {
        let requested = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "scope");
        let scopes = requested.flat_map(|(_, scopes)| scopes.split(' ').filter_map(Scope::parse).collect::<Vec<_>>());
        let scopes = scopes.map(|scope| Scope { push: scope.push && user, ..scope }).collect();
        let token = hex::encode(rand::rng().random::<[u8; 32]>());
        let mut grants = self.grants();
        grants.retain(|_, grant| grant.expires > Instant::now());
        if grants.len() >= MAX_TOKENS {
            return response::error(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many tokens in use: try again later");
        }
        grants.insert(Digest::of(token.as_bytes()), Grant { expires: Instant::now() + LIFETIME, user, scopes });
        let answer = json!({"token": token, "access_token": token, "expires_in": LIFETIME.as_secs()});
        response::json(StatusCode::OK, "application/json", &answer)
    }

    fn grants(&self) -> MutexGuard<'_, HashMap<Digest, Grant>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope {
    /// Parses `repository:a/b:pull,push`; other resource types give `None`.
    fn parse(text: &str) -> Option<Scope> {
        let (repository, actions) = text.strip_prefix("repository:")?.rsplit_once(':')?;
        let has_any = |names: &[&str]| actions.split(',').any(|action| names.contains(&action));
        Some(Scope { repository: repository.to_owned(), pull: has_any(&["pull", "*"]), push: has_any(&["push", "delete", "*"]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_parsed() {
        let scope = |repository: &str, pull, push| Some(Scope { repository: repository.to_owned(), pull, push });
        for (text, expected) in [
            ("repository:a/b:pull,push", scope("a/b", true, true)),
            ("repository:a:pull", scope("a", true, false)),
            ("repository:h:1/a:delete", scope("h:1/a", false, true)),
            ("repository:a:*", scope("a", true, true)),
            ("registry:catalog:*", None),
            ("repository:a", None),
            ("", None),
        ] {
            assert_eq!(Scope::parse(text), expected, "{text}");
        }
    }

    #[tokio::test]
    async fn a_token_is_valid_for_the_requested_scopes_only() {
        let tokens = Tokens::default();
        let issue = async |query: &str, user: bool| {
            let body = axum::body::to_bytes(tokens.issue(query, user).into_body(), 10_000).await.unwrap();
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()["token"].as_str().unwrap().to_owned()
        };
        let wide = issue("service=x&scope=repository%3Aa%3Apull%2Cpush&scope=repository:b:pull", true).await;
        let anonymous = issue("scope=repository:a:pull,push", false).await;
        for (token, action, expected) in [
            (&wide, Action::Push("a"), true),
            (&wide, Action::Pull("b"), true),
            (&wide, Action::Push("b"), false),
            (&wide, Action::Pull("c"), false),
            (&wide, Action::Catalog, true),
            (&anonymous, Action::Pull("a"), true),
            (&anonymous, Action::Push("a"), false),
            (&anonymous, Action::Catalog, false),
            (&anonymous, Action::Authenticate, true),
            (&"x".to_owned(), Action::Authenticate, false),
        ] {
            assert_eq!(tokens.allows(token, &action), expected, "{action:?}");
        }
    }
}
