//! Base64, base32 and JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Result, Row, string, text};
use crate::template::{Value, json};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("b64enc", "s", |_, a| text(BASE64.encode(string(a, 0)))),
    ("b64dec", "s", |_, a| text(base64_text(string(a, 0)))),
    ("b32enc", "s", |_, a| text(base32(string(a, 0).as_bytes()))),
    ("b32dec", "s", |_, a| text(base32_text(string(a, 0)))),
    ("toJson", "a", |_, a| text(json::write(&a[0], json::Style::Escaped).unwrap_or_default())),
    ("mustToJson", "a", |_, a| text(json::write(&a[0], json::Style::Escaped)?)),
    ("toRawJson", "a", |_, a| text(json::write(&a[0], json::Style::Raw)?)),
    ("mustToRawJson", "a", |_, a| text(json::write(&a[0], json::Style::Raw)?)),
    ("toPrettyJson", "a", |_, a| text(json::write(&a[0], json::Style::Pretty)?)),
    ("mustToPrettyJson", "a", |_, a| text(json::write(&a[0], json::Style::Pretty)?)),
    ("fromJson", "s", |_, a| Ok(json::read(string(a, 0)).unwrap_or(Value::Nil))),
    ("mustFromJson", "s", |_, a| json::read(string(a, 0))),
];

/// Decodes as Go's `base64.StdEncoding`; the message of an error names the first invalid byte.
fn decode_base64(word: &str) -> Result<Vec<u8>> {
    let plain: String = word.chars().filter(|character| !matches!(character, '\r' | '\n')).collect();
    BASE64.decode(&plain).map_err(|_| {
        let good = plain.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(byte)).count();
        format!("illegal base64 data at input byte {good}")
    })
}

/// Decodes a text in standard base64; line breaks are ignored.
///
/// # Errors
/// Fails with Go's message where it is not base64, and where the decoded bytes are not UTF-8.
pub fn decode_base64_text(word: &str) -> Result<String> {
    String::from_utf8(decode_base64(word)?).map_err(|_| "the decoded bytes are not text".to_owned())
}

/// sprig returns the message of an error as if it were the text.
fn base64_text(word: &str) -> String {
    decode_base64(word).map_or_else(|message| message, |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Encodes in base32 (RFC 4648, section 6).
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

fn base32_text(word: &str) -> String {
    let (mut bits, mut count, mut bytes) = (0u64, 0, Vec::new());
    for (at, letter) in word.bytes().filter(|byte| !b"\r\n".contains(byte)).enumerate() {
        if letter == b'=' {
            break;
        }
        let Some(five) = ALPHABET.iter().position(|digit| *digit == letter) else {
            return format!("illegal base32 data at input byte {at}");
        };
        bits = (bits << 5 | five as u64) & 0xfff;
        count += 5;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap_or(0));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
