//! Distributes blobs to hosts: only those that are missing, verified, resumable.
//!
//! The operator's machine sends to every host. A host that fails does not stop the others.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use crate::events::{Context, Unit};
use crate::host::{Host, combine};
use crate::image::Blob;
use crate::store::Store;

/// How many hosts to send to in parallel.
const PARALLEL_HOSTS: usize = 32;
/// How many blobs to send to a host in parallel: the next ones travel while the host verifies and syncs the last.
const PARALLEL_BLOBS: usize = 3;

/// The blobs for one host.
#[derive(Clone)]
pub struct Distribution<'a> {
    /// The connected host.
    pub host: &'a Host,
    /// The blobs that its store must have in the end.
    pub blobs: Vec<Blob>,
}

/// How much was sent, or is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Distributed {
    /// The number of blobs.
    pub blobs: usize,
    /// Their bytes, without those that hosts had already received.
    pub bytes: u64,
}

/// What is missing on each host, in the order of `distributions`: what [`distribute`] would send.
///
/// # Errors
/// Fails if a host fails.
pub async fn missing(distributions: &[Distribution<'_>]) -> Result<Vec<Distributed>> {
    let requests: Vec<_> = distributions.iter().map(missing_on).collect();
    stream::iter(requests).buffered(PARALLEL_HOSTS).try_collect().await
}

/// Sends the missing blobs from a store to hosts.
///
/// # Errors
/// Names all hosts that failed; of kind `SomeHosts` if others succeeded.
pub async fn distribute(distributions: &[Distribution<'_>], from: &Store, ctx: &Context) -> Result<Distributed> {
    let _lock = from.lock_shared()?;
    let transfers: Vec<_> = distributions.iter().map(|distribution| distribute_to(distribution, from, ctx)).collect();
    let results: Vec<Result<Distributed>> = stream::iter(transfers).buffered(PARALLEL_HOSTS).collect().await;
    ctx.check()?;
    let (mut sum, mut errors) = (Distributed::default(), Vec::new());
    for result in results {
        match result {
            Ok(sent) => sum = Distributed { blobs: sum.blobs + sent.blobs, bytes: sum.bytes + sent.bytes },
            Err(error) => errors.push(error),
        }
    }
    combine(&errors, distributions.len()).map_or(Ok(sum), Err)
}

async fn missing_on(distribution: &Distribution<'_>) -> Result<Distributed> {
    Ok(amount(&distribution.host.missing(&distinct(&distribution.blobs)).await?))
}

async fn distribute_to(distribution: &Distribution<'_>, from: &Store, ctx: &Context) -> Result<Distributed> {
    let host = distribution.host;
    let missing = ctx.or_cancelled(host.missing(&distinct(&distribution.blobs))).await?;
    let task = ctx.task(format!("distribute to {}", host.name()), Some(missing.iter().map(|(blob, _)| blob.size).sum()), Unit::Bytes);
    if missing.is_empty() {
        task.unchanged();
        return Ok(Distributed::default());
    }
    let transfers: Vec<_> = missing.iter().map(|(blob, _)| send(host, blob, from, &task)).collect();
    ctx.or_cancelled(stream::iter(transfers).buffer_unordered(PARALLEL_BLOBS).try_collect::<()>()).await?;
    let sent = amount(&missing);
    task.done(format!("{} blobs, {}", sent.blobs, indicatif::BinaryBytes(sent.bytes)));
    Ok(sent)
}

async fn send(host: &Host, blob: &Blob, from: &Store, task: &crate::events::Task) -> Result<()> {
    host.send_blob(blob, from, task).await.with_context(|| format!("send blob {}", blob.digest))
}

/// The blobs, each once: images share layers.
fn distinct(blobs: &[Blob]) -> Vec<Blob> {
    let mut seen = BTreeSet::new();
    blobs.iter().filter(|blob| seen.insert(blob.digest)).copied().collect()
}

fn amount(missing: &[(Blob, u64)]) -> Distributed {
    Distributed { blobs: missing.len(), bytes: missing.iter().map(|(blob, offset)| blob.size.saturating_sub(*offset)).sum() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_of_several_images_is_sent_once() {
        let (a, b) = (Blob::of(b"a"), Blob::of(b"b"));
        assert_eq!(distinct(&[a, b, a]), [a, b]);
        assert_eq!(amount(&[(a, 0), (Blob { size: 10, ..b }, 4)]), Distributed { blobs: 2, bytes: 7 });
    }
}
