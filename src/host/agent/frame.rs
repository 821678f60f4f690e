//! Frames: two lengths (4 bytes each, big-endian), a JSON header, raw bytes.

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// No header and no payload is longer, in bytes.
const LONGEST: u32 = 64 << 20;

/// Writes a frame.
pub async fn write<W: AsyncWrite + Unpin>(out: &mut W, header: &impl Serialize, payload: &[u8]) -> Result<()> {
    let header = serde_json::to_vec(header)?;
    let mut start = Vec::with_capacity(8 + header.len());
    for length in [header.len(), payload.len()] {
        let length = u32::try_from(length).ok().filter(|length| *length <= LONGEST).context("too long for a frame")?;
        start.extend_from_slice(&length.to_be_bytes());
    }
    start.extend_from_slice(&header);
    out.write_all(&start).await?;
    out.write_all(payload).await?;
    Ok(())
}

/// Reads a frame; `None` at the end of the stream between two frames.
pub async fn read<R: AsyncRead + Unpin, H: DeserializeOwned>(input: &mut R) -> Result<Option<(H, Vec<u8>)>> {
    let mut lengths = [0; 8];
    let count = input.read(&mut lengths).await?;
    if count == 0 {
        return Ok(None);
    }
    input.read_exact(&mut lengths[count..]).await.context("a frame is cut off")?;
    let [a, b, c, d, e, f, g, h] = lengths;
    let header = bytes(input, u32::from_be_bytes([a, b, c, d])).await?;
    let payload = bytes(input, u32::from_be_bytes([e, f, g, h])).await?;
    Ok(Some((serde_json::from_slice(&header).context("a frame's header")?, payload)))
}

async fn bytes<R: AsyncRead + Unpin>(input: &mut R, length: u32) -> Result<Vec<u8>> {
    ensure!(length <= LONGEST, "a frame of {length} bytes: the other end does not talk frames");
    let mut bytes = Vec::new();
    let got = input.take(u64::from(length)).read_to_end(&mut bytes).await?;
    ensure!(got == length as usize, "a frame is cut off");
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_are_read_as_written_and_cut_ones_are_errors() {
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
