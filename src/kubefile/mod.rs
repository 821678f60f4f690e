//! Kubefiles: text to checked instructions with source spans. Pure.
//!
//! The syntax is Dockerfile's (BuildKit's reading of it); the instructions are Sealer's and ours. [`parse`] gives what could
//! be read and all that is wrong; [`expand`] says what a word means once variables have values.

mod check;
mod expand;
mod file_mode;
mod heredoc;
mod instruction;
mod logical_line;
mod operands;
mod parse;
mod pattern;
#[cfg(test)]
mod tests;
mod to_text;
mod version_range;

pub use expand::{ExpandError, Expanded, PREDEFINED, expand, expand_heredoc, variables};
pub use file_mode::Mode;
pub use instruction::{
    App, Arg, Command, Escape, Files, From, Heredoc, Instruction, Kubefile, Pair, Run, Source, Spanned, Stage, Step, Word,
};
pub use parse::{INSTRUCTIONS, Parsed, parse};
pub use version_range::VersionRange;
