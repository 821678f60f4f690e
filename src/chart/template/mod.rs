//! Go's `text/template`: text to trees, trees and values to text.

mod compare;
mod exec;
mod lex;
mod node;
mod number;
mod parse;
mod print;
mod source_map;
mod value;

pub use exec::Engine;
pub use number::integer;
pub use print::{display, float, quote, sprint, sprintf};
pub use value::{Map, Value, new_map};
