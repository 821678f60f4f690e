//! A chart and values to manifests.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::capabilities::{DEFAULT_KUBE_VERSION, capabilities};
use super::coalesce::coalesce_values;
use super::functions::{HELM, execution_error, parse_error};
use super::install_order::{Hook, Manifest, sort};
use super::loader::Files;
use super::objects::FileSet;
use super::subcharts::Chart;
use super::{dependency, schema};
use crate::error::Failure;
use crate::template::functions::version::satisfies;
use crate::template::{Engine, Struct, Value, budget, json, new_map};

/// What a chart is rendered for.
#[derive(Debug, Clone)]
pub struct Release {
    /// `.Release.Name`
    pub name: String,
    /// `.Release.Namespace`
    pub namespace: String,
    /// Whether it is an upgrade rather than an install.
    pub upgrade: bool,
    /// The version of Kubernetes.
    pub kube_version: String,
    /// API versions that the cluster has besides the usual.
    pub api_versions: Vec<String>,
}

impl Default for Release {
    fn default() -> Self {
        Release {
            name: "release-name".to_owned(),
            namespace: "default".to_owned(),
            upgrade: false,
            kube_version: DEFAULT_KUBE_VERSION.to_owned(),
            api_versions: Vec::new(),
        }
    }
}

/// What a chart renders to.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// The text of each template that made one, by the path of the template.
    pub files: BTreeMap<String, String>,
    /// For each line of these texts, the line of the template that wrote it; all count from 1.
    pub lines: BTreeMap<String, Vec<usize>>,
    /// The objects, in the order they are installed.
    pub manifests: Vec<Manifest>,
    /// The hooks, in the order of their kinds.
    pub hooks: Vec<Hook>,
    /// The custom resource definitions of `crds/`: path and text.
    pub definitions: Vec<(String, String)>,
}

/// A renderer's message as a failure, with what helps.
pub fn failure(message: impl Into<String>) -> Failure {
    let message = message.into();
    let lacks_charts = message.contains("missing in charts/ directory");
    let failure = Failure::usage(message);
    match lacks_charts {
        true => failure.hint("`helm dependency build CHART`, where its repositories can be reached, brings them into charts/"),
        false => failure,
    }
}

/// Renders the chart of `files` with what the user gives over its values.
///
/// # Errors
/// Fails with Helm's message, which names the template and the line.
pub fn render(files: Files, given: &serde_json::Value, release: &Release) -> Result<Rendered, String> {
    budget::run(budget::LIMIT, || {
        let mut rendered = all(files, given, release)?;
        (rendered.manifests, rendered.hooks) = sort(&rendered.files)?;
        Ok(rendered)
    })
}

/// The text of each template alone, whether it is YAML or not.
#[cfg(test)]
pub fn texts(files: Files, given: &serde_json::Value, release: &Release) -> Result<BTreeMap<String, String>, String> {
    budget::run(budget::LIMIT, || all(files, given, release).map(|rendered| rendered.files))
}

/// The text of each template, with so many units of work.
#[cfg(test)]
pub fn texts_within(units: u64, files: Files) -> Result<BTreeMap<String, String>, String> {
    budget::run(units, || all(files, &serde_json::Value::Null, &Release::default()).map(|rendered| rendered.files))
}

/// All but the objects.
fn all(files: Files, given: &serde_json::Value, release: &Release) -> Result<Rendered, String> {
    let mut chart = Chart::read(files)?;
    let given = json::from_serde(given);
    fits(&chart, release)?;
    dependency::resolve(&mut chart, &given)?;
    let values = coalesce_values(&chart, &given)?;
    schema::check(&chart, &values)?;
    let mut templates = BTreeMap::new();
    let top = Top { release: release_value(release), capabilities: capabilities(&release.kube_version, &release.api_versions)? };
    gather(&chart, &chart.name(), &values, &top, &mut templates);
    Ok(Rendered { definitions: chart.definitions(&chart.name()), ..execute(&templates)? })
}

/// Whether the chart wants this version of Kubernetes, and may be installed at all.
fn fits(chart: &Chart, release: &Release) -> Result<(), String> {
    if chart.is_library() {
        return Err("library charts are not installable".to_owned());
    }
    let wanted = chart.field("kubeVersion");
    if !wanted.is_empty() && !satisfies(&wanted, &release.kube_version).unwrap_or(false) {
        return Err(format!("chart requires kubeVersion: {wanted} which is incompatible with Kubernetes {}", release.kube_version));
    }
    Ok(())
}

/// What all charts of a release share.
struct Top {
    release: Value,
    capabilities: Value,
}

/// A template and what it sees.
struct Renderable {
    text: String,
    values: Value,
    base: String,
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

/// The templates of a chart and of those inside it, by their paths; gives what they see.
fn gather(chart: &Chart, path: &str, values: &Value, top: &Top, templates: &mut BTreeMap<String, Renderable>) -> Value {
    let files = chart.files.iter().map(|(name, bytes)| (name.clone(), Rc::from(bytes.as_slice()))).collect();
    let subcharts = new_map::<String>([]);
    let seen = Value::map([
        ("Chart", metadata(chart, !path.contains('/'))),
        ("Files", Value::object(FileSet(files))),
        ("Release", top.release.clone()),
        ("Capabilities", top.capabilities.clone()),
        ("Values", values.clone()),
    ]);
    for inner in &chart.inner {
        let section = match values.get(&inner.name()) {
            Value::Map(section) => Value::Map(section),
            _ => Value::Map(new_map::<String>([])),
        };
        let below = gather(inner, &format!("{path}/charts/{}", inner.name()), &section, top, templates);
        subcharts.borrow_mut().insert(inner.name(), below);
    }
    if let Some(seen) = seen.as_map().filter(|_| !chart.inner.is_empty()) {
        seen.borrow_mut().insert("Subcharts".to_owned(), Value::Map(subcharts));
    }
    for (name, text) in &chart.templates {
        if !chart.is_library() || is_partial(name) {
            let base = format!("{path}/templates");
            templates.insert(format!("{path}/{name}"), Renderable { text: text.clone(), values: seen.clone(), base });
        }
    }
    seen
}

/// `.Chart`
fn metadata(chart: &Chart, is_root: bool) -> Value {
    let text = |name: &str| Value::text(chart.field(name));
    let own = |name: &str| match chart.metadata.get(name) {
        Value::Nil => Value::list([]),
        value => value,
    };
    let annotations = match chart.metadata.get("annotations") {
        Value::Map(map) => Value::Map(map),
        _ => Value::map::<String>([]),
    };
    let list_of = |name: &str, ty: &'static str, fields: &'static [(&'static str, &'static str)]| match own(name) {
        Value::List(items) => Value::list(items.iter().map(|item| {
            let fields = fields.iter().map(|(field, key)| match item.get(key) {
                Value::Nil => (*field, Value::text("")),
                value => (*field, value),
            });
            Value::object(Struct { ty, fields: fields.collect(), methods: Vec::new() })
        })),
        other => other,
    };
    let maintainers = list_of("maintainers", "*chart.Maintainer", &[("Name", "name"), ("Email", "email"), ("URL", "url")]);
    let dependencies = list_of(
        "dependencies",
        "*chart.Dependency",
        &[("Name", "name"), ("Version", "version"), ("Repository", "repository"), ("Condition", "condition"), ("Alias", "alias")],
    );
    Value::object(Struct {
        ty: "*chart.Metadata",
        fields: vec![
            ("Name", text("name")),
            ("Home", text("home")),
            ("Sources", own("sources")),
            ("Version", text("version")),
            ("Description", text("description")),
            ("Keywords", own("keywords")),
            ("Maintainers", maintainers),
            ("Icon", text("icon")),
            ("APIVersion", text("apiVersion")),
            ("Condition", text("condition")),
            ("Tags", text("tags")),
            ("AppVersion", text("appVersion")),
            ("Deprecated", Value::Bool(chart.field("deprecated") == "true")),
            ("Annotations", annotations),
            ("KubeVersion", text("kubeVersion")),
            ("Dependencies", dependencies),
            ("Type", text("type")),
        ],
        methods: vec![("IsRoot", Value::Bool(is_root))],
    })
}

fn is_partial(path: &str) -> bool {
    path.rsplit('/').next().unwrap_or(path).starts_with('_')
}

/// Reads all templates, the deepest first, so that a parent's definitions replace those of the charts inside it; then runs them.
fn execute(templates: &BTreeMap<String, Renderable>) -> Result<Rendered, String> {
    let mut names: Vec<&String> = templates.keys().collect();
    names.sort_by(|a, b| b.matches('/').count().cmp(&a.matches('/').count()).then_with(|| b.cmp(a)));
    let mut engine = Engine::new(&HELM);
    for name in &names {
        engine.add(name, &templates[*name].text).map_err(|message| parse_error(name, &message))?;
    }
    let mut rendered = Rendered::default();
    for name in names.into_iter().filter(|name| !is_partial(name)) {
        let template = &templates[name];
        if let Some(seen) = template.values.as_map() {
            let own = Value::map([("Name", Value::text(name)), ("BasePath", Value::text(&template.base))]);
            seen.borrow_mut().insert("Template".to_owned(), own);
        }
        let written = engine.run(name, &template.values).map_err(|message| execution_error(name, &message))?;
        let text = written.text.replace("<no value>", "");
        if !text.trim().is_empty() {
            rendered.lines.insert(name.clone(), written.lines());
            rendered.files.insert(name.clone(), text);
        }
    }
    Ok(rendered)
}
