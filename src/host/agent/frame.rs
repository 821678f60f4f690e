//! Frames of the agent's protocol: two lengths in bytes (4 bytes each, big-endian), a JSON header, a payload of raw bytes.

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The limit of a header and of a payload, in bytes.
const MAX_LENGTH: u32 = 64 << 20;

/// Writes a frame.
///
/// # Errors
/// Fails if header or payload is longer than 64 MiB.
pub async fn write<W: AsyncWrite + Unpin>(out: &mut W, header: &impl Serialize, payload: &[u8]) -> Result<()> {
    let header = serde_json::to_vec(header)?;
    let mut start = Vec::with_capacity(8 + header.len());
    for length in [header.len(), payload.len()] {
        let length = u32::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_LENGTH)
            .with_context(|| format!("a frame part of {length} bytes (limit {MAX_LENGTH})"))?;
        start.extend_from_slice(&length.to_be_bytes());
    }
    start.extend_from_slice(&header);
    out.write_all(&start).await?;
    out.write_all(payload).await?;
    Ok(())
}

/// Reads a frame; `None` if the stream ends between two frames.
///
/// # Errors
/// Fails if the stream ends inside a frame, or is not one of frames.
pub async fn read<R: AsyncRead + Unpin, H: DeserializeOwned>(input: &mut R) -> Result<Option<(H, Vec<u8>)>> {
    let mut lengths = [0; 8];
    let count = input.read(&mut lengths).await?;
    if count == 0 {
        return Ok(None);
    }
    input.read_exact(&mut lengths[count..]).await.context("truncated frame: the connection ended in the middle")?;
    let [a, b, c, d, e, f, g, h] = lengths;
    let header = bytes(input, u32::from_be_bytes([a, b, c, d])).await?;
    let payload = bytes(input, u32::from_be_bytes([e, f, g, h])).await?;
    Ok(Some((serde_json::from_slice(&header).context("frame header")?, payload)))
}

async fn bytes<R: AsyncRead + Unpin>(input: &mut R, length: u32) -> Result<Vec<u8>> {
    ensure!(length <= MAX_LENGTH, "frame of {length} bytes (limit {MAX_LENGTH}): the peer does not speak the agent's protocol");
    let mut bytes = Vec::new();
    let got = input.take(u64::from(length)).read_to_end(&mut bytes).await?;
    ensure!(got == length as usize, "truncated frame: the connection ended in the middle");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_written_and_truncated_ones_are_errors() {
        let mut wire = Vec::new();
        write(&mut wire, &"one", b"payload").await.unwrap();
        write(&mut wire, &"two", b"").await.unwrap();
        let mut input = wire.as_slice();
        assert_eq!(read(&mut input).await.unwrap(), Some(("one".to_owned(), b"payload".to_vec())));
        assert_eq!(read(&mut input).await.unwrap(), Some(("two".to_owned(), Vec::new())));
        assert_eq!(read::<_, String>(&mut input).await.unwrap(), None);
        for length in 1..wire.len() {
            let mut input = &wire[..length];
            let results = [read::<_, String>(&mut input).await, read::<_, String>(&mut input).await];
            assert!(results.iter().any(|result| !matches!(result, Ok(Some(_)))), "{length}");
        }
        assert!(read::<_, String>(&mut b"Welcome to Ubuntu 22.04".as_slice()).await.is_err());
    }
}
