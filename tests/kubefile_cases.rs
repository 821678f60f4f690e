//! Every Kubefile of Sealer's and ACK-Distro's repositories that Sealer reads, sealift reads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use sealift::diagnostic::render_all;
use sealift::kubefile::{Instruction, parse};

/// The Kubefiles of `testdata/cases`, with what Sealer does with each.
fn cases() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let index = fs::read_to_string(folder.join("INDEX.tsv")).expect("the index is there");
    let rows = index.lines().skip(1).map(|row| row.split('\t').collect::<Vec<_>>());
    rows.filter(|row| row[1] == "Kubefile").map(|row| (folder.join(row[0]), row[6].to_owned())).collect()
}

/// The text with the placeholders of Go's unit tests filled in.
fn text(path: &Path, sealer: &str) -> String {
    let text = fs::read_to_string(path).expect("the case is there");
    if sealer.contains("template") {
        text.replace("LAUNCH %s", "LAUNCH app").replace("local://%s", "local://a.yaml").replace("%s", "app")
    } else {
        text
    }
}

#[test]
fn kubefiles_that_sealer_reads_have_no_errors() {
    let cases = cases();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    for (path, sealer) in cases {
        let text = text(&path, &sealer);
        let parsed = parse(&path.display().to_string(), &text);
        let errors: Vec<_> = parsed.diagnostics.iter().filter(|diagnostic| diagnostic.is_error()).cloned().collect();
        assert!(errors.is_empty(), "Sealer: {sealer}\n{}", render_all(&errors, &text, false));
        assert_eq!(parse("printed", &parsed.kubefile.to_string()).kubefile, parsed.kubefile, "{}", path.display());
    }
}

#[test]
fn no_instruction_of_a_case_is_lost() {
    for (path, sealer) in cases() {
        let text = text(&path, &sealer);
        let written = text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')).count();
        let kubefile = parse("K", &text).kubefile;
        let read = kubefile.stages.iter().map(|stage| 1 + stage.steps.len()).sum::<usize>();
        assert_eq!(read, written, "{}", path.display());
    }
}

#[test]
fn a_comment_after_copy_is_cut_off() {
    let (path, sealer) = cases().into_iter().find(|(_, sealer)| sealer.contains("trailing # comment")).unwrap();
    let text = text(&path, &sealer);
    let parsed = parse("K", &text);
    assert_eq!(parsed.diagnostics.len(), 1);
    let Instruction::Copy(files) = &parsed.kubefile.stages[0].steps[1].instruction else { panic!("{:?}", parsed.kubefile) };
    assert_eq!((files.sources.len(), files.dest.value.as_str()), (1, "bin"));
}
