//! Generated templates and charts, held to the real helm: what one renders, the other renders too, to the same text.
//!
//! `SEALIFT_GENERATED_TEMPLATES` and `SEALIFT_GENERATED_CHARTS` say how many are tried, `SEALIFT_GENERATED_SEED` from which seed on. A difference is
//! printed with its seed, which makes the same chart again. With `SEALIFT_GENERATED_MESSAGES` the messages of errors are compared too.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use common::chart_generator::{Case, chart_case, template_case};
use common::kubefiles;
use sealift::chart::{self, Files, HelmVersion, Release, values};

/// Documents in order, or an error.
type Answer = Result<String, String>;

fn own(case: &Case) -> Answer {
    own_as(case, HelmVersion::V3)
}

fn own_as(case: &Case, helm: HelmVersion) -> Answer {
    let files: Files = case.files.iter().map(|(path, text)| (path.clone(), text.clone().into_bytes())).collect();
    let mut user = values::from_yaml(&case.values)?;
    values::set(&mut user, &case.set, false)?;
    let kube_version = helm.default_kube_version().to_owned();
    let release = Release { name: "rel".to_owned(), kube_version, helm, ..Release::default() };
    let rendered = chart::render(files, &user, &release)?;
    let hooks = rendered.hooks.into_iter().map(|hook| hook.manifest);
    let documents = rendered.manifests.into_iter().chain(hooks);
    Ok(documents.map(|manifest| format!("---\n# Source: {}\n{}\n", manifest.source, manifest.text)).collect())
}

fn helms(helm: &Path, case: &Case, dir: &Path) -> Answer {
    for (path, text) in &case.files {
        let file = dir.join("chart").join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    std::fs::write(dir.join("user.yaml"), &case.values).unwrap();
    let mut command = Command::new(helm);
    command.args(["template", "rel"]).arg(dir.join("chart")).arg("--values").arg(dir.join("user.yaml"));
    if !case.set.is_empty() {
        command.args(["--set", &case.set]);
    }
    let output = command.env_clear().env("HOME", dir).env("KUBECONFIG", dir.join("none")).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Texts are Unicode in sealift: what helm writes as an escape of bytes that are not is the same. Errors have the same words, but for those of
/// libraries.
fn comparable(answer: &Answer) -> Result<String, String> {
    match answer {
        Ok(text) => Ok(text.trim().replace(r"\ufffd", "\u{fffd}")),
        Err(message) => {
            let message =
                message.trim().trim_start_matches("Error: ").trim_end_matches("Use --debug flag to render out invalid YAML").trim();
            Err(if std::env::var_os("SEALIFT_GENERATED_MESSAGES").is_some() { message.to_owned() } else { String::new() })
        }
    }
}

/// Tries the cases of some seeds; the differences.
fn differences(count: u64, make: fn(u64) -> Case) -> Vec<String> {
    let helm: PathBuf = kubefiles::helm();
    let first: u64 = number("SEALIFT_GENERATED_SEED", 1);
    let (next, rendered, found) = (AtomicU64::new(first), AtomicU64::new(0), std::sync::Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    let case = make(seed);
                    let dir = tempfile::tempdir().unwrap();
                    let (own, helms) = (own(&case), helms(&helm, &case, dir.path()));
                    rendered.fetch_add(u64::from(helms.is_ok()), Ordering::Relaxed);
                    if comparable(&own) != comparable(&helms) {
                        let chart = match case.files.get("charts/x").or_else(|| case.files.get("templates/_h.tpl")) {
                            Some(_) => case.files["templates/a.yaml"].clone(),
                            None => format!("{:#?}\n{}\n{}", case.files, case.values, case.set),
                        };
                        found.lock().unwrap().push(format!("seed {seed}\n{chart}\n  own  {own:?}\n  helm {helms:?}\n"));
                    }
                }
            });
        }
    });
    let rendered = rendered.into_inner();
    assert!(rendered * 3 > count, "only {rendered} of {count} render at all");
    found.into_inner().unwrap()
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn generated_templates_render_as_helm_renders_them() {
    let wrong = differences(number("SEALIFT_GENERATED_TEMPLATES", 60), template_case);
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn generated_charts_render_as_helm_renders_them() {
    let wrong = differences(number("SEALIFT_GENERATED_CHARTS", 30), chart_case);
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// What differs between Helm 3 and Helm 4, as `docs/charts.md` lists it: each row is rendered by both, and by sealift as both.
const DIFFERENCES: [(&str, &str); 9] = [
    ("the version", "{{ .Capabilities.HelmVersion }} {{ .Capabilities.HelmVersion | toJson }}"),
    ("the version of Kubernetes", "{{ .Capabilities.KubeVersion }}"),
    ("nulls of a chart", "{{ .Values.m | toJson }} {{ hasKey .Values \"z\" }}"),
    ("metadata", "{{ .Chart | toYaml }} {{ .Chart.Name }} {{ .Chart.Keywords | toJson }}"),
    ("mustToYaml", "{{ mustToYaml (list 1) }}"),
    ("mustToToml", "{{ mustToToml (dict \"a\" 1) }}"),
    ("integers", "{{ range $i := 3 }}{{ $i }}{{ end }}{{ range 2 }}x{{ end }}{{ range len .Values.m }}{{ . }}{{ end }}"),
    ("prereleases beside others", "{{ semverCompare \">=1.0-0 <2\" \"1.5.0-alpha\" }} {{ semverCompare \"!=1.0.0\" \"1.5.0-alpha\" }}"),
    ("constraints", "{{ semverCompare \"^1.2, >1.0.0-0\" \"1.3.0-rc.1\" }}"),
];

#[test]
fn helm_3_and_helm_4_differ_where_the_table_says_so() {
    let programs = [(HelmVersion::V3, kubefiles::helm()), (HelmVersion::V4, kubefiles::helm_4())];
    for (title, template) in DIFFERENCES {
        let mut case = template_case(1);
        case.files.insert("values.yaml".to_owned(), "m: {a: null, b: {c: null}}\nz: null\n".to_owned());
        case.files.insert("templates/a.yaml".to_owned(), format!("x: |\n  {{{{- tpl {template:?} . | nindent 2 }}}}\n"));
        let mut answers = Vec::new();
        for (version, helm) in &programs {
            let dir = tempfile::tempdir().unwrap();
            let (own, helms) = (own_as(&case, *version), helms(helm, &case, dir.path()));
            assert_eq!(comparable(&own), comparable(&helms), "{title} as {version:?}: {own:?} {helms:?}");
            answers.push(own);
        }
        assert_ne!(comparable(&answers[0]), comparable(&answers[1]), "{title}");
    }
}
