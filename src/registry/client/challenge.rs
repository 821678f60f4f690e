//! What a registry asks for in `WWW-Authenticate` (RFC 9110 section 11.6.1, distribution token specification).

/// How a registry wants to be convinced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from this service.
    Bearer {
        /// Where tokens are given out.
        realm: String,
        /// What the registry is called there.
        service: Option<String>,
    },
}

impl Challenge {
    /// The challenge in these header values; a token is preferred to a password, what is unknown is passed over.
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

/// `a="b, c",d=e` as pairs, keys in lower case.
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

/// The text up to the closing quote, with backslash escapes taken out, and what follows.
fn until_quote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &text[place + 1..]),
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
    fn challenges_of_real_registries_are_understood() {
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
