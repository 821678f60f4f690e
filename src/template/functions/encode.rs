//! Base64, base32 and JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::strings::lossy;
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

/// Decodes as Go's `base64.StdEncoding`; the message of an error names the byte where Go sees it.
fn decode_base64(word: &str) -> Result<Vec<u8>> {
    let corrupt = |at: usize| Err(format!("illegal base64 data at input byte {at}"));
    let letters: Vec<(usize, u8)> = word.bytes().enumerate().filter(|(_, byte)| !b"\r\n".contains(byte)).collect();
    let mut bytes = Vec::new();
    for (number, chunk) in letters.chunks(4).enumerate() {
        let mut bits = 0_u32;
        for (at, (place, letter)) in chunk.iter().enumerate() {
            if *letter != b'=' {
                let Some(six) = BASE64_ALPHABET.iter().position(|digit| digit == letter) else { return corrupt(*place) };
                bits = bits << 6 | u32::try_from(six).unwrap_or_default();
                continue;
            }
            // padding: one or two signs, and nothing after them
            match (at, chunk.get(at + 1)) {
                (0 | 1, _) => return corrupt(*place),
                (2, None) => return corrupt(word.len()),
                (2, Some((place, next))) if *next != b'=' => return corrupt(place - 1),
                _ => {}
            }
            if let Some((place, _)) = letters.get(number * 4 + 4) {
                return corrupt(*place);
            }
            let padded = (bits << (6 * (4 - at))).to_be_bytes();
            bytes.extend_from_slice(&padded[1..at]);
            return Ok(bytes);
        }
        if chunk.len() < 4 {
            return corrupt(word.len() - chunk.len());
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
    }
    Ok(bytes)
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
    decode_base64(word).map_or_else(|message| message, |bytes| lossy(&bytes))
}

const BASE64_ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
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

/// sprig returns the message of an error as if it were the text.
fn base32_text(word: &str) -> String {
    let decoded = decode_base32(&word.bytes().filter(|byte| !b"\r\n".contains(byte)).collect::<Vec<u8>>());
    decoded.map_or_else(|at| format!("illegal base32 data at input byte {at}"), |bytes| lossy(&bytes))
}

/// Decodes as Go's `base32.StdEncoding`; an error is the byte where Go sees it.
fn decode_base32(word: &[u8]) -> std::result::Result<Vec<u8>, usize> {
    let mut bytes = Vec::new();
    for (number, chunk) in word.chunks(8).enumerate() {
        let start = number * 8;
        let (mut bits, mut count) = (0_u64, 0);
        for (at, letter) in chunk.iter().enumerate() {
            let is_last = start + 8 >= word.len();
            if *letter == b'=' && at >= 2 && is_last {
                if chunk.len() < 8 {
                    return Err(word.len());
                }
                if let Some(wrong) = chunk[at + 1..].iter().position(|sign| *sign != b'=') {
                    return Err(start + at + wrong);
                }
                if matches!(at, 3 | 6) {
                    return Err(start + at);
                }
                break;
            }
            let five = ALPHABET.iter().position(|digit| digit == letter).ok_or(start + at)?;
            bits = bits << 5 | five as u64;
            count += 1;
        }
        if count == chunk.len() && count < 8 {
            return Err(word.len() - count);
        }
        let whole = count * 5 / 8;
        bytes.extend_from_slice(&(bits << (64 - 5 * count)).to_be_bytes()[..whole]);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Held to helm 3.17.3.
    #[test]
    fn texts_are_decoded_as_in_go() {
        for (word, expected) in [
            ("aGk=", "hi"),
            ("aGlq", "hij"),
            ("aA==", "h"),
            ("a\nGk=\n", "hi"),
            ("12", "illegal base64 data at input byte 0"),
            ("a", "illegal base64 data at input byte 0"),
            ("aGk", "illegal base64 data at input byte 0"),
            ("aGk=x", "illegal base64 data at input byte 4"),
            ("aG=k", "illegal base64 data at input byte 2"),
            ("aG=", "illegal base64 data at input byte 3"),
            ("!", "illegal base64 data at input byte 0"),
            ("first\nsecond: x\n", "illegal base64 data at input byte 12"),
            ("", ""),
        ] {
            assert_eq!(base64_text(word), expected, "{word}");
        }
        for (word, expected) in [
            ("NBUQ====", "hi"),
            ("NBUWU===", "hij"),
            ("NB======", "h"),
            ("1e3", "illegal base32 data at input byte 0"),
            ("NBUQ", "illegal base32 data at input byte 0"),
            ("NBUQ==", "illegal base32 data at input byte 6"),
            ("NBU=====", "illegal base32 data at input byte 3"),
        ] {
            assert_eq!(base32_text(word), expected, "{word}");
        }
    }
}
