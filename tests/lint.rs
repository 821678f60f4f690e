//! `sealift lint` tells Kubefiles from Clusterfiles and reports all errors in all of them at once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::sealift::Sealift;

const BAD_KUBEFILE: &str = "FROM scratch\nCOYP a b\nCOPY a\nAPP web web.yaml\nKUBEVERSION latest\nLAUNCH [\"wbe\"]\n";
const BAD_CLUSTERFILE: &str = "apiVersion: sealer.cloud/v2\nkind: Cluster\nmetadata:\n  name: [1\n";

fn write(sealift: &Sealift, name: &str, text: &[u8]) -> String {
    let path = sealift.home().join(name);
    fs::write(&path, text).expect("the file is written");
    path.display().to_string()
}

#[test]
fn all_errors_of_all_files_are_reported_and_the_exit_code_is_2() {
    let sealift = Sealift::new();
    let (kubefile, clusterfile) = (write(&sealift, "a", BAD_KUBEFILE.as_bytes()), write(&sealift, "b", BAD_CLUSTERFILE.as_bytes()));
    let ended = sealift.run(&["lint", &kubefile, &clusterfile]).expect_code(2);
    for expected in ["unknown instruction `COYP`", "did you mean `COPY`?", "a destination is missing", "did you mean `local://web.yaml`?"] {
        assert!(ended.stdout.contains(expected), "want {expected} in {}", ended.stdout);
    }
    assert!(ended.stdout.contains(&format!("{kubefile}: Kubefile, 5 errors\n")), "{}", ended.stdout);
    assert!(ended.stdout.contains(&format!("{clusterfile}: Clusterfile, ")), "{}", ended.stdout);
    assert!(ended.stderr.contains("2 of 2 files have errors"), "{}", ended.stderr);
}

#[test]
fn json_has_lines_and_columns() {
    let sealift = Sealift::new();
    let kubefile = write(&sealift, "a", BAD_KUBEFILE.as_bytes());
    let ended = sealift.run(&["lint", "-o", "json", &kubefile]).expect_code(2);
    let answer: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&answer[0]["kind"], &answer[0]["file"]), (&"Kubefile".into(), &kubefile.as_str().into()));
    let first = &answer[0]["diagnostics"][0];
    assert_eq!((&first["severity"], &first["line"], &first["column"]), (&"error".into(), &2.into(), &1.into()));
    assert_eq!(first["help"], "did you mean `COPY`?");
}

#[test]
fn good_files_and_warnings_end_well_unless_strict() {
    let sealift = Sealift::new();
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let good = cases.join("sealerio-basefs-main__context__Kubefile").display().to_string();
    sealift.ok(&["lint", &good]);
    let warned = write(&sealift, "w", b"FROM scratch\nCOPY a b # why\n");
    assert!(sealift.ok(&["lint", &warned]).contains("1 warning"));
    sealift.fails(2, &["lint", "--strict", &warned]);
}

#[test]
fn stdin_is_checked_too() {
    let sealift = Sealift::new();
    let ended = sealift.run_with_stdin(&["lint", "-"], BAD_KUBEFILE).expect_code(2);
    assert!(ended.stdout.contains("--> -:2:1"), "{}", ended.stdout);
}

#[test]
fn files_that_are_no_text_are_named() {
    let sealift = Sealift::new();
    let binary = write(&sealift, "binary", b"FROM \xff\xfe");
    for (file, expected) in [
        (binary.as_str(), "not UTF-8 text (byte 5)"),
        ("/does/not/exist", "/does/not/exist"),
        ("/dev/zero", "longer than 16 MiB"),
        ("/", "cannot read"),
    ] {
        let said = sealift.fails(2, &["lint", file]);
        assert!(said.contains(expected), "{file}: {said}");
    }
}
