//! Kubefiles: text to checked instructions with source spans. Pure.
//!
//! The syntax is Dockerfile's (BuildKit's reading of it); the instructions are Sealer's and ours.

mod instruction;

pub use instruction::{
    App, Arg, Command, Escape, Files, From, Heredoc, Instruction, Kubefile, Pair, Run, Source, Spanned, Stage, Step, Word,
};
