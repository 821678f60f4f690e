//! Kubefiles: text to checked instructions with source spans. Pure.
//!
//! The syntax is Dockerfile's (BuildKit's reading of it); the instructions are Sealer's and ours. [`parse`] gives what could
//! be read and all that is wrong; [`expand`] says what a word means once variables have values.

mod check;
mod expand;
mod heredoc;
mod instruction;
mod line;
mod mode;
mod operands;
mod parse;
mod print;
mod range;
#[cfg(test)]
mod tests;
mod wildcard;

pub use expand::{ExpandError, Expanded, PREDEFINED, expand, expand_heredoc, variables};
pub use instruction::{
    App, Arg, Command, Escape, Files, From, Heredoc, Instruction, Kubefile, Pair, Run, Source, Spanned, Stage, Step, Word,
};
pub use mode::Mode;
pub use parse::{INSTRUCTIONS, Parsed, parse};
pub use range::VersionRange;
