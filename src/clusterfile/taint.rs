//! Taints, labels and names as Kubernetes spells them.

use std::str::FromStr;

use super::model::{Taint, TaintEffect};

/// Reads the forms of `kubectl taint`: `key=value:Effect`, `key:Effect`, `key=:Effect`, and to remove one `key:Effect-`, `key-`.
impl FromStr for Taint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (body, remove) = text.strip_suffix('-').map_or((text, false), |body| (body, true));
        let (pair, effect) = body.rsplit_once(':').map_or((body, None), |(pair, effect)| (pair, Some(effect)));
        let effect = effect.map(parse_effect).transpose()?;
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        check_key(key).map_err(|why| format!("taint `{text}`: {why}"))?;
        check_value(value).map_err(|why| format!("taint `{text}`: {why}"))?;
        if effect.is_none() && !remove {
            return Err(format!("taint `{text}` has no effect: write `{text}:NoSchedule`, `:NoExecute` or `:PreferNoSchedule`"));
        }
        Ok(Taint { key: key.to_owned(), value: value.to_owned(), effect, remove })
    }
}

fn parse_effect(text: &str) -> Result<TaintEffect, String> {
    match text {
        "NoSchedule" => Ok(TaintEffect::NoSchedule),
        "NoExecute" => Ok(TaintEffect::NoExecute),
        "PreferNoSchedule" => Ok(TaintEffect::PreferNoSchedule),
        other => Err(format!("taint effect {other} need in [NoSchedule NoExecute PreferNoSchedule]")),
    }
}

/// Checks a label's or taint's key: `[prefix/]name`, as Kubernetes does.
pub fn check_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        Some((prefix, name)) if is_subdomain(prefix) => name,
        Some((prefix, _)) => return Err(format!("prefix `{prefix}` is not a DNS name")),
        None => key,
    };
    if name.is_empty() { Err("the key is empty".to_owned()) } else { check_value(name) }
}

/// Checks a label's or taint's value, as Kubernetes does.
pub fn check_value(value: &str) -> Result<(), String> {
    let ends = |character: Option<char>| character.is_none_or(|character| character.is_ascii_alphanumeric());
    let inside = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if value.len() > 63 {
        return Err(format!("`{value}` is longer than 63 characters"));
    }
    if !value.chars().all(inside) || !ends(value.chars().next()) || !ends(value.chars().last()) {
        return Err(format!("`{value}` is not made of letters, digits, `-`, `_` and `.` with a letter or digit at both ends"));
    }
    Ok(())
}

/// Whether a text is a DNS name in lower case.
pub fn is_subdomain(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taints_read_as_kubectl_reads_them() {
        for text in ["db=1:NoSchedule", "db:NoExecute", "a-b=c-d:PreferNoSchedule", "example.com/a-b:NoSchedule-", "a-b-"] {
            assert_eq!(text.parse::<Taint>().unwrap().to_string(), text);
        }
        assert_eq!("db=:NoSchedule".parse::<Taint>().unwrap().to_string(), "db:NoSchedule");
    }

    #[test]
    fn wrong_taints_say_why() {
        let cases = [
            ("db=1", "has no effect"),
            ("db=1:Never", "taint effect Never need in"),
            (":NoSchedule", "the key is empty"),
            ("a b:NoSchedule", "`a b` is not made of"),
            ("Ex_ample/a:NoSchedule", "not a DNS name"),
            ("", "the key is empty"),
        ];
        for (text, expected) in cases {
            let message = text.parse::<Taint>().unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
