//! Helm charts: printed as helm prints them, and rendered in builds to find their container images.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::sealift::{Sealift, assert_says};

const DEPLOYMENT: &str = "{{- if .Values.enabled }}
kind: Deployment
metadata: {name: {{ .Release.Name }}-{{ .Chart.Name }}}
spec:
  template:
    spec:
      containers:
        - image: \"{{ .Values.image }}:{{ .Values.tag | default .Chart.AppVersion }}\"
{{- end }}
";

/// A chart `web` with a chart `db` inside that a condition turns off.
fn chart(dir: &Path) {
    let files = [
        (
            "Chart.yaml",
            "apiVersion: v2\nname: web\nversion: 0.1.0\nappVersion: \"2.0\"\ndependencies:\n- {name: db, version: 1.x, condition: db.enabled}\n",
        ),
        ("values.yaml", "enabled: true\nimage: quay.io/a/web\ndb: {enabled: false}\n"),
        ("templates/deployment.yaml", DEPLOYMENT),
        ("templates/hook.yaml", "kind: Job\nmetadata: {name: h, annotations: {helm.sh/hook: pre-install}}\nimage: quay.io/a/hook:1\n"),
        ("templates/NOTES.txt", "image: quay.io/a/notes:1\n"),
        ("crds/c.yaml", "kind: CustomResourceDefinition\nmetadata: {name: c}\n"),
        ("charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 1.2.0\nappVersion: \"9\"\n"),
        ("charts/db/values.yaml", "enabled: true\nimage: quay.io/a/db\n"),
        ("charts/db/templates/deployment.yaml", DEPLOYMENT),
    ];
    for (file, text) in files {
        let file = dir.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

#[test]
fn render_prints_what_helm_template_would() {
    let sealift = Sealift::new();
    let dir = sealift.home().join("web");
    chart(&dir);
    let path = dir.display().to_string();
    let printed = sealift.run(&["chart", "render", &path, "--name", "rel", "--set", "db.enabled=true"]).expect_code(0).stdout;
    let sources: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("# Source: ")).collect();
    assert_eq!(sources, ["web/charts/db/templates/deployment.yaml", "web/templates/deployment.yaml", "web/templates/hook.yaml"]);
    assert_says(&printed, &["---\n# Source: web/charts/db", "name: rel-web", "quay.io/a/web:2.0", "quay.io/a/db:9"]);
    let only = ["chart", "render", &path, "--include-crds", "--no-hooks", "--show-only", "crds/c.yaml"];
    assert_eq!(sealift.json(&only)[0]["source"], "web/crds/c.yaml");

    let packed = sealift.home().join("web-0.1.0.tgz").display().to_string();
    common::run("tar", &["-czf", &packed, "-C", &sealift.home().display().to_string(), "web"]);
    let again = sealift.run(&["chart", "render", &packed, "--name", "rel", "--set", "db.enabled=true"]).expect_code(0).stdout;
    assert_eq!(again, printed);
}

#[test]
fn errors_name_template_and_line() {
    let sealift = Sealift::new();
    let dir = sealift.home().join("web");
    chart(&dir);
    fs::write(dir.join("templates/bad.yaml"), "a: 1\nb: {{ .Values.x.y }}\n").unwrap();
    let said = sealift.fails(2, &["chart", "render", &dir.display().to_string()]);
    assert_says(&said, &["web/templates/bad.yaml:2:13", "nil pointer evaluating interface {}.y"]);
}

#[test]
fn what_a_chart_lacks_is_told_with_what_helps() {
    let sealift = Sealift::new();
    let dir = sealift.home().join("web");
    chart(&dir);
    fs::write(dir.join("values.schema.json"), r#"{"properties": {"image": {"$ref": "https://example.com/image.json"}}}"#).unwrap();
    let render = ["chart", "render", &dir.display().to_string()];
    assert_says(&sealift.fails(2, &render), &["web:\nthe schema refers to https://example.com/image.json, which is not fetched"]);
    fs::remove_dir_all(dir.join("charts")).unwrap();
    assert_says(&sealift.fails(2, &render), &["missing in charts/ directory: db", "hint: run `helm dependency build CHART`"]);
}

#[test]
fn builds_find_the_images_of_charts_with_the_values_of_the_launch() {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    chart(&context.join("web"));
    chart(&context.join("packed"));
    common::run("tar", &["-czf", &context.join("packed.tgz").display().to_string(), "-C", &context.display().to_string(), "packed"]);
    fs::write(context.join("web/values.yaml.tmpl"), "enabled: true\nimage: {{ .MIRROR }}/web\ndb: {enabled: true}\n").unwrap();
    let kubefile = "FROM scratch\nAPP shop local://web\nAPPENV shop MIRROR=mirror.io\nCOPY packed.tgz charts/\n";
    fs::write(context.join("Kubefile"), kubefile).unwrap();
    let context = context.display().to_string();
    let said = sealift.run(&["build", "--check", &context]).expect_code(0).stdout;
    let place = "application/apps/shop/templates/deployment.yaml:";
    assert_says(&said, &["mirror.io/web:2.0", place, "quay.io/a/db:9", "quay.io/a/hook:1", "quay.io/a/web:2.0"]);
    assert!(!said.contains("notes"), "{said}");
    let why = sealift.run(&["build", "--check", "--why", "mirror.io/web:2.0", &context]).expect_code(0).stdout;
    // the template has the file's image, and the version of the chart
    let values = "  value application/apps/shop/Chart.yaml:4\n  value application/apps/shop/values.yaml.tmpl:2\n";
    assert_eq!(why, format!("{place}8\n{values}"));
    assert_says(&sealift.fails(1, &["build", "--check", "--why", "nobody:1", &context]), &["nothing requires nobody:1"]);

    fs::write(Path::new(&context).join("web/templates/bad.yaml"), "{{ nosuch }}\n").unwrap();
    assert_says(&sealift.fails(2, &["build", "--check", &context]), &["web/templates/bad.yaml:1", "function \"nosuch\" not defined"]);
}

#[test]
fn application_images_bring_what_each_kubernetes_of_their_range_needs() {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    let template = "kind: Pod\nimage: {{ if .Capabilities.APIVersions.Has \"policy/v1beta1\" }}old:1{{ else }}new:1{{ end }}\n";
    for (file, text) in [("web/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n"), ("web/templates/a.yaml", template)] {
        let file = context.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    for (range, expected) in [("", vec!["new:1"]), (">=1.20 <1.25", vec!["old:1"]), (">=1.24.5", vec!["new:1", "old:1"])] {
        let range = if range.is_empty() { String::new() } else { format!("KUBEVERSION \"{range}\"\n") };
        fs::write(context.join("Kubefile"), format!("FROM scratch\n{range}APP web local://web\n")).unwrap();
        let checked = sealift.json(&["build", "--check", &context.display().to_string()]);
        let images: Vec<&str> =
            checked["wanted"]["images"].as_object().unwrap().keys().map(|name| name.rsplit('/').next().unwrap()).collect();
        assert_eq!(images, expected, "{range}");
    }
}

#[test]
fn lists_of_sealos_count_and_unrendered_charts_of_launches_are_told() {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    chart(&context.join("web"));
    fs::create_dir_all(context.join("images/shim")).unwrap();
    fs::write(context.join("images/shim/operatorImages"), "registry.example.com/operator:3\n").unwrap();
    fs::write(context.join("Kubefile"), "FROM scratch\nCOPY . .\nCMD [\"helm upgrade -i web web --set tag=2\"]\n").unwrap();
    let said = sealift.run(&["build", "--check", &context.display().to_string()]).expect_code(0);
    assert_says(&said.stdout, &["registry.example.com/operator:3"]);
    assert_says(&said.stdout, &["web", "--set tag=2", "charts/"]);
}

#[test]
fn charts_that_run_makes_are_rendered_like_others() {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    chart(&context.join("web"));
    fs::write(context.join("Kubefile"), "FROM scratch\n").unwrap();
    let path = context.display().to_string();
    sealift.ok(&["build", "-t", "shop:1", "--lock", &path]);
    // a chart from the context that RUN changes, and one that RUN packs
    let kubefile = "FROM scratch
COPY web charts/web
COPY web web
RUN sed -i s,quay.io/a/web,quay.io/run/web, charts/web/values.yaml && tar -czf charts/packed.tgz web && rm -r web
";
    fs::write(context.join("Kubefile"), kubefile).unwrap();
    for arguments in [vec![], vec![], vec!["--no-cache"]] {
        // the lock file has none of the images that are wanted, so all are told
        let said = sealift.fails(1, &[&["build", "-t", "shop:1", "--locked", &path], arguments.as_slice()].concat());
        let wanted = ["quay.io/a/hook:1", "quay.io/a/web:2.0", "quay.io/run/web:2.0"].map(|image| format!("container image {image}"));
        assert_says(&said, &[&format!("{} are not in the lock file", wanted.join(", "))]);
        assert!(!said.contains("warning"), "{said}");
    }
}

#[test]
fn why_names_the_values_that_make_an_image() {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    let files = [
        ("Kubefile", "FROM scratch\nCOPY top charts/top\n"),
        ("top/Chart.yaml", "apiVersion: v2\nname: top\nversion: 1.0.0\n"),
        ("top/values.yaml", "global:\n  registry: quay.io\ndb:\n  image: {repository: a/db}\n"),
        (
            "top/templates/_h.tpl",
            "{{ define \"image\" }}{{ .Values.global.registry }}/{{ tpl .Values.image.repository . }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}",
        ),
        ("top/charts/db/Chart.yaml", "apiVersion: v2\nname: db\nversion: 1.0.0\nappVersion: \"9\"\n"),
        ("top/charts/db/values.yaml", "# of its own\nimage:\n  repository: other/db\n  tag: \"1\"\nreplicas: 1\n"),
        (
            "top/charts/db/templates/a.yaml",
            "kind: Pod\nspec:\n  replicas: {{ .Values.replicas }}\n  image: {{ include \"image\" . | quote }}\n",
        ),
    ];
    for (file, text) in files {
        let file = context.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let context = context.display().to_string();
    let why = sealift.ok(&["build", "--check", "--why", "quay.io/a/db:1", &context]);
    let expected = "charts/top/charts/db/templates/a.yaml:4
  value charts/top/charts/db/values.yaml:4
  value charts/top/values.yaml:2
  value charts/top/values.yaml:4
";
    assert_eq!(why, expected);
    let json = sealift.json(&["build", "--check", "--why", "quay.io/a/db:1", &context]);
    assert_eq!(json[0]["values"][2]["source"], "charts/top/values.yaml");
}
