//! Encodings: base64, base32, JSON, YAML, TOML.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Result, Row, string, text};
use crate::chart::template::{Engine, Value};
use crate::chart::{json, toml, yaml};

/// Functions by name.
pub const TABLE: &[Row] = &[
    ("b64enc", "s", |_, a| text(BASE64.encode(string(a, 0)))),
    ("b64dec", "s", |_, a| text(base64_decoded(string(a, 0)))),
    ("b32enc", "s", |_, a| text(base32(string(a, 0).as_bytes()))),
    ("b32dec", "s", |_, a| text(base32_decoded(string(a, 0)))),
    ("toJson", "a", |_, a| text(json::write(&a[0], json::Style::Escaped).unwrap_or_default())),
    ("mustToJson", "a", |_, a| text(json::write(&a[0], json::Style::Escaped)?)),
    ("toRawJson", "a", |_, a| text(json::write(&a[0], json::Style::Raw)?)),
    ("mustToRawJson", "a", |_, a| text(json::write(&a[0], json::Style::Raw)?)),
    ("toPrettyJson", "a", |_, a| text(json::write(&a[0], json::Style::Pretty)?)),
    ("mustToPrettyJson", "a", |_, a| text(json::write(&a[0], json::Style::Pretty)?)),
    ("fromJson", "s", |_, a| Ok(or_error_map(json::read(string(a, 0)).and_then(|value| only_map(value, "json"))))),
    ("mustFromJson", "s", |_, a| json::read(string(a, 0))),
    ("fromJsonArray", "s", |_, a| Ok(or_error_list(json::read(string(a, 0)).and_then(|value| only_list(value, "json"))))),
    ("toYaml", "a", to_yaml),
    ("mustToYaml", "a", to_yaml),
    ("toYamlPretty", "a", |_, a| text(yaml::write_pretty(&a[0]).unwrap_or_default().trim_end_matches('\n'))),
    ("fromYaml", "s", |_, a| Ok(or_error_map(yaml::read(string(a, 0)).and_then(|value| only_map(value, "yaml"))))),
    ("fromYamlArray", "s", |_, a| Ok(or_error_list(yaml::read(string(a, 0)).and_then(|value| only_list(value, "yaml"))))),
    ("fromToml", "s", |_, _| Err("TOML is written here, not read: render with `--engine helm`".to_owned())),
    ("toToml", "a", |_, a| text(toml::write(&a[0]).unwrap_or_else(|message| message))),
];

fn to_yaml(_: &Engine, a: &[Value]) -> Result {
    // Helm swallows what it cannot write
    text(yaml::write(&a[0]).unwrap_or_default().trim_end_matches('\n'))
}

fn or_error_map(value: Result) -> Value {
    value.unwrap_or_else(|message| Value::map([("Error", Value::text(message))]))
}

fn or_error_list(value: Result) -> Value {
    value.unwrap_or_else(|message| Value::list([Value::text(message)]))
}

fn only_map(value: Value, language: &str) -> Result {
    match value {
        Value::Map(_) => Ok(value),
        Value::Nil | Value::Absent => Ok(Value::map::<String>([])),
        other => Err(mismatch(&other, language, "map[string]interface {}")),
    }
}

fn only_list(value: Value, language: &str) -> Result {
    match value {
        Value::List(_) => Ok(value),
        Value::Nil | Value::Absent => Ok(Value::list([])),
        other => Err(mismatch(&other, language, "[]interface {}")),
    }
}

fn mismatch(value: &Value, language: &str, wanted: &str) -> String {
    let what = match value {
        Value::List(_) => "array",
        Value::Map(_) => "object",
        Value::Text(_) => "string",
        Value::Bool(_) => "bool",
        _ => "number",
    };
    let before = if language == "yaml" { "error unmarshaling JSON: while decoding JSON: " } else { "" };
    format!("{before}json: cannot unmarshal {what} into Go value of type {wanted}")
}

fn base64_decoded(word: &str) -> String {
    let plain: String = word.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
    match BASE64.decode(&plain) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => {
            let good = plain.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)).count();
            format!("illegal base64 data at input byte {good}")
        }
    }
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648, section 6.
fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(5) {
        let mut word = [0; 5];
        word[..chunk.len()].copy_from_slice(chunk);
        let bits = word.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
        let letters = (chunk.len() * 8).div_ceil(5);
        for at in 0..8 {
            let five = (bits >> (35 - 5 * at)) & 31;
            out.push(if at < letters { char::from(ALPHABET[usize::try_from(five).unwrap_or(0)]) } else { '=' });
        }
    }
    out
}

fn base32_decoded(word: &str) -> String {
    let (mut bits, mut held, mut bytes) = (0u64, 0, Vec::new());
    for (at, letter) in word.bytes().filter(|byte| !b"\r\n".contains(byte)).enumerate() {
        if letter == b'=' {
            break;
        }
        let Some(five) = ALPHABET.iter().position(|known| *known == letter) else {
            return format!("illegal base32 data at input byte {at}");
        };
        bits = (bits << 5 | five as u64) & 0xfff;
        held += 5;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).unwrap_or(0));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
