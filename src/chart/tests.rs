//! Held to what Helm 3.6.2 answers: `testdata/helm`.

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
    let api_versions = case["apiVersions"].as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect();
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
                let order: Vec<String> = got.manifests.iter().map(|one| format!("{}/{}", one.kind, one.name)).collect();
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
