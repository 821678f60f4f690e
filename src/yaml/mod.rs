//! YAML, read one way for all: a parser that gives a tree ([`Node`]) which knows where everything stands.
//!
//! ```text
//! text ── parser ──> Node ──┬─ to_value ──> serde_json::Value     Clusterfiles, Configs
//!                           ├─ chart::yaml ──> template values    charts, as helm reads them
//!                           ├─ Node itself, with its lines        the search for container images
//!                           └─ scalars ──> values and their bytes the search for the value that makes an image
//! ```
//!
//! Scalars are kept as written; [`resolve`] says what a plain one means. JSON reads as YAML. Nothing here does I/O, and no text, however
//! hostile, takes more than [`MAX_NODES`] nodes or [`MAX_DEPTH`] levels.

mod node;
mod parser;
mod resolve;
mod scalars;

pub use node::{Content, Node, Scalar, Style};
pub use parser::{Documents, Error, ErrorKind, MAX_DEPTH, MAX_NODES, read_all, read_documents};
pub use resolve::{Resolved, is_base60, resolve};
pub use scalars::{PlacedScalar, scalars};
