//! Renders a chart with values to manifests.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::capabilities::{capabilities, kube_version};
use super::coalesce::{Nulls, coalesce_values};
use super::functions::{HELM, HELM_4, execution_error, parse_error};
use super::helm_version::HelmVersion;
use super::install_order::{Hook, Manifest, sort_manifests};
use super::loader::Files;
use super::objects::{ChartMetadata, FileSet};
use super::subcharts::Chart;
use super::{dependency, schema};
use crate::error::Failure;
use crate::template::functions::version::satisfies;
use crate::template::{Engine, JsonNames, Struct, TextMap, Value, budget, display, new_map};

/// What a chart is rendered for: `.Release` and `.Capabilities`.
#[derive(Debug, Clone)]
pub struct Release {
    /// `.Release.Name`
    pub name: String,
    /// `.Release.Namespace`
    pub namespace: String,
    /// Whether it is an upgrade rather than an install.
    pub upgrade: bool,
    /// The Kubernetes version, with or without `v`.
    pub kube_version: String,
    /// API versions that the cluster has in addition to those of Kubernetes.
    pub api_versions: Vec<String>,
    /// The Helm that is followed.
    pub helm: HelmVersion,
}

impl Default for Release {
    fn default() -> Self {
        Release {
            name: "release-name".to_owned(),
            namespace: "default".to_owned(),
            upgrade: false,
            kube_version: HelmVersion::default().default_kube_version().to_owned(),
            api_versions: Vec::new(),
            helm: HelmVersion::default(),
        }
    }
}

/// What a chart renders to.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// The texts of templates by their paths; empty ones are left out.
    pub files: BTreeMap<String, String>,
    /// For each line of `files`, the line of the template that wrote it, counted from 1.
    pub lines: BTreeMap<String, Vec<usize>>,
    /// The objects, in install order.
    pub manifests: Vec<Manifest>,
    /// The hooks, in the install order of their kinds.
    pub hooks: Vec<Hook>,
    /// The custom resource definitions of `crds/`: path and text.
    pub crds: Vec<(String, String)>,
}

/// Turns an error of [`render`] into a failure with a hint.
pub fn failure(message: impl Into<String>) -> Failure {
    let message = message.into();
    let hint = if message.contains("missing in charts/ directory") {
        "run `helm dependency build CHART` where its repositories are reachable: it downloads them into charts/"
    } else if message.contains("which is incompatible with Kubernetes") {
        "take a version of the chart for this Kubernetes, or render for another with `--kube-version`"
    } else {
        return Failure::usage(message);
    };
    Failure::usage(message).hint(hint)
}

/// Renders the chart of `files` with the user's values over its own.
///
/// # Errors
/// Fails with Helm's message, which names the template and the line; [`failure`] adds a hint.
pub fn render(files: Files, user_values: &serde_json::Value, release: &Release) -> Result<Rendered, String> {
    budget::run(budget::LIMIT, || {
        let mut rendered = render_templates(files, user_values, release)?;
        (rendered.manifests, rendered.hooks) = sort_manifests(&rendered.files)?;
        Ok(rendered)
    })
}

/// Renders each template to text, whether it is YAML or not.
#[cfg(test)]
pub fn texts(files: Files, user_values: &serde_json::Value, release: &Release) -> Result<BTreeMap<String, String>, String> {
    budget::run(budget::LIMIT, || render_templates(files, user_values, release).map(|rendered| rendered.files))
}

/// Renders each template to text within a budget.
#[cfg(test)]
pub fn texts_within(units: u64, files: Files) -> Result<BTreeMap<String, String>, String> {
    budget::run(units, || render_templates(files, &serde_json::Value::Null, &Release::default()).map(|rendered| rendered.files))
}

/// Renders everything but `manifests` and `hooks`.
fn render_templates(files: Files, user_values: &serde_json::Value, release: &Release) -> Result<Rendered, String> {
    let mut chart = Chart::read(files)?;
    let user_values = super::values::of_user(user_values);
    check_installable(&chart)?;
    dependency::resolve(&mut chart, &user_values, release.helm)?;
    check_kube_version(&chart, release)?;
    let values = coalesce_values(&chart, &user_values, Nulls::in_templates(release.helm))?;
    schema::check(&chart, &values)?;
    let mut templates = BTreeMap::new();
    let shared = Shared { helm: release.helm, release: release_value(release), capabilities: capabilities(release)? };
    collect_templates(&chart, &chart.name(), &values, &shared, &mut templates);
    Ok(Rendered { crds: chart.crds(&chart.name()), ..execute(&templates, release.helm)? })
}

/// Checks that the chart is not a library.
fn check_installable(chart: &Chart) -> Result<(), String> {
    if chart.is_library() { Err("library charts are not installable".to_owned()) } else { Ok(()) }
}

/// Checks that the chart supports the Kubernetes version.
fn check_kube_version(chart: &Chart, release: &Release) -> Result<(), String> {
    let (required, version) = (chart.field("kubeVersion"), kube_version(&release.kube_version)?);
    if !required.is_empty() && !satisfies(&required, &version).unwrap_or(false) {
        return Err(format!("chart requires kubeVersion: {required} which is incompatible with Kubernetes {version}"));
    }
    Ok(())
}

/// What all charts of a release share.
struct Shared {
    helm: HelmVersion,
    release: Value,
    capabilities: Value,
}

/// A template and its `.`, as Helm's `renderable`.
struct Renderable {
    text: String,
    dot: Value,
    base_path: String,
}

fn release_value(release: &Release) -> Value {
    Value::map([
        ("Name", Value::text(&release.name)),
        ("Namespace", Value::text(&release.namespace)),
        ("IsUpgrade", Value::Bool(release.upgrade)),
        ("IsInstall", Value::Bool(!release.upgrade)),
        ("Revision", Value::Int(1)),
        ("Service", Value::text("Helm")),
    ])
}

/// Collects the templates of a chart and its subcharts by path; returns the `.` of the chart.
fn collect_templates(chart: &Chart, path: &str, values: &Value, shared: &Shared, templates: &mut BTreeMap<String, Renderable>) -> Value {
    let files = chart.files.iter().map(|(name, bytes)| (name.clone(), Rc::from(bytes.as_slice()))).collect();
    let subcharts = new_map::<String>([]);
    let dot = Value::map([
        ("Chart", metadata(chart, !path.contains('/'), shared.helm)),
        ("Files", Value::object(FileSet(files))),
        ("Release", shared.release.clone()),
        ("Capabilities", shared.capabilities.clone()),
        ("Values", values.clone()),
        ("Subcharts", Value::Map(subcharts.clone())),
    ]);
    for subchart in &chart.subcharts {
        let section = match values.get(&subchart.name()) {
            Value::Map(section) => Value::Map(section),
            _ => Value::Map(new_map::<String>([])),
        };
        let dot_of_subchart = collect_templates(subchart, &chart.path_of(path, subchart), &section, shared, templates);
        subcharts.borrow_mut().insert(subchart.name(), dot_of_subchart);
    }
    for (name, text) in &chart.templates {
        if !chart.is_library() || is_partial(name) {
            let base_path = format!("{path}/templates");
            templates.insert(format!("{path}/{name}"), Renderable { text: text.clone(), dot: dot.clone(), base_path });
        }
    }
    dot
}

/// Makes `.Chart`.
fn metadata(chart: &Chart, is_root: bool, helm: HelmVersion) -> Value {
    let text = |name: &str| Value::text(chart.field(name));
    let texts = |name: &str| match chart.metadata.get(name) {
        Value::List(items) => Value::texts(items.iter().map(display)),
        _ => Value::nil_slice("[]string"),
    };
    let annotations = match chart.metadata.get("annotations") {
        Value::Map(map) => map.borrow().iter().map(|(key, value)| (key.clone(), display(value))).collect(),
        _ => BTreeMap::new(),
    };
    let list_of = |name: &str, types: [&'static str; 2], fields: &'static [(&'static str, &'static str)]| match chart.metadata.get(name) {
        Value::List(items) => {
            let item = |item: &Value| {
                let fields = fields.iter().map(|(field, key)| match item.get(key) {
                    Value::Nil => (*field, Value::text("")),
                    value => (*field, value),
                });
                Value::object(Struct { ty: types[1], fields: fields.collect(), methods: Vec::new(), json: JsonNames::Camel })
            };
            Value::slice(types[0], items.iter().map(item))
        }
        _ => Value::nil_slice(types[0]),
    };
    let maintainers =
        list_of("maintainers", ["[]*chart.Maintainer", "*chart.Maintainer"], &[("Name", "name"), ("Email", "email"), ("URL", "url")]);
    let dependencies = list_of(
        "dependencies",
        ["[]*chart.Dependency", "*chart.Dependency"],
        &[
            ("Name", "name"),
            ("Version", "version"),
            ("Repository", "repository"),
            ("Condition", "condition"),
            ("Tags", "tags"),
            ("Enabled", "enabled"),
            ("ImportValues", "import-values"),
            ("Alias", "alias"),
        ],
    );
    let fields = vec![
        ("Name", text("name")),
        ("Home", text("home")),
        ("Sources", texts("sources")),
        ("Version", text("version")),
        ("Description", text("description")),
        ("Keywords", texts("keywords")),
        ("Maintainers", maintainers),
        ("Icon", text("icon")),
        ("APIVersion", Value::text(if chart.field("apiVersion").is_empty() { "v1".to_owned() } else { chart.field("apiVersion") })),
        ("Condition", text("condition")),
        ("Tags", text("tags")),
        ("AppVersion", text("appVersion")),
        ("Deprecated", Value::Bool(chart.field("deprecated") == "true")),
        ("Annotations", Value::object(TextMap { is_nil: annotations.is_empty(), entries: annotations })),
        ("KubeVersion", text("kubeVersion")),
        ("Dependencies", dependencies),
        ("Type", text("type")),
    ];
    if helm == HelmVersion::V4 {
        // a map of the fields, with empty lists where there are none
        let fields = fields.into_iter().map(|(name, value)| match value {
            Value::List(list) if list.is_nil() => (name, Value::slice(list.type_name(), [])),
            other => (name, other),
        });
        return Value::map(fields.chain([("IsRoot", Value::Bool(is_root))]));
    }
    Value::object(ChartMetadata { metadata: Struct { ty: "chart.Metadata", fields, methods: Vec::new(), json: JsonNames::Camel }, is_root })
}

fn is_partial(path: &str) -> bool {
    path.rsplit('/').next().unwrap_or(path).starts_with('_')
}

/// Parses all templates, the deepest first, so that a parent's definitions replace those of its subcharts; then executes them.
fn execute(templates: &BTreeMap<String, Renderable>, helm: HelmVersion) -> Result<Rendered, String> {
    let mut names: Vec<&String> = templates.keys().collect();
    names.sort_by(|a, b| b.matches('/').count().cmp(&a.matches('/').count()).then_with(|| b.cmp(a)));
    let mut engine = match helm {
        HelmVersion::V3 => Engine::new(&HELM),
        HelmVersion::V4 => Engine::ranging_over_integers(&HELM_4),
    };
    for name in &names {
        engine.add(name, &templates[*name].text).map_err(|message| parse_error(name, &message))?;
    }
    let mut rendered = Rendered::default();
    for name in names.into_iter().filter(|name| !is_partial(name)) {
        let template = &templates[name];
        if let Some(dot) = template.dot.as_map() {
            let current = Value::map([("Name", Value::text(name)), ("BasePath", Value::text(&template.base_path))]);
            dot.borrow_mut().insert("Template".to_owned(), current);
        }
        let written = engine.execute_mapped(name, &template.dot).map_err(|message| execution_error(name, &message))?;
        let text = written.text.replace("<no value>", "");
        if !text.trim().is_empty() {
            rendered.lines.insert(name.clone(), written.lines());
            rendered.files.insert(name.clone(), text);
        }
    }
    Ok(rendered)
}
