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
mod lex;
mod node;
mod number;
mod object;
mod parse;
mod print;
mod source_map;
mod value;

pub use environment::render;
pub use exec::Engine;
pub use number::integer;
pub use object::{Object, Struct, text_argument};
pub use print::{display, float, quote, sprint, sprintf};
pub use value::{Map, Value, new_map};
