//! `sealift lint`.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{CommandContext, count as count_of};
use crate::clusterfile;
use crate::diagnostic::{Diagnostic, Located, count, did_you_mean, located_all, render_all};
use crate::error::Failure;
use crate::kubefile;

/// Check Kubefiles and Clusterfiles for errors
///
/// Needs no build context and no hosts. The content says whether a file is a Kubefile or a Clusterfile. Reports all errors and warnings
/// of all files, and exits with code 2 if one is an error.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift lint Kubefile Clusterfile\n  sealift lint --strict Clusterfile\n  sealift lint Kubefile -o json"
)]
pub struct Args {
    /// The files; `-` is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
    /// Treat warnings as errors
    #[arg(long)]
    strict: bool,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
enum FileKind {
    Kubefile,
    Clusterfile,
}

/// A file and what is wrong in it.
#[derive(Serialize)]
struct Linted {
    file: String,
    kind: FileKind,
    diagnostics: Vec<Located>,
    #[serde(skip)]
    text: String,
    #[serde(skip)]
    found: Vec<Diagnostic>,
}

/// Checks the files.
pub fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let texts = args.files.iter().map(|file| read(file)).collect::<Result<Vec<_>>>()?;
    let linted: Vec<Linted> = args.files.into_iter().zip(texts).map(|(file, text)| lint(file, text)).collect();
    cmd.console.answer(&linted, || linted.iter().map(|linted| linted.drawn(cmd.console.color())).collect())?;
    let counts = |linted: &&Linted| linted.found.iter().any(|diagnostic| args.strict || diagnostic.is_error());
    match linted.iter().filter(counts).count() {
        0 => Ok(()),
        bad => {
            let have = if bad == 1 { "has" } else { "have" };
            Err(Failure::usage(format!("{bad} of {} {have} errors", count_of(linted.len(), "file"))).into())
        }
    }
}

impl Linted {
    fn drawn(&self, color: bool) -> String {
        format!("{}{}: {:?}, {}\n", render_all(&self.found, &self.text, color), self.file, self.kind, count(&self.found))
    }
}

fn lint(file: String, text: String) -> Linted {
    let kind = kind_of(&text);
    let (found, text) = match kind {
        FileKind::Kubefile => (kubefile::parse(&file, &text).diagnostics, text),
        FileKind::Clusterfile => (clusterfile::lint(&file, &text), clusterfile::masked(&text)),
    };
    let diagnostics = located_all(&found, &text);
    Linted { file, kind, diagnostics, text, found }
}

/// A Kubefile starts with an instruction, or with what looks like one; a Clusterfile has YAML's keys.
fn kind_of(text: &str) -> FileKind {
    let has_content = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let first = text.trim_start_matches('\u{feff}').lines().map(str::trim).find(has_content).unwrap_or_default();
    let word = first.split_whitespace().next().unwrap_or_default();
    if !word.contains(':') && did_you_mean(word, kubefile::INSTRUCTIONS).is_some() {
        return FileKind::Kubefile;
    }
    let is_key = |line: &str| line.starts_with("apiVersion:") || line.starts_with("kind:");
    let is_yaml = first == "---" || first.starts_with('{') || word.ends_with(':') || text.lines().any(is_key);
    if is_yaml { FileKind::Clusterfile } else { FileKind::Kubefile }
}

/// No Kubefile or Clusterfile is larger; a device or an archive named by mistake is.
const MAX_BYTES: u64 = 16 << 20;

fn read(file: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let reader: Box<dyn std::io::Read> = match file {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(fs_err::File::open(file).context(Failure::usage(format!("cannot read `{file}`")))?),
    };
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| Failure::usage(format!("cannot read `{file}`")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::usage(format!("{file} is longer than 16 MiB")).hint("name a Kubefile or a Clusterfile").into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::usage(format!("{file} is not UTF-8 text (byte {at})")).hint("save it as UTF-8").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubefiles_and_clusterfiles_are_told_apart_by_content() {
        for (text, expected) in [
            ("FROM scratch\n", FileKind::Kubefile),
            ("\u{feff}# apiVersion: v1\n\nfrom scratch\n", FileKind::Kubefile),
            ("FORM scratch\n", FileKind::Kubefile),
            ("COPY <<EOF a\napiVersion: v1\nEOF\n", FileKind::Kubefile),
            ("apiVersion: sealer.io/v1\nkind: Cluster\n", FileKind::Clusterfile),
            ("# x\n---\nkind: Cluster\n", FileKind::Clusterfile),
            ("// x\napiVersion: v2\n", FileKind::Clusterfile),
            ("spec:\n  image: a\n", FileKind::Clusterfile),
            ("{\"kind\": \"Cluster\"}", FileKind::Clusterfile),
            ("", FileKind::Kubefile),
        ] {
            assert_eq!(kind_of(text), expected, "{text:?}");
        }
    }
}
