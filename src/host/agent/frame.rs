//! Frames of the agent's protocol: two lengths in bytes (4 bytes each, big-endian), a JSON header, a payload of raw bytes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::error::Failure;

/// How much memory is taken at once for what a peer announces, in bytes.
const PIECE: usize = 1 << 20;
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
/// Fails if the stream ends inside a frame, is not one of frames, or is silent. A frame may take long as long as its bytes arrive.
pub async fn read<R: AsyncRead + Unpin, H: DeserializeOwned>(input: &mut R, silence: &Silence<'_>) -> Result<Option<(H, Vec<u8>)>> {
    let mut lengths = [0; 8];
    let count = silence.end(input.read(&mut lengths)).await?;
    if count == 0 {
        return Ok(None);
    }
    read_exact(input, &mut lengths[count..], silence).await?;
    let [a, b, c, d, e, f, g, h] = lengths;
    let header = bytes(input, u32::from_be_bytes([a, b, c, d]), silence).await?;
    let payload = bytes(input, u32::from_be_bytes([e, f, g, h]), silence).await?;
    Ok(Some((serde_json::from_slice(&header).context("frame header")?, payload)))
}

async fn bytes<R: AsyncRead + Unpin>(input: &mut R, length: u32, silence: &Silence<'_>) -> Result<Vec<u8>> {
    ensure!(length <= MAX_LENGTH, "frame of {length} bytes (limit {MAX_LENGTH}): the peer does not speak the agent's protocol");
    let (mut bytes, mut rest) = (Vec::new(), length as usize);
    while rest > 0 {
        let start = bytes.len();
        bytes.resize(start + rest.min(PIECE), 0);
        read_exact(input, &mut bytes[start..], silence).await?;
        rest -= bytes.len() - start;
    }
    Ok(bytes)
}

async fn read_exact<R: AsyncRead + Unpin>(input: &mut R, mut into: &mut [u8], silence: &Silence<'_>) -> Result<()> {
    while !into.is_empty() {
        let count = silence.end(input.read(into)).await?;
        ensure!(count > 0, "truncated frame: the connection ended in the middle");
        into = &mut into[count..];
    }
    Ok(())
}

/// How long the peer may be silent.
pub struct Silence<'a> {
    /// The peer, for messages.
    pub peer: &'a str,
    /// From here on `notice` is told.
    pub noticed_after: Duration,
    /// From here on the peer counts as gone.
    pub limit: Duration,
    /// Called with `true` once the peer is silent, and with `false` once it is not any more.
    pub notice: &'a (dyn Fn(bool) + Sync),
}

impl Silence<'_> {
    /// Waits for a read to end.
    async fn end(&self, read: impl Future<Output = std::io::Result<usize>>) -> Result<usize> {
        tokio::pin!(read);
        if let Ok(result) = timeout(self.noticed_after, &mut read).await {
            return Ok(result?);
        }
        (self.notice)(true);
        match timeout(self.limit.saturating_sub(self.noticed_after), read).await {
            Ok(result) => {
                let count = result?;
                if count > 0 {
                    (self.notice)(false); // an end of the stream is no answer
                }
                Ok(count)
            }
            Err(_) => Err(Failure::network(format!("no answer from {} for {} s", self.peer, self.limit.as_secs())).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};
    use std::sync::Mutex;

    fn patient() -> Silence<'static> {
        Silence { peer: "h1", noticed_after: Duration::from_secs(30), limit: Duration::from_secs(60), notice: &|_| () }
    }

    #[tokio::test]
    async fn frames_are_read_as_written_and_truncated_ones_are_errors() {
        let mut wire = Vec::new();
        write(&mut wire, &"one", b"payload").await.unwrap();
        write(&mut wire, &"two", b"").await.unwrap();
        let mut input = wire.as_slice();
        let silence = patient();
        assert_eq!(read(&mut input, &silence).await.unwrap(), Some(("one".to_owned(), b"payload".to_vec())));
        assert_eq!(read(&mut input, &silence).await.unwrap(), Some(("two".to_owned(), Vec::new())));
        assert_eq!(read::<_, String>(&mut input, &silence).await.unwrap(), None);
        for length in 1..wire.len() {
            let mut input = &wire[..length];
            let results = [read::<_, String>(&mut input, &silence).await, read::<_, String>(&mut input, &silence).await];
            assert!(results.iter().any(|result| !matches!(result, Ok(Some(_)))), "{length}");
        }
        assert!(read::<_, String>(&mut b"Welcome to Ubuntu 22.04".as_slice(), &silence).await.is_err());
    }

    #[tokio::test]
    async fn a_slow_frame_is_read_and_one_that_stands_still_is_given_up() {
        let ms = Duration::from_millis;
        let payload = [7; 60];
        let mut wire = Vec::new();
        write(&mut wire, &"h", &payload).await.unwrap();
        // the pause after each ten bytes, how many bytes arrive, what is noticed, whether the frame is read
        let cases = [
            ("slow", ms(50), wire.len(), &[][..], true),
            ("stuttering", ms(400), wire.len(), &[true, false], true),
            ("stopped in the middle", ms(1), 45, &[true], false),
            ("stopped at its begin", ms(1), 0, &[true], false),
        ];
        for (name, pause, arrives, noticed, whole) in cases {
            let (near, mut far) = tokio::io::duplex(10);
            let bytes = wire[..arrives].to_vec();
            let sending = tokio::spawn(async move {
                for chunk in bytes.chunks(10) {
                    far.write_all(chunk).await.unwrap();
                    tokio::time::sleep(pause).await;
                }
                tokio::time::sleep(ms(5000)).await;
            });
            let notices = Mutex::new(Vec::new());
            let silence =
                Silence { peer: "h1", noticed_after: ms(200), limit: ms(1200), notice: &|silent| notices.lock().unwrap().push(silent) };
            let result = read::<_, String>(&mut { near }, &silence).await;
            sending.abort();
            assert_eq!(result.is_ok(), whole, "{name}: {result:?}");
            let notices = notices.into_inner().unwrap();
            assert_eq!(&notices[..noticed.len()], noticed, "{name}");
            assert!(result.is_ok_and(|frame| frame.unwrap().1 == payload) || !whole, "{name}");
            let silent_for_ever = notices.len() % 2 == 1;
            assert_eq!(silent_for_ever, !whole, "{name}: {notices:?}");
        }
        let (near, far) = tokio::io::duplex(10);
        let notices = Mutex::new(Vec::new());
        let silence =
            Silence { peer: "h1", noticed_after: ms(50), limit: ms(5000), notice: &|silent| notices.lock().unwrap().push(silent) };
        let cut_off = async {
            tokio::time::sleep(ms(300)).await;
            drop(far);
        };
        let mut near = near;
        let (result, ()) = tokio::join!(read::<_, String>(&mut near, &silence), cut_off);
        assert!(matches!(result, Ok(None)), "{result:?}");
        assert_eq!(notices.into_inner().unwrap(), [true], "a connection that is cut off does not answer");
        let (near, _far) = tokio::io::duplex(10);
        let silence = Silence { peer: "h1", noticed_after: ms(10), limit: ms(20), notice: &|_| () };
        let error = read::<_, String>(&mut { near }, &silence).await.unwrap_err();
        assert!(kind_of(&error) == Kind::Network && error.to_string().contains("no answer from h1"), "{error}");
    }
}
