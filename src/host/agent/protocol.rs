//! The messages between the runner (client) and the agent (server): JSON headers of frames, with a payload of raw bytes.
//!
//! Both ends are the same binary, which the runner uploads; names on the wire are nevertheless those of the first version.

use serde::{Deserialize, Serialize};

use super::Exec;
use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::host::facts::FactsRequest;
use crate::host::{Claim, Fence, lease};
use crate::image::{Blob, Digest};
use crate::resource::{Resource, is_disk_full};

/// The version of the protocol. Client and agent must have the same.
pub const VERSION: u32 = 2;
/// The size of a chunk of a blob, in bytes; the last one may be smaller.
pub const CHUNK: usize = 256 << 10;
/// The limit of bytes of a blob that are sent but not yet reported as written.
pub const WINDOW: u64 = 8 << 20;

/// The header of a frame from the runner.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFrame {
    /// The call that it starts or belongs to, from 1; 0 for [`Request::Ping`].
    pub id: u64,
    /// The request.
    #[serde(rename = "ask")]
    pub request: Request,
    /// The cluster and lease of the run, if it has one: a change of an older run is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// A request. All but `Cancel`, `Data` and `Ping` end with [`Event::Done`] or [`Event::Failed`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Gather facts about the host.
    Facts(FactsRequest),
    /// Compare resources with the host.
    Check(Vec<Resource>),
    /// Apply a resource, recorded in the undo ledger.
    Apply(Box<Resource>),
    /// Apply a resource even if the check finds no drift.
    ApplyAnyway(Box<Resource>),
    /// Undo all changes in the undo ledger.
    Undo,
    /// Which resources were applied and not undone.
    Applied,
    /// Undo the changes of the resource with this identity.
    Revert(String),
    /// Remove sealift's own files.
    #[serde(rename = "forget")]
    Purge { keep_store: bool },
    /// Run a command.
    Exec(Exec),
    /// Read a small file, which is the payload of the answer.
    ReadFile(String),
    /// Which of these blobs are missing from the host's store.
    #[serde(rename = "missing")]
    MissingBlobs(Vec<Blob>),
    /// Which blobs the host's store has.
    #[serde(rename = "held")]
    ReachableBlobs,
    /// Receive a blob from this offset on.
    #[serde(rename = "receive")]
    ReceiveBlob { blob: Blob, offset: u64 },
    /// A chunk of that blob, in the payload.
    Data(ChunkKind),
    /// Acquire, renew or release the lease on the cluster, which this host keeps.
    Lease { holder: String, owner: String, request: lease::Request },
    /// End the call with this id soon: it finishes the step that it is in, or leaves it safely, and starts no other one. The loss of the
    /// connection does the same to all calls.
    Cancel,
    /// Keep-alive.
    Ping,
}

/// The position of a chunk in its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChunkKind {
    /// More chunks follow.
    Middle,
    /// The last chunk: the blob is complete.
    Last,
    /// No chunk: the source is damaged, discard what was sent.
    #[serde(rename = "worthless")]
    Abort,
}

/// The header of a frame from the agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventFrame {
    /// The call that it belongs to; 0 for none.
    pub id: u64,
    /// The event.
    #[serde(rename = "tell")]
    pub event: Event,
}

/// An event of a call or of the connection.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The first event of a connection.
    #[serde(rename = "hello")]
    Handshake(Handshake),
    /// A line of output, without its end.
    Line(String),
    /// This many more bytes of a blob are written to the store.
    #[serde(rename = "took")]
    BytesWritten(u64),
    /// The call is done; the result's type depends on the request.
    Done(serde_json::Value),
    /// The call failed.
    Failed(RemoteError),
    /// The answer to a ping.
    Pong,
}

/// Identifies the agent and its host.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handshake {
    /// [`VERSION`].
    pub version: u32,
    /// The digest of its executable, which must be that of the runner's.
    pub digest: Digest,
    /// The host name (`uname -n`).
    pub hostname: String,
    /// The claim of a cluster on the host.
    #[serde(default)]
    pub claim: Option<Claim>,
}

/// The end of a command; the payload is its stdout, then its stderr.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit status; 128 plus the signal's number if a signal killed it.
    pub status: i32,
    /// How many bytes of the payload are stdout.
    pub stdout: usize,
    /// How many of the first bytes of its output were dropped.
    #[serde(rename = "lost")]
    pub truncated_bytes: u64,
}

/// A failure on the wire: exit code, message with its causes, hints.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoteError {
    code: u8,
    message: String,
    hints: Vec<String>,
}

impl From<&anyhow::Error> for RemoteError {
    fn from(error: &anyhow::Error) -> Self {
        let mut hints = hints_of(error).to_vec();
        if is_disk_full(error) {
            hints.push("free disk space on the host: `df -h /var/lib/sealift /etc`, `journalctl --vacuum-size=100M`".to_owned());
        }
        RemoteError { code: kind_of(error).exit_code(), message: format!("{error:#}"), hints }
    }
}

impl From<RemoteError> for Failure {
    fn from(remote: RemoteError) -> Self {
        const KINDS: [Kind; 5] = [Kind::Usage, Kind::Preflight, Kind::Verification, Kind::Network, Kind::Interrupted];
        let kind = KINDS.into_iter().find(|kind| kind.exit_code() == remote.code).unwrap_or(Kind::Failed);
        Failure { kind, message: remote.message, hints: remote.hints }
    }
}
