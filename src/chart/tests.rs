//! Compares with the results of Helm in `testdata/helm`: `charts` and `templates` of 3.6.2, `functions` and `more` of 3.17.3.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Files, Release, Rendered, render, yaml};

fn lines(name: &str) -> Vec<Json> {
    let path = format!("{}/testdata/helm/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(json: &Json) -> Files {
    json.as_object().unwrap().iter().map(|(path, text)| (path.clone(), text.as_str().unwrap().as_bytes().to_vec())).collect()
}

/// Addresses in memory are different in each run of Go.
fn without_addresses(text: &str) -> String {
    regex::Regex::new("0x[0-9a-f]{6,}").unwrap().replace_all(text, "0x").into_owned()
}

#[test]
fn templates_render_as_helm_renders_them() {
    let cases = lines("templates.jsonl");
    let shared = &cases[0]["shared"];
    let release = Release {
        name: shared["release"].as_str().unwrap().to_owned(),
        namespace: shared["namespace"].as_str().unwrap().to_owned(),
        kube_version: shared["kubeVersion"].as_str().unwrap().to_owned(),
        ..Release::default()
    };
    let mut wrong = Vec::new();
    for case in &cases[1..] {
        let mut files = files(&shared["files"]);
        let template = case["template"].as_str().unwrap();
        files.insert("templates/t.txt".to_owned(), template.as_bytes().to_vec());
        let answer = super::render::texts(files, &shared["values"], &release);
        let got = answer.map(|mut files| files.remove("demo/templates/t.txt").unwrap_or_default());
        let same = match (&got, case["out"].as_str(), case["error"].as_str()) {
            (Ok(got), Some(want), _) => without_addresses(got) == without_addresses(want),
            (Err(got), _, Some(want)) => got == want,
            _ => false,
        };
        if !same {
            wrong.push(format!(
                "{} {template}\n  got  {got:?}\n  want {:?} {:?}",
                case["id"],
                case["out"].as_str(),
                case["error"].as_str()
            ));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

fn charts(case: &Json) -> Result<Rendered, String> {
    let text = |key: &str, default: &str| case[key].as_str().unwrap_or(default).to_owned();
    let api_versions =
        case["apiVersions"].as_array().into_iter().flatten().filter_map(|version| version.as_str().map(str::to_owned)).collect();
    let release = Release {
        name: text("release", "rel"),
        namespace: text("namespace", "default"),
        upgrade: case["upgrade"].as_bool().unwrap_or(false),
        kube_version: text("kubeVersion", "v1.20.0"),
        api_versions,
    };
    render(files(&case["files"]), &case["values"], &release)
}

fn documents(files: &BTreeMap<String, String>) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| (name.clone(), format!("{:?}", yaml::documents(text)))).collect()
}

#[test]
fn charts_render_as_helm_renders_them() {
    let mut wrong = Vec::new();
    for case in &lines("charts.jsonl") {
        let expect = &case["expect"];
        match charts(case) {
            Err(got) => {
                if expect["error"].as_str() != Some(&got) {
                    wrong.push(format!("{} {}: {got}", case["id"], case["title"]));
                }
            }
            Ok(got) => {
                let want: BTreeMap<String, String> = serde_json::from_value(expect["rendered"].clone()).unwrap();
                let order: Vec<String> = got.manifests.iter().map(|manifest| format!("{}/{}", manifest.kind, manifest.name)).collect();
                let wanted_order: Vec<String> = serde_json::from_value(expect["installOrder"].clone()).unwrap();
                if documents(&got.files) != documents(&want) || order != wanted_order {
                    wrong.push(format!(
                        "{} {}\n got  {:?} {order:?}\n want {want:?} {wanted_order:?}",
                        case["id"], case["title"], got.files
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// The sources and documents of a chart, those of `crds/` too where the case has `crds`.
fn printed(case: &Json) -> Result<Vec<(String, String)>, String> {
    let mut files = files(&case["files"]);
    super::apply_helmignore(&mut files).map_err(|error| error.to_string())?;
    let release = Release { name: "rel".to_owned(), ..Release::default() };
    let rendered = render(files, &case["values"], &release)?;
    let definitions = rendered.crds.into_iter().filter(|_| case["crds"].as_bool() == Some(true));
    let hooks = rendered.hooks.into_iter().map(|hook| hook.manifest);
    let manifests = rendered.manifests.into_iter().chain(hooks).map(|manifest| (manifest.source, manifest.text));
    Ok(definitions.chain(manifests).map(|(source, text)| (source, text.trim().to_owned())).collect())
}

#[test]
fn more_charts_render_as_helm_3_17_renders_them() {
    for case in &lines("more.jsonl") {
        let (title, printed) = (&case["title"], printed(case));
        match (&printed, case["fails"].as_bool()) {
            (Ok(documents), None) => {
                let expected: Vec<(String, String)> = serde_json::from_value(case["documents"].clone()).unwrap();
                assert_eq!(documents, &expected, "{title}");
            }
            (Err(message), Some(true)) => {
                // a schema's messages have no order
                let mut errors: Vec<&str> = message.lines().collect();
                errors.sort_unstable();
                let expected: Option<Vec<String>> = serde_json::from_value(case["error"].clone()).unwrap();
                assert!(expected.is_none_or(|expected| expected == errors), "{title}: {message}");
            }
            _ => panic!("{title}: {printed:?}"),
        }
    }
}

#[test]
fn functions_answer_as_in_helm_3_17() {
    let cases = lines("functions.jsonl");
    let mut wrong = Vec::new();
    for case in &cases[1..] {
        let expression = case["expression"].as_str().unwrap();
        let mut files =
            chart_of(&format!("{{{{- define \"o\" }}}}{{{{ {expression} }}}}{{{{ end -}}}}\nx: {{{{ include \"o\" . | toJson }}}}\n"));
        files.insert("values.yaml".to_owned(), cases[0]["values"].as_str().unwrap().as_bytes().to_vec());
        let release = Release { name: "rel".to_owned(), ..Release::default() };
        let rendered = super::render::texts(files, &Json::Null, &release).map(|texts| texts["web/templates/a.txt"].clone());
        let same = match (&rendered, case["out"].as_str(), case["error"].as_str()) {
            (Ok(text), Some(out), _) => {
                let result: String = serde_json::from_str(text.trim().trim_start_matches("x: ")).unwrap();
                without_addresses(&result) == without_addresses(out)
            }
            (Err(message), _, Some(error)) => message.ends_with(error),
            _ => false,
        };
        if !same {
            wrong.push(format!("{expression}\n  own  {rendered:?}\n  helm {case}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

/// A chart of one template.
fn chart_of(template: &str) -> Files {
    let files = [("Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n"), ("templates/a.txt", template)];
    files.into_iter().map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec())).collect()
}

#[test]
fn no_template_runs_for_ever_or_fills_the_memory() {
    for template in [
        r#"{{ repeat 1000000000 "x" }}"#,
        "{{ until 1000000000 }}",
        "{{ seq 1 1000000000 }}",
        r#"{{ indent 1000000000 "x" }}"#,
        r#"{{ define "r" }}{{ include "r" . }}{{ end }}{{ include "r" . }}"#,
        r#"{{ define "r" }}{{ template "r" . }}{{ end }}{{ template "r" . }}"#,
        r#"{{ define "r" }}{{ tpl "{{ include \"r\" . }}" . }}{{ end }}{{ include "r" . }}"#,
        r#"{{ $t := "{{ tpl $.t $ }}" }}{{ $_ := set . "t" "{{ tpl .t . }}" }}{{ tpl .t . }}"#,
        // texts, lists and maps that double
        r#"{{ $x := "xxxxxxxx" }}{{ range until 60 }}{{ $x = print $x $x }}{{ end }}"#,
        r#"{{ $x := "xxxxxxxx" }}{{ range until 60 }}{{ $x = replace "x" "xx" $x }}{{ end }}"#,
        r#"{{ $x := "xxxxxxxx" }}{{ range until 60 }}{{ $x = regexReplaceAll "x" $x "$0$0" }}{{ end }}"#,
        r#"{{ $x := repeat 10000 "x" }}{{ $x = replace "x" $x $x }}{{ $x = replace "x" $x $x }}"#,
        r#"{{ $x := repeat 10000 "x" }}{{ $x = regexReplaceAllLiteral "x" $x $x }}{{ $x = regexReplaceAllLiteral "x" $x $x }}"#,
        r#"{{ $x := repeat 10000 "x " }}{{ $x = wrapWith 1 $x $x }}{{ $x = wrapWith 1 $x $x }}"#,
        r#"{{ $x := list 1 }}{{ range until 60 }}{{ $x = concat $x $x }}{{ end }}"#,
        r#"{{ $x := list 1 }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ toYaml $x }}"#,
        r#"{{ $x := list 1 }}{{ range until 60 }}{{ $x = list $x $x }}{{ end }}{{ deepCopy $x | len }}{{ $x }}"#,
        r#"{{ $x := list 1 }}{{ $y := list 1 }}{{ range until 60 }}{{ $x = list $x $x }}{{ $y = list $y $y }}{{ end }}{{ deepEqual $x $y }}"#,
        r#"{{ printf (repeat 100000 "%999999d") 1 }}"#,
        "{{ $x := repeat 1000000 \"x\" }}{{ range until 100000 }}{{ $x }}{{ end }}",
        "{{ range until 100000 }}{{ range until 100000 }}x{{ end }}{{ end }}",
        "{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}",
    ] {
        let rendered = super::render::texts_within(1 << 22, chart_of(template));
        let message = rendered.expect_err(template);
        assert!(!message.contains("panicked"), "{template}: {message}");
    }
}

#[test]
fn a_map_may_contain_itself() {
    for template in [
        r#"{{ $_ := set . "x" . }}{{ toYaml . }}"#,
        r#"{{ $_ := set . "x" . }}{{ toJson . }}{{ . }}{{ toString . }}"#,
        r#"{{ $_ := set . "x" . }}{{ $y := deepCopy . }}{{ deepEqual . $y }}"#,
        r#"{{ $_ := set .Values "x" .Values }}{{ $y := deepCopy .Values }}{{ $z := merge .Values $y }}{{ toToml .Values }}"#,
        r#"{{ $l := list }}{{ range until 20000 }}{{ $l = list $l }}{{ end }}{{ len $l }}{{ toJson $l }}{{ $l }}"#,
    ] {
        let rendered = super::render::texts_within(1 << 24, chart_of(template));
        assert!(!rendered.as_ref().is_err_and(|message| message.contains("panicked")), "{template}: {rendered:?}");
    }
}
