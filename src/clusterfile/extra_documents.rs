//! The documents beside `Cluster`: files to change, hooks, applications.

use serde_json::Value;

use crate::diagnostic::{Span, did_you_mean};
use crate::yaml::Node;

use super::cluster::without_empty;
use super::document::{AppConfigDocument, AppFileDocument, ApplicationDocument, ConfigDocument, PluginDocument};
use super::finding::Findings;
use super::model::{AppConfig, Application, Config, Plugin, Process, Strategy};
use super::{env, validate};

/// Reads a `Config` document.
pub fn read_config(node: &Node, strict: bool, findings: &mut Findings) -> Config {
    let document: ConfigDocument = validate::read(node, strict, findings);
    let spec = document.spec;
    let name = document.metadata.name;
    let place = |field: &str| place(node.get("spec").unwrap_or(node), field);
    let owner = if name.is_empty() { "config".to_owned() } else { format!("config `{name}`") };
    check_path(&owner, &spec.path, &place("path"), findings);
    let data = text_of(spec.data);
    if data.is_empty() {
        findings.error(&place("data"), format!("{owner} has no `data`"));
    }
    Config {
        strategy: read_strategy(spec.strategy.as_deref(), &place("strategy"), findings),
        process: read_process(spec.process.as_deref(), &place("process"), findings),
        app: spec.app_name.filter(|app| !app.is_empty()),
        name,
        path: spec.path,
        data,
    }
}

fn place(node: &Node, field: &str) -> Span {
    node.get(field).map_or(node.span.clone(), |node| node.span.clone())
}

/// Data that is written as YAML instead of as text becomes YAML text.
fn text_of(data: Value) -> String {
    match data {
        Value::Null => String::new(),
        Value::String(text) => text,
        value => serde_saphyr::to_string(&value).unwrap_or_else(|_| value.to_string()),
    }
}

fn check_path(owner: &str, path: &str, span: &Span, findings: &mut Findings) {
    if path.is_empty() {
        findings.error(span, format!("{owner} has no `path`"));
    } else if path.split('/').any(|part| part == "..") || path.contains('\0') {
        findings.error(span, format!("{owner}: path `{}` is outside of the image", path.escape_debug()));
    }
}

fn read_strategy(text: Option<&str>, span: &Span, findings: &mut Findings) -> Strategy {
    match text.unwrap_or_default() {
        "" | "overwrite" => Strategy::Overwrite,
        "merge" => Strategy::Merge,
        other => {
            findings.error(span, format!("unknown strategy `{other}`: `overwrite` or `merge`"));
            Strategy::Overwrite
        }
    }
}

fn read_process(text: Option<&str>, span: &Span, findings: &mut Findings) -> Vec<Process> {
    let mut steps = Vec::new();
    for word in text.unwrap_or_default().split('|').map(str::trim).filter(|word| !word.is_empty()) {
        match word.to_lowercase().as_str() {
            "value" => steps.push(Process::Value),
            "tojson" => steps.push(Process::ToJson),
            "tobase64" => steps.push(Process::ToBase64),
            "tosecret" => steps.push(Process::ToSecret),
            _ => {
                findings.error(span, format!("unknown process step `{word}`")).help("known: value, toJson, toBase64, toSecret");
            }
        }
    }
    steps
}

/// Reads a `Plugin` document.
pub fn read_plugin(node: &Node, strict: bool, findings: &mut Findings) -> Plugin {
    let document: PluginDocument = validate::read(node, strict, findings);
    let (name, mut spec) = (document.metadata.name, document.spec);
    let place = |field: &str| place(node.get("spec").unwrap_or(node), field);
    if spec.kind.is_empty() {
        // the first versions of Sealer took the type from the name
        spec.kind.clone_from(&name);
        findings.error_if(strict || name.is_empty(), &place("type"), format!("plugin `{name}` has no `type`"));
    }
    let phases: Vec<String> = spec.action.split('|').map(|phase| phase.trim().to_owned()).filter(|phase| !phase.is_empty()).collect();
    for phase in phases.iter().filter(|phase| !PHASES.contains(&phase.as_str())) {
        let finding = findings.error_if(strict, &place("action"), format!("plugin `{name}`: unknown phase `{phase}`, it never runs"));
        if let Some(meant) = did_you_mean(phase, PHASES.iter().copied()) {
            finding.help(format!("did you mean `{meant}`?"));
        }
    }
    let scope = if spec.scope.is_empty() { spec.on } else { spec.scope };
    Plugin { name, kind: spec.kind, phases, scope, data: spec.data }
}

/// The phases of Sealer's hooks, of today and of older files.
const PHASES: &[&str] = &[
    "pre-install",
    "pre-init-host",
    "post-init-host",
    "post-install",
    "pre-scaleup",
    "post-scaleup",
    "pre-uninstall",
    "post-uninstall",
    "pre-clean-host",
    "post-clean-host",
    "upgrade-host",
    "upgrade",
    "rollback",
    "Originally",
    "PreInit",
    "PreJoin",
    "PostJoin",
    "PreInstall",
    "PostInstall",
    "PreGuest",
    "PreClean",
    "PostClean",
];

/// Reads an `Application` document.
pub fn read_application(node: &Node, strict: bool, findings: &mut Findings) -> Application {
    let document: ApplicationDocument = validate::read(node, strict, findings);
    let spec = document.spec;
    let entries = node.at(&["spec", "configs"]).map(Node::items).unwrap_or_default();
    let entries = entries.iter().filter(|entry| !entry.entries().is_empty());
    let configs = entries.zip(spec.configs.unwrap_or_default()).map(|(entry, config)| read_app_config(entry, config, strict, findings));
    let application = Application { configs: configs.collect(), cmds: spec.cmds, launch_apps: spec.launch_apps.map(without_empty) };
    check_launched(&application, node, findings);
    application
}

fn read_app_config(node: &Node, document: AppConfigDocument, strict: bool, findings: &mut Findings) -> AppConfig {
    let name = document.name;
    if name.is_empty() {
        findings.error(&place(node, "name"), "settings of an application without `name`");
    }
    let entries = node.get("files").map(Node::items).unwrap_or_default();
    let entries = entries.iter().filter(|entry| !entry.entries().is_empty());
    let files = entries.zip(document.files.unwrap_or_default()).map(|(entry, file)| read_app_file(entry, file, &name, findings)).collect();
    let env = env::read(node.get("env"), strict, findings);
    let cmds = document.launch.and_then(|launch| launch.cmds).filter(|cmds| !cmds.is_empty());
    AppConfig { env, files, cmds, name }
}

fn read_app_file(node: &Node, document: AppFileDocument, app: &str, findings: &mut Findings) -> Config {
    check_path(&format!("settings of application `{app}`"), &document.path, &place(node, "path"), findings);
    let data = text_of(document.data);
    if data.is_empty() {
        findings.error(&place(node, "data"), format!("settings of application `{app}`: a file without `data`"));
    }
    Config {
        name: app.to_owned(),
        path: document.path,
        data,
        strategy: read_strategy(document.strategy.as_deref(), &place(node, "strategy"), findings),
        process: Vec::new(),
        app: Some(app.to_owned()),
    }
}

fn check_launched(application: &Application, node: &Node, findings: &mut Findings) {
    let Some(launched) = &application.launch_apps else { return };
    for entry in node.at(&["spec", "configs"]).map(Node::items).unwrap_or_default() {
        let name = entry.get("name").and_then(Node::text).unwrap_or_default();
        if !name.is_empty() && !launched.iter().any(|app| app == name) {
            findings.warning(&place(entry, "name"), format!("application `{name}` has settings, but `launchApps` does not list it"));
        }
    }
}
