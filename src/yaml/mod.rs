//! YAML: one parser and one tree ([`Node`]) in which every value has its place, for everything that sealift reads.
//!
//! ```text
//! text ── parser ──> Node ──┬─ to_value ──> serde_json::Value     Clusterfiles, Configs
//!                           ├─ chart::yaml ──> template values    charts, as helm reads them
//!                           ├─ Node itself, with its lines        the search for container images
//!                           └─ scalars ──> values with byte ranges the values that an image name comes from
//! ```
//!
//! Scalars are kept as written; [`resolve`] finds the type of a plain one. JSON is read too. Nothing here does I/O. [`MAX_NODES`] and
//! [`MAX_DEPTH`] bound the work for hostile input.

mod node;
mod parser;
mod resolve;
mod scalars;

pub use node::{Content, Node, Scalar, Style};
pub use parser::{Documents, Error, ErrorKind, MAX_DEPTH, MAX_NODES, read_all, read_documents};
pub use resolve::{Resolved, is_base60, resolve};
pub use scalars::{PlacedScalar, scalars};
