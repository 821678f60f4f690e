//! Every Kubefile of Sealer's and ACK-Distro's repositories that Sealer reads, sealift reads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::building::write;
use common::run;
use common::sealift::Sealift;
use common::web::{Answer, Web};
use sealift::diagnostic::render_all;
use sealift::kubefile::{Escape, Instruction, Kubefile, Source, expand, parse};

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

/// The text of a word, with this value for every variable that has none of its own.
fn meaning(word: &str) -> String {
    let value = |name: &str| if name == "ARCH" { "amd64" } else { "v1" };
    expand(word, Escape::Backslash, |name| Some(value(name).to_owned())).unwrap().text
}

/// Makes what a source names: a directory with a manifest for a name without an ending or for `local://`, else a file.
fn make(context: &Path, source: &str) {
    let path = meaning(source).replace(['*', '?'], "x");
    let at = context.join(path.trim_start_matches('/'));
    if at.exists() || path.contains("://") {
        return;
    }
    match at.extension() {
        Some(_) => write(&at, "text\n"),
        None => write(&at.join("a.yaml"), "kind: List\n"),
    }
}

/// A context in which everything is that a Kubefile names.
fn make_context(context: &Path, kubefile: &Kubefile) {
    for step in kubefile.stages.iter().flat_map(|stage| &stage.steps) {
        match &step.instruction {
            Instruction::Copy(files) | Instruction::Add(files) => files.sources.iter().for_each(|source| match source {
                Source::Path(word) => make(context, &word.value),
                Source::Inline(_) => {}
            }),
            Instruction::App(app) => {
                app.sources.iter().filter_map(|word| word.value.strip_prefix("local://")).for_each(|path| make(context, path));
            }
            _ => {}
        }
    }
}

/// Makes the cluster image that a Kubefile starts from, with the applications that it launches and does not declare.
fn make_base(sealift: &Sealift, kubefile: &Kubefile, name: &str) {
    let steps = || kubefile.stages.iter().flat_map(|stage| &stage.steps);
    let declared = |name: &str| steps().any(|step| matches!(&step.instruction, Instruction::App(app) if app.name.value == name));
    let launched = steps().filter_map(|step| match &step.instruction {
        Instruction::Launch(apps) => Some(apps),
        _ => None,
    });
    let inherited: Vec<&str> = launched.flatten().map(|app| app.value.trim()).filter(|app| !declared(app)).collect();
    let base = sealift.home().join("base");
    write(&base.join("a.sh"), "true\n");
    let apps: String = inherited.iter().map(|app| format!("APP {app} local://a.sh\n")).collect();
    write(&base.join("Kubefile"), &format!("FROM scratch\nCOPY a.sh bin/\n{apps}"));
    sealift.ok(&["build", "-t", name, &base.display().to_string()]);
}

/// Files that no builder takes as they are (a script fills them in first), and what is said of them.
const REFUSED: [(&str, &str); 1] = [("ackdistro-4b9b7e8__build__Kubefile1", "declare it with `ARG TAG`")];

#[test]
fn kubefiles_build_in_a_context_that_has_what_they_name() {
    let web = Web::start();
    let chart = tempfile::tempdir().unwrap();
    write(&chart.path().join("c/Chart.yaml"), "apiVersion: v2\nname: c\nversion: 1.0.0\n");
    let archive = chart.path().join("c.tgz").display().to_string();
    run("tar", &["-C", &chart.path().display().to_string(), "-czf", &archive, "c"]);
    for name in ["mysql.tgz", "elasticsearch.tgz"] {
        web.put(name, Answer::File(fs::read(&archive).unwrap()));
    }
    for (path, sealer) in cases() {
        let text = text(&path, &sealer).replace("https://charts/", &web.url(""));
        let kubefile = parse("K", &text).kubefile;
        let sealift = Sealift::new();
        let context = sealift.home().join("context");
        write(&context.join("Kubefile"), &text);
        make_context(&context, &kubefile);
        let base = meaning(&kubefile.stages[0].from.value.image.value);
        if base != "scratch" {
            make_base(&sealift, &kubefile, &base);
        }
        // what RUN does there wants the network and programs of a cluster: it is planned, not run
        let runs = text.lines().any(|line| line.trim_start().starts_with("RUN"));
        let how: &[&str] = if runs { &["--check"] } else { &["-t", "case:1", "--build-mode", "lite"] };
        let ended = sealift.run(&[&["build", "--pull", "never"], how, &[context.to_str().unwrap()]].concat());
        let refused = REFUSED.iter().find(|(name, _)| path.ends_with(name)).map(|(_, why)| *why);
        match refused {
            None => assert_eq!(ended.code, 0, "{}\n{text}\n{}", path.display(), ended.stderr),
            Some(why) => assert!(ended.code == 2 && ended.stderr.contains(why), "{}: want {why}\n{}", path.display(), ended.stderr),
        }
    }
}
