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
    /// Parses header values. `Bearer` is preferred to `Basic`; other schemes are skipped.
    pub fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
        let mut best = None;
        for header in headers {
            match Self::parse_one(header) {
                Some(bearer @ Challenge::Bearer { .. }) => return Some(bearer),
                Some(Challenge::Basic) => best = Some(Challenge::Basic),
                None => {}
            }
        }
        best
    }

    fn parse_one(header: &str) -> Option<Challenge> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest);
        let value = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        Some(Challenge::Bearer { realm: value("realm")?, service: value("service") })
    }
}

/// Parses `a="b, c",d=e` into pairs, keys in lower case.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start_matches([',', ' ']);
    while let Some((key, after)) = rest.split_once('=') {
        let (value, left) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => until_quote(quoted),
            None => {
                let (value, left) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), left)
            }
        };
        pairs.push((key.trim().to_ascii_lowercase(), value));
        rest = left.trim_start_matches([',', ' ']);
    }
    pairs
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
            (vec!["Bearer service=x"], None),
            (vec!["Negotiate"], None),
            (vec![""], None),
        ] {
            assert_eq!(Challenge::parse(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
