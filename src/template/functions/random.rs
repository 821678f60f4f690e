//! Random strings, numbers and UUIDs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rand::Rng as _;

use super::{Result, Row, int, text};
use crate::template::{Engine, Value};

/// The functions with their parameters (see [`Function`](super::Function)).
pub const TABLE: &[Row] = &[
    ("randAlphaNum", "i", |_, a| text(letters(int(a, 0), |c| c.is_ascii_alphanumeric())?)),
    ("randAlpha", "i", |_, a| text(letters(int(a, 0), |c| c.is_ascii_alphabetic())?)),
    ("randNumeric", "i", |_, a| text(letters(int(a, 0), |c| c.is_ascii_digit())?)),
    ("randAscii", "i", |_, a| text(letters(int(a, 0), |c| (' '..='~').contains(&c))?)),
    ("randBytes", "i", random_bytes),
    ("randInt", "ii", |_, a| match int(a, 1).checked_sub(int(a, 0)) {
        Some(1..) => Ok(Value::Int(rand::rng().random_range(int(a, 0)..int(a, 1)))),
        _ => Err("invalid argument to Intn".to_owned()),
    }),
    ("uuidv4", "", |_, _| text(uuid())),
];

/// The limit on the length of a random text, in characters.
const MAX_LENGTH: i64 = 1 << 20;

fn letters(count: i64, fits: fn(char) -> bool) -> Result<String> {
    let alphabet: Vec<char> = ('\0'..='\u{7f}').filter(|letter| fits(*letter)).collect();
    let mut random = rand::rng();
    Ok((0..count.clamp(0, MAX_LENGTH)).map(|_| alphabet[random.random_range(0..alphabet.len())]).collect())
}

fn random_bytes(_: &Engine, a: &[Value]) -> Result {
    let mut bytes = vec![0; usize::try_from(int(a, 0).clamp(0, MAX_LENGTH)).unwrap_or(0)];
    rand::rng().fill(bytes.as_mut_slice());
    text(BASE64.encode(bytes))
}

fn uuid() -> String {
    let mut bytes: [u8; 16] = rand::rng().random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
