//! Compares with the results of Helm 3.17.3 in `testdata/helm`.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{Files, HelmVersion, Release, Rendered, render, values, yaml};

fn lines(name: &str) -> Vec<Json> {
    let path = format!("{}/testdata/helm/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(json: &Json) -> Files {
    json.as_object().unwrap().iter().map(|(path, text)| (path.clone(), text.as_str().unwrap().as_bytes().to_vec())).collect()
}

/// The values of a user's file.
fn user_values(json: &Json) -> Json {
    values::from_yaml(&json.to_string()).unwrap()
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
        let answer = super::render::texts(files, &user_values(&shared["values"]), &release);
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
        helm: HelmVersion::V3,
    };
    render(files(&case["files"]), &user_values(&case["values"]), &release)
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
    let rendered = render(files, &user_values(&case["values"]), &release)?;
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

/// Templates that users reported, with what helm 3.17.3 makes of them.
#[test]
fn reported_templates_render_as_in_helm_3_17() {
    let values = "defaults: {enabled: true, image: {tag: '1', digest: 'sha256:old'}, replicas: 3, args: [a]}
site: {enabled: false, image: {tag: '', digest: null}, replicas: 0, args: []}
common: &c {tag: '1', pullPolicy: Always}
image:
  tag: '2'
  <<: *c
";
    for (template, expected) in [
        (r#"{{ if semverCompare "<3.14.0" .Capabilities.HelmVersion.Version }}old{{ end }}"#, ""),
        ("{{ .Capabilities.HelmVersion }}", "{v3.17.3 e4da49785aa6e6ee2b86efd5dd9e43400318262b clean go1.23.7}"),
        ("{{ .Capabilities.KubeVersion }}", "v1.32.0"),
        ("{{ 0x1p60 | int64 }} {{ 0x1p-2 }} {{ -9223372036854775808 }}", "1152921504606846976 0.25 -9223372036854775808"),
        ("{{ 1i }} {{ 1+2i }}", "(0+1i) (1+2i)"),
        (
            "{{ mergeOverwrite (deepCopy .Values.defaults) .Values.site | toJson }}",
            r#"{"args":[],"enabled":false,"image":{"digest":null,"tag":""},"replicas":0}"#,
        ),
        (r#"{{ define "v" }}{{ .a.b.c }}x{{ end }}{{ include "v" .context }}{{ template "v" .nope }}"#, "xx"),
        (r#"{{ tpl "{{ .a.b }}-{{ default \"x\" .c.d }}" nil }}"#, "-x"),
        ("{{ .Values.image.tag }}", "1"),
        ("{{ round -2.5 0 }} {{ round -2.3 0 }} {{ round -2.345 2 }}", "-3 -3 -2.35"),
        (r#"{{ printf "%#v" (dict "a" 1) }} {{ printf "%+v" (dict "b" 1 "a" 2) }}"#, r#"map[string]interface {}{"a":1} map[a:2 b:1]"#),
        (r#"{{ (semver "1.2.3").IncMinor }} {{ float64 "0x1p3" }} {{ merge (dict) (dict "a" nil) | toJson }}"#, "1.3.0 8 {}"),
        ("{{ .Files.nope }} {{ .Subcharts }}", "[] map[]"),
        (r#"{{ "ID_YB" | camelcase }} {{ "id-BAZxa" | camelcase }} {{ "my--app" | camelcase }}"#, "IdYb IdBazxa My-App"),
        (r#"{{ "22A1-1" | snakecase }} {{ "BAZ." | snakecase }} {{ "b.AServer" | snakecase }}"#, "22_a1_1 baz. b.a_server"),
        (r#"{{ "node--id1" | kebabcase }} {{ "YA1221HTTP" | kebabcase }}"#, "node--id1 ya1221-http"),
        (r#"{{ semverCompare "^x" "1.2.3" }} {{ semverCompare "<= *" "1.2.3" }} {{ semverCompare "!=x" "1.2.3" }}"#, "false false true"),
        (r#"{{ split "" "0x" | toJson }} {{ printf "%q" 1000000 }}"#, r#"{"_0":"0","_1":"x"} '\U000f4240'"#),
        (r#"{{ substr 2 99 "abc" }} {{ divf 1 3 }} {{ (split "," "a")._9 | quote }}"#, r#"c 0.3333333333333333 """#),
        (r#"{{ toYaml (dict "a\nb" (list 1)) }}"#, "? |-\n  a\n  b\n: - 1"),
        (r#"{{ rest list | toJson }} {{ concat list list | toYaml }} {{ regexFindAll "x" "a" -1 | toJson }}"#, "null null null"),
        (r#"{{ fromJson "{a" }}"#, "map[Error:invalid character 'a' looking for beginning of object key string]"),
        (r#"{{ range .Files.Lines "f" }}<{{ . }}>{{ end }}"#, "<a><b>"),
        (
            "{{ .Chart }} {{ .Chart | toJson }}",
            "{{web  [] 1.0.0  [] []  v2    false map[]  [] } true} {\"name\":\"web\",\"version\":\"1.0.0\",\"apiVersion\":\"v2\",\"IsRoot\":true}",
        ),
    ] {
        // what is empty is left out
        let mut files = chart_of(&format!("<{template}>"));
        files.insert("values.yaml".to_owned(), values.as_bytes().to_vec());
        files.insert("f".to_owned(), b"a\nb\n".to_vec());
        let rendered = super::render::texts(files, &Json::Null, &Release::default()).map(|texts| texts["web/templates/a.txt"].clone());
        assert_eq!(rendered, Ok(format!("<{expected}>")), "{template}");
    }
    for (template, expected) in [
        ("{{ 9223372036854775808 }}", "9223372036854775808 overflows int"),
        ("{{ 1e1000 }}", ": \"1e1000\""),
        ("{{ 08 }}", ": \"08\""),
        ("{{ 1__0 }}", ": \"1__0\""),
        ("{{ 0x1g }}", ": \"0x1g\""),
        (r#"{{ substr -1 99 "abc" }}"#, "slice bounds out of range [:99] with length 3"),
        ("{{ divf 1 0 }}", "decimal division by 0"),
        (r#"{{ fail "told" }}"#, "execution error at (web/templates/a.txt:1:3): told"),
        ("{{ mustToYaml 1 }}", "function \"mustToYaml\" not defined"),
    ] {
        let message = super::render::texts(chart_of(template), &Json::Null, &Release::default()).expect_err(template);
        assert!(message.ends_with(expected), "{template}: {message}");
    }
}

/// Values of users for inner charts, and imports, as in helm 3.17.3.
#[test]
fn values_reach_inner_charts_as_in_helm_3_17() {
    let dump = "v: {{ .Values | toJson }}\n";
    let inner = "image: {registry: docker.io, name: db}\nsidecar: {image: side}\nexports: {x: {own: 2, more: {a: 1}}}\n";
    let listed =
        "dependencies: [{name: db, version: 1.0.0, import-values: [x, {child: image, parent: db.copied}, {child: nothing, parent: .}]}]\n";
    for (title, dependencies, own, user, path, expected) in [
        (
            "the user's null takes away what an inner chart has",
            "dependencies: [{name: db, version: 1.0.0}]\n",
            "",
            "db: {image: {registry: null}, sidecar: null, exports: null}",
            "web/charts/db/templates/a.yaml",
            r#"{"global":{},"image":{"name":"db"}}"#,
        ),
        (
            "so does the parent's",
            "",
            "db: {image: {registry: null}, sidecar: null, exports: null}",
            "{}",
            "web/charts/db/templates/a.yaml",
            r#"{"global":{},"image":{"name":"db"}}"#,
        ),
        (
            "the parent's values win over those that are imported",
            listed,
            "own: 1\ndb: {image: null, sidecar: null}",
            "{}",
            "web/templates/a.yaml",
            r#"{"db":{"exports":{"x":{"more":{"a":1},"own":2}},"global":{}},"more":{"a":1},"own":1}"#,
        ),
    ] {
        let files = [
            ("Chart.yaml", format!("apiVersion: v2\nname: web\nversion: 1.0.0\n{dependencies}")),
            ("values.yaml", format!("\u{feff}{own}\r\n")),
            ("templates/a.yaml", format!("\u{feff}{dump}")),
            ("charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 1.0.0\n".to_owned()),
            ("charts/db/values.yaml", inner.to_owned()),
            ("charts/db/templates/a.yaml", dump.to_owned()),
        ];
        let files = files.map(|(path, text)| (path.to_owned(), text.into_bytes())).into();
        let texts = super::render::texts(files, &values::from_yaml(user).unwrap(), &Release::default()).unwrap();
        assert_eq!(texts[path], format!("v: {expected}\n"), "{title}");
    }
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
