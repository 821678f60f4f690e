//! `--engine helm`, and sealift's own renderer held to the real helm.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use common::building::{context, write};
use common::kubefiles;
use common::sealift::{Sealift, assert_says};
use serde_json::Value;

/// sealift with a directory as its PATH.
fn with_path(sealift: &Sealift, path: &Path, args: &[&str]) -> std::process::Output {
    let mut command: Command = sealift.command(args);
    command.env("PATH", path).output().unwrap()
}

fn program(path: &Path, text: &str) {
    write(path, text);
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The arguments that render a case of `testdata/helm/charts.jsonl`, which is laid out in a directory.
fn lay_out(case: &Value, dir: &Path) -> Vec<String> {
    for (path, text) in case["files"].as_object().unwrap() {
        write(&dir.join("chart").join(path), text.as_str().unwrap());
    }
    let values = dir.join("values.json");
    write(&values, &if case["values"].is_null() { "{}".to_owned() } else { case["values"].to_string() });
    let text = |key: &str, default: &str| case[key].as_str().unwrap_or(default).to_owned();
    let mut args = vec!["chart".to_owned(), "render".to_owned(), dir.join("chart").display().to_string()];
    for (flag, value) in [
        ("--values", values.display().to_string()),
        ("--name", text("release", "rel")),
        ("--namespace", text("namespace", "default")),
        ("--kube-version", text("kubeVersion", "v1.20.0")),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    for version in case["apiVersions"].as_array().into_iter().flatten() {
        args.extend(["--api-versions".to_owned(), version.as_str().unwrap().to_owned()]);
    }
    args.extend(case["upgrade"].as_bool().unwrap_or(false).then(|| "--is-upgrade".to_owned()));
    args.push("--output=json".to_owned());
    args
}

/// What a run answers: documents by source, in order, or its error.
fn answer(output: &std::process::Output) -> Result<Vec<(String, String)>, String> {
    if !output.status.success() {
        let said: Value = serde_json::from_slice(&output.stderr).unwrap();
        return Err(said["error"]["message"].as_str().unwrap().to_owned());
    }
    let documents: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |one: &Value, key: &str| one[key].as_str().unwrap().trim().to_owned();
    Ok(documents.as_array().unwrap().iter().map(|one| (text(one, "source"), text(one, "text"))).collect())
}

#[test]
fn charts_render_as_the_real_helm_renders_them() {
    let helm = kubefiles::helm();
    let sealift = Sealift::new();
    let cases = fs::read_to_string(kubefiles::repository("testdata/helm/charts.jsonl")).unwrap();
    let mut wrong = Vec::new();
    for case in cases.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()) {
        let id = case["id"].as_str().unwrap();
        let args = lay_out(&case, &sealift.home().join(id));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let own = answer(&sealift.command(&args).output().unwrap());
        let helms = answer(&with_path(&sealift, helm.parent().unwrap(), &[&args[..], &["--engine", "helm"]].concat()));
        let same = match (&own, &helms) {
            (Ok(own), Ok(helms)) => own == helms,
            (Err(_), Err(said)) => said.contains(case["expect"]["error"].as_str().unwrap_or("an error that the case does not have")),
            _ => false,
        };
        if !same {
            wrong.push(format!("{id} {}\n  own  {own:?}\n  helm {helms:?}", case["title"]));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// A helm that writes down how it was called, and prints one manifest.
const STAND_IN: &str = r#"#!/bin/sh
dir=${0%/*}
printf '%s\n' "$@" > "$dir/argv"
env > "$dir/env"
for argument; do case $argument in *values.json) stat -c %a "$argument" > "$dir/mode"; cat "$argument" > "$dir/values" ;; esac; done
printf -- '---\n# Source: web/templates/a.yaml\nkind: Pod\nimage: %s\n' "$(cat "$dir/image")"
"#;

fn stand_in(dir: &Path, image: &str) {
    program(&dir.join("helm"), STAND_IN);
    write(&dir.join("image"), image);
}

#[test]
fn values_reach_helm_in_a_file_that_only_its_user_reads() {
    let sealift = Sealift::new();
    let (chart, bin) = (sealift.home().join("web"), sealift.home().join("bin"));
    write(&chart.join("Chart.yaml"), "apiVersion: v2\nname: web\nversion: 1.0.0\n");
    stand_in(&bin, "a:1");
    let chart = chart.display().to_string();
    let args = ["chart", "render", &chart, "--engine", "helm", "--set", "password=geheim", "--namespace", "prod", "--no-hooks"];
    let output = with_path(&sealift, &bin, &[&args[..], &["--api-versions", "a/v1", "--show-only", "templates/a.yaml"]].concat());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "---\n# Source: web/templates/a.yaml\nkind: Pod\nimage: a:1\n");
    let read = |name: &str| fs::read_to_string(bin.join(name)).unwrap();
    let argv = read("argv");
    assert_says(&argv, &["template\nrelease-name\n", "--namespace\nprod\n", "--no-hooks\n", "--api-versions\na/v1\n", "--show-only\n"]);
    assert!(!argv.contains("geheim"), "{argv}");
    assert_eq!((read("mode").as_str(), read("values").as_str()), ("600\n", r#"{"password":"geheim"}"#));
    let homes = read("env");
    assert!(homes.lines().filter(|line| line.starts_with("HELM_")).all(|line| line.contains("/sealift-helm-")), "{homes}");
    assert!(!homes.contains("geheim") && !homes.contains("SEALIFT"), "{homes}");
}

#[test]
fn builds_ask_the_helm_of_the_image_before_that_of_the_machine() {
    let (sealift, context) = context(&[
        ("Kubefile", "FROM scratch\nCOPY web charts/web\n"),
        ("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n"),
        ("web/templates/a.yaml", "image: own:1\n"),
    ]);
    let dir = Path::new(&context);
    let bin = sealift.home().join("bin");
    stand_in(&bin, "machine:1");
    let wanted = |engine: &str| {
        let output = with_path(&sealift, &bin, &["build", "--check", "--engine", engine, "-o", "json", &context]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
        let images = checked["wanted"]["images"].as_object().unwrap();
        images.iter().map(|(name, asked)| format!("{name} {}", asked["places"][0])).collect::<String>()
    };
    assert_eq!(wanted("sealift"), r#"docker.io/library/own:1 {"source":"charts/web/templates/a.yaml","line":1}"#);
    let rendered = r#"docker.io/library/machine:1 {"source":"charts/web/templates/a.yaml","line":2,"rendered":true}"#;
    assert_eq!(wanted("helm"), rendered);

    // the image's own, from the context and from a layer of its base
    let script = "#!/bin/sh\nprintf -- '---\\n# Source: web/templates/a.yaml\\nimage: brought:1\\n'\n";
    program(&dir.join("helm"), script);
    write(&dir.join("Kubefile"), "FROM scratch\nCOPY helm bin/helm\nCOPY web charts/web\n");
    assert!(wanted("helm").starts_with("docker.io/library/brought:1 "));
    write(&dir.join("Base"), "FROM scratch\nCOPY helm bin/helm\n");
    sealift.ok(&["build", "-t", "base:1", "-f", &dir.join("Base").display().to_string(), &context]);
    write(&dir.join("Kubefile"), "FROM base:1\nCOPY web charts/web\n");
    assert!(wanted("helm").starts_with("docker.io/library/brought:1 "));
}

#[test]
fn what_helm_says_is_passed_on() {
    let (sealift, context) = context(&[
        ("Kubefile", "FROM scratch\nCOPY web charts/web\n"),
        ("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n"),
        ("web/templates/bad.yaml", "a: 1\nb: {{ required \"b is wanted\" .Values.b }}\n"),
    ]);
    let helm = kubefiles::helm();
    let output = with_path(&sealift, helm.parent().unwrap(), &["build", "--check", "--engine", "helm", &context]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_says(&said, &["chart charts/web: helm: execution error at (web/templates/bad.yaml:2:6): b is wanted", "hint:"]);

    let empty = sealift.home().join("empty");
    fs::create_dir(&empty).unwrap();
    let output = with_path(&sealift, &empty, &["build", "--check", "--engine", "helm", &context]);
    assert_eq!(output.status.code(), Some(1));
    assert_says(&String::from_utf8_lossy(&output.stderr), &["helm not found", "put `helm` into PATH or into the image's bin/"]);
}
