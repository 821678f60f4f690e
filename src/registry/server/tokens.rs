//! Tokens instead of passwords (distribution token specification): given out at `/token`, good for some minutes and for what was
//! asked. They are remembered by this process alone; whoever comes with one from before a restart is asked for a new one.

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

/// How long a token is good.
const LIFE: Duration = Duration::from_secs(300);
/// Tokens remembered at once; more are refused until some have run out.
const MOST: usize = 100_000;

/// The tokens given out, by their digests.
#[derive(Debug, Default)]
pub struct Tokens {
    grants: Mutex<HashMap<Digest, Grant>>,
}

#[derive(Debug)]
struct Grant {
    until: Instant,
    /// Whether a user asked for it.
    user: bool,
    scopes: Vec<Scope>,
}

/// What a token is good for in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Scope {
    repository: String,
    pull: bool,
    push: bool,
}

impl Tokens {
    /// Whether a token is good for this.
    pub fn allow(&self, token: &str, wish: &Action) -> bool {
        let grants = self.grants();
        let Some(grant) = grants.get(&Digest::of(token.as_bytes())).filter(|grant| grant.until > Instant::now()) else { return false };
        match wish {
            Action::Enter => true,
            Action::Catalog => grant.user,
            Action::Pull(wanted) => grant.scopes.iter().any(|scope| scope.repository == *wanted && scope.pull),
            Action::Push(wanted) => grant.scopes.iter().any(|scope| scope.repository == *wanted && scope.push),
        }
    }

    /// Gives out a token for what the query asks: all of it to a user, pulling to others.
    pub fn give(&self, query: &str, user: bool) -> Response<Body> {
        let asked = form_urlencoded::parse(query.as_bytes()).filter(|(key, _)| key == "scope");
        let scopes = asked.flat_map(|(_, scopes)| scopes.split(' ').filter_map(Scope::parse).collect::<Vec<_>>());
        let scopes = scopes.map(|scope| Scope { push: scope.push && user, ..scope }).collect();
        let token = hex::encode(rand::rng().random::<[u8; 32]>());
        let mut grants = self.grants();
        grants.retain(|_, grant| grant.until > Instant::now());
        if grants.len() >= MOST {
            return response::error(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many tokens in use: try again later");
        }
        grants.insert(Digest::of(token.as_bytes()), Grant { until: Instant::now() + LIFE, user, scopes });
        let answer = json!({"token": token, "access_token": token, "expires_in": LIFE.as_secs()});
        response::document(StatusCode::OK, "application/json", &answer)
    }

    fn grants(&self) -> MutexGuard<'_, HashMap<Digest, Grant>> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope {
    /// Reads `repository:a/b:pull,push`; other kinds of resources are passed over.
    fn parse(text: &str) -> Option<Scope> {
        let (repository, actions) = text.strip_prefix("repository:")?.rsplit_once(':')?;
        let asks = |names: &[&str]| actions.split(',').any(|action| names.contains(&action));
        Some(Scope { repository: repository.to_owned(), pull: asks(&["pull", "*"]), push: asks(&["push", "delete", "*"]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_read() {
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
    async fn a_token_is_good_for_what_was_asked_and_no_more() {
        let tokens = Tokens::default();
        let take = async |query: &str, user: bool| {
            let body = axum::body::to_bytes(tokens.give(query, user).into_body(), 10_000).await.unwrap();
            serde_json::from_slice::<serde_json::Value>(&body).unwrap()["token"].as_str().unwrap().to_owned()
        };
        let wide = take("service=x&scope=repository%3Aa%3Apull%2Cpush&scope=repository:b:pull", true).await;
        let anonymous = take("scope=repository:a:pull,push", false).await;
        for (token, wish, expected) in [
            (&wide, Action::Push("a"), true),
            (&wide, Action::Pull("b"), true),
            (&wide, Action::Push("b"), false),
            (&wide, Action::Pull("c"), false),
            (&wide, Action::Catalog, true),
            (&anonymous, Action::Pull("a"), true),
            (&anonymous, Action::Push("a"), false),
            (&anonymous, Action::Catalog, false),
            (&anonymous, Action::Enter, true),
            (&"x".to_owned(), Action::Enter, false),
        ] {
            assert_eq!(tokens.allow(token, &wish), expected, "{wish:?}");
        }
    }
}
