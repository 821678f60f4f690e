//! Go templates (`text/template`) with sprig's functions: text and values to text. Pure.
//!
//! Two modules use it: [`render`] fills in an image's `*.tmpl` with environment variables, as Sealer does, and `chart/` adds what
//! Helm knows. Messages of errors are Go's, as people search for those.

pub mod budget;
mod compare;
mod environment;
mod exec;
pub mod functions;
pub mod json;
mod json_reader;
mod lex;
mod node;
mod number;
mod object;
mod parse;
mod print;
mod printf;
mod source_map;
mod value;

pub use environment::render;
pub use exec::Engine;
pub use number::{parse_float, parse_int};
pub use object::{JsonNames, Object, Struct, TextMap, text_argument};
pub use print::{display, float, quote};
pub use printf::{sprint, sprintf};
pub use value::{List, Map, Value, new_map};
