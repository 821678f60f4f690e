//! What runner and agent say to each other.

use serde::{Deserialize, Serialize};

use super::Exec;
use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::host::facts::FactsRequest;
use crate::image::{Blob, Digest};
use crate::resource::Resource;

/// The version of these types.
pub const VERSION: u32 = 1;
/// A blob travels in payloads of this many bytes.
pub const CHUNK: usize = 256 << 10;
/// So many bytes of a blob may be under way before the agent has said that it took them.
pub const WINDOW: u64 = 8 << 20;

/// A header from the runner.
#[derive(Debug, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Which call it is, or belongs to.
    pub id: u64,
    /// What is asked.
    #[serde(rename = "ask")]
    pub request: Request,
}

/// What is asked. All but `Data` and `Ping` are answered by `Done` or `Failed` in the end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Facts about the host.
    Facts(FactsRequest),
    /// The states of resources.
    Check(Vec<Resource>),
    /// A resource is made so.
    Apply(Box<Resource>),
    /// All is taken back.
    Undo,
    /// What sealift keeps for itself goes.
    Forget { keep_store: bool },
    /// A command.
    Exec(Exec),
    /// A small file; the answer's payload is its content.
    ReadFile(String),
    /// Which blobs the store lacks.
    Missing(Vec<Blob>),
    /// Which blobs the store has.
    Held,
    /// A blob comes, from this offset on.
    Receive { blob: Blob, offset: u64 },
    /// A piece of it, in the payload.
    Data(Chunk),
    /// Are you there?
    Ping,
}

/// Which piece of a blob a payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Chunk {
    /// More follow.
    Middle,
    /// The last one.
    Last,
    /// None: the source is damaged, what was sent is worthless.
    Worthless,
}

/// A header from the agent.
#[derive(Debug, Serialize, Deserialize)]
pub struct EventFrame {
    /// Which call it belongs to; 0 for none.
    pub id: u64,
    /// What is told.
    #[serde(rename = "tell")]
    pub event: Event,
}

/// What is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// The agent is there. The first thing that it says.
    Hello(Handshake),
    /// A line of output.
    Line(String),
    /// So many more bytes of a blob are written.
    Took(u64),
    /// The call is done. What came of it depends on what was asked.
    Done(serde_json::Value),
    /// The call failed.
    Failed(RemoteError),
    /// Yes.
    Pong,
}

/// Who the agent is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handshake {
    /// [`VERSION`].
    pub version: u32,
    /// The digest of its executable.
    pub digest: Digest,
    /// The name of its host.
    pub hostname: String,
}

/// How a command ended; the payload is its stdout, then its stderr.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExitStatus {
    /// The exit status.
    pub status: i32,
    /// How many bytes of the payload are stdout.
    pub stdout: usize,
    /// How many bytes, the first ones, were not kept.
    pub lost: u64,
}

/// A failure, as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub struct RemoteError {
    code: u8,
    message: String,
    hints: Vec<String>,
}

impl From<&anyhow::Error> for RemoteError {
    fn from(error: &anyhow::Error) -> Self {
        RemoteError { code: kind_of(error).exit_code(), message: format!("{error:#}"), hints: hints_of(error).to_vec() }
    }
}

impl From<RemoteError> for Failure {
    fn from(told: RemoteError) -> Self {
        const KINDS: [Kind; 4] = [Kind::Usage, Kind::Preflight, Kind::Verification, Kind::Network];
        let kind = KINDS.into_iter().find(|kind| kind.exit_code() == told.code).unwrap_or(Kind::Failed);
        Failure { kind, message: told.message, hints: told.hints }
    }
}
