//! Parses the `WWW-Authenticate` header of a registry (RFC 9110 section 11.6.1, distribution token specification).

/// How a registry authenticates clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from this service.
    Bearer {
        /// The URL of the token service.
        realm: String,
        /// The name of the registry at the token service.
        service: Option<String>,
    },
}

impl Challenge {
    /// Parses header values, each of which may have several challenges. `Bearer` is preferred to `Basic`; other schemes are skipped.
    pub fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let challenges: Vec<Challenge> = headers.flat_map(listed).filter_map(Listed::known).collect();
        let bearer = challenges.iter().find(|challenge| matches!(challenge, Challenge::Bearer { .. }));
        bearer.or(challenges.first()).cloned()
    }
}

/// A challenge as it is listed.
struct Listed<'a> {
    scheme: &'a str,
    /// Names in lower case, and values.
    parameters: Vec<(String, String)>,
}

impl Listed<'_> {
    fn known(self) -> Option<Challenge> {
        if self.scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        let value = |name: &str| self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        self.scheme.eq_ignore_ascii_case("bearer").then(|| Some(Challenge::Bearer { realm: value("realm")?, service: value("service") }))?
    }
}

/// Splits a list of challenges: `Negotiate, Basic realm="a, b", Bearer realm=c,service=d`. Commas separate challenges and their parameters
/// alike: a word before `=` is a parameter, any other a scheme, which one token (`Negotiate oYIBvT==`) may follow.
fn listed(header: &str) -> Vec<Listed<'_>> {
    let is_word_end = |letter: char| matches!(letter, ' ' | '\t' | ',' | '=' | '"');
    let mut challenges: Vec<Listed> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return challenges;
        }
        let (word, after) = rest.split_at(rest.find(is_word_end).unwrap_or(rest.len()));
        let value = after.trim_start().strip_prefix('=').map(str::trim_start);
        match (value.filter(|value| !value.starts_with(['=', ','])).filter(|value| !value.is_empty()), challenges.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, left) = match value.strip_prefix('"') {
                    Some(quoted) => until_quote(quoted),
                    None => {
                        let (value, left) = value.split_at(value.find([',', ' ', '\t']).unwrap_or(value.len()));
                        (value.to_owned(), left)
                    }
                };
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                rest = left;
            }
            _ if word.is_empty() || after.starts_with(['=', '"']) => {
                // a token with padding, or what no grammar has: neither is of a scheme that is known here
                rest = after.split_once(',').map_or("", |(_, left)| left);
            }
            _ => {
                challenges.push(Listed { scheme: word, parameters: Vec::new() });
                rest = without_token(after);
            }
        }
    }
}

/// What follows a scheme, without the token that belongs to it.
fn without_token(after: &str) -> &str {
    let (first, rest) = after.split_once(',').unwrap_or((after, ""));
    let token = first.trim().trim_end_matches('=');
    let is_token = !token.is_empty() && !token.contains(['=', ' ', '\t', '"']);
    if is_token { rest } else { after }
}

/// The unescaped text up to the closing quote, and the rest after it.
fn until_quote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return (value, &text[position + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_real_registries_are_parsed() {
        let bearer =
            |realm: &str, service: Option<&str>| Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) });
        for (headers, expected) in [
            (vec![r#"Basic realm="basic-realm""#], Some(Challenge::Basic)),
            (vec!["basic"], Some(Challenge::Basic)),
            (
                vec![r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#],
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (vec![r#"bearer  Service=x , realm="http://a/t?b=c""#], bearer("http://a/t?b=c", Some("x"))),
            (vec![r#"Basic realm="x""#, r#"Bearer realm="https://a""#], bearer("https://a", None)),
            (vec![r#"Bearer realm="a\"b"#], bearer("a\"b", None)),
            // several in one header
            (vec![r#"Basic realm="x", Bearer realm="https://a",service="b""#], bearer("https://a", Some("b"))),
            (vec![r#"Bearer realm="https://a",service="b", Basic realm="x""#], bearer("https://a", Some("b"))),
            (vec![r#"Negotiate, NTLM, Basic realm="a, Bearer realm=b""#], Some(Challenge::Basic)),
            (vec![r#"Negotiate oYIBvT==, Bearer realm = "https://a" , service = b"#], bearer("https://a", Some("b"))),
            (vec!["Negotiate oYIBvT", "Basic"], Some(Challenge::Basic)),
            (vec![r#"Digest realm="x", qop="auth, auth-int", nonce=abc==, Basic realm="y""#], Some(Challenge::Basic)),
            (vec![r#",, Basic ,Bearer realm=https://a/t?x=1,error="invalid_token""#], bearer("https://a/t?x=1", None)),
            (vec![r#"Bearer error="invalid_token", Basic realm="x""#], Some(Challenge::Basic)),
            (vec![r#"Bearer realm="", Basic"#], bearer("", None)),
            (vec!["=", ",", "Basic=", "\"", "Digest a=b"], None),
            (vec!["Bearer service=x"], None),
            (vec!["Negotiate"], None),
            (vec![""], None),
        ] {
            assert_eq!(Challenge::parse(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
