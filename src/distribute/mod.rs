//! Brings blobs to hosts: only what is missing, verified, resumable.
//!
//! Every host gets its blobs from here. A host that fails does not stop the others.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;

use crate::events::{Context, Unit};
use crate::host::{Host, combine};
use crate::image::Blob;
use crate::store::Store;

/// So many hosts are served at once.
const HOSTS: usize = 32;
/// So many blobs travel to one host at once: the next one is on its way while the host verifies and syncs the last.
const BLOBS: usize = 3;

/// What goes to one host.
#[derive(Clone)]
pub struct Distribution<'a> {
    /// The host.
    pub host: &'a Host,
    /// What it shall have in its store in the end.
    pub blobs: Vec<Blob>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Distributed {
    /// Blobs that were missing on hosts.
    pub blobs: usize,
    /// Their bytes, without those that had arrived earlier.
    pub bytes: u64,
}

/// What each shipment lacks on its host, in their order: what [`ship`] would send.
pub async fn missing(shipments: &[Distribution<'_>]) -> Result<Vec<Distributed>> {
    let questions: Vec<_> = shipments.iter().map(missing_on).collect();
    stream::iter(questions).buffered(HOSTS).try_collect().await
}

/// Sends what is missing. Hosts that fail are told all together in the error, of kind `SomeHosts` when others are done.
pub async fn ship(shipments: &[Distribution<'_>], from: &Store, ctx: &Context) -> Result<Distributed> {
    let _in_use = from.lock_shared()?;
    let sendings: Vec<_> = shipments.iter().map(|shipment| ship_to(shipment, from, ctx)).collect();
    let results: Vec<Result<Distributed>> = stream::iter(sendings).buffered(HOSTS).collect().await;
    ctx.check()?;
    let (mut sum, mut errors) = (Distributed::default(), Vec::new());
    for result in results {
        match result {
            Ok(shipped) => sum = Distributed { blobs: sum.blobs + shipped.blobs, bytes: sum.bytes + shipped.bytes },
            Err(error) => errors.push(error),
        }
    }
    combine(&errors, shipments.len()).map_or(Ok(sum), Err)
}

async fn missing_on(shipment: &Distribution<'_>) -> Result<Distributed> {
    Ok(amount(&shipment.host.missing(&distinct(&shipment.blobs)).await?))
}

async fn ship_to(shipment: &Distribution<'_>, from: &Store, ctx: &Context) -> Result<Distributed> {
    let host = shipment.host;
    let missing = ctx.or_cancelled(host.missing(&distinct(&shipment.blobs))).await?;
    let task = ctx.task(format!("ship to {}", host.name()), Some(missing.iter().map(|(blob, _)| blob.size).sum()), Unit::Bytes);
    if missing.is_empty() {
        task.unchanged();
        return Ok(Distributed::default());
    }
    let sendings: Vec<_> = missing.iter().map(|(blob, _)| send(host, blob, from, &task)).collect();
    ctx.or_cancelled(stream::iter(sendings).buffer_unordered(BLOBS).try_collect::<()>()).await?;
    let shipped = amount(&missing);
    task.done(format!("{} blobs, {}", shipped.blobs, indicatif::BinaryBytes(shipped.bytes)));
    Ok(shipped)
}

async fn send(host: &Host, blob: &Blob, from: &Store, task: &crate::events::Task) -> Result<()> {
    host.send_blob(blob, from, task).await.with_context(|| format!("ship {}", blob.digest))
}

/// The same blob may be asked for twice: layers are shared between images.
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
    fn a_blob_is_asked_for_once() {
        let (a, b) = (Blob::of(b"a"), Blob::of(b"b"));
        assert_eq!(distinct(&[a, b, a]), [a, b]);
        assert_eq!(amount(&[(a, 0), (Blob { size: 10, ..b }, 4)]), Distributed { blobs: 2, bytes: 7 });
    }
}
