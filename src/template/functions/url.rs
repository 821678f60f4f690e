//! URLs, after Go's `net/url` and sprig's `url.go`.

use super::{Result, Row, strval, text};
use crate::template::{Engine, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[("urlParse", "s", parse), ("urlJoin", "m", join)];

/// Escapes for a query, as `url.QueryEscape`.
pub fn escape(word: &str) -> String {
    let mut out = String::new();
    for byte in word.bytes() {
        match byte {
            b' ' => out.push('+'),
            _ if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn parse(_: &Engine, a: &[Value]) -> Result {
    let whole = super::string(a, 0);
    if let Some(bad) = whole.chars().find(|character| character.is_control()) {
        return Err(format!("unable to parse url: parse {whole:?}: net/url: invalid control character in URL {bad:?}"));
    }
    let (rest, fragment) = whole.split_once('#').unwrap_or((whole, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = match rest.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme.to_lowercase(), rest),
        _ => (String::new(), rest),
    };
    let opaque = if !scheme.is_empty() && !rest.starts_with('/') { rest } else { "" };
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", if opaque.is_empty() { rest } else { "" }),
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let parts = [
        ("scheme", scheme.as_str()),
        ("host", host),
        ("hostname", hostname(host)),
        ("path", path),
        ("query", query),
        ("opaque", opaque),
        ("fragment", fragment),
        ("userinfo", user),
    ];
    Ok(Value::map(parts.map(|(name, part)| (name, Value::text(part)))))
}

fn is_scheme(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn hostname(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn join(_: &Engine, a: &[Value]) -> Result {
    let part = |name: &str| match a[0].get(name) {
        Value::Nil => String::new(),
        value => strval(&value),
    };
    let mut out = String::new();
    if !part("scheme").is_empty() {
        out = part("scheme") + ":";
    }
    if part("opaque").is_empty() {
        let (host, user, path) = (part("host"), part("userinfo"), part("path"));
        if !out.is_empty() || !host.is_empty() || !user.is_empty() {
            out.push_str(if host.is_empty() && path.is_empty() && user.is_empty() { "" } else { "//" });
        }
        if !user.is_empty() {
            out += &(user + "@");
        }
        out += &host;
        if !path.is_empty() && !path.starts_with('/') && !host.is_empty() {
            out.push('/');
        }
        out += &path;
    } else {
        out += &part("opaque");
    }
    for (sign, name) in [('?', "query"), ('#', "fragment")] {
        if !part(name).is_empty() {
            out.push(sign);
            out += &part(name);
        }
    }
    text(out)
}
