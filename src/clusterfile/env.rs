//! Environments: lists of `NAME=value`, or maps as in old files.

use super::finding::Findings;
use super::model::Env;
use crate::yaml::{Content, Node};

/// Names that sealift sets itself for scripts and templates.
const GENERATED: &[&str] = &[
    "ClusterName",
    "ContainerRuntime",
    "DNSSvcIP",
    "ExternalRegistryDomain",
    "ExternalRegistryPort",
    "ExternalRegistryURL",
    "HostIP",
    "HostIPFamily",
    "HostName",
    "KubeSvcIP",
    "LocalRegistryDomain",
    "LocalRegistryPort",
    "LocalRegistryURL",
    "Masters",
    "Nodes",
    "RegistryDomain",
    "RegistryPort",
    "RegistryURL",
];

/// Reads the environment at a node; later entries win over earlier ones.
pub fn read(node: Option<&Node>, strict: bool, findings: &mut Findings) -> Env {
    let mut env = Env::new();
    let Some(node) = node else { return env };
    if let Content::Map(entries) = &node.content {
        let fine = findings.error_if(strict, &node.span, "`env` is a mapping; current versions of Sealer read only a list");
        fine.help("write it as a list of `NAME=value`");
        for (key, value) in entries.iter() {
            insert(&mut env, value, key.text().unwrap_or_default(), value.text().unwrap_or_default(), findings);
        }
        return env;
    }
    for item in node.items() {
        let Some(text) = item.text() else { continue };
        match text.split_once('=') {
            Some((name, value)) => insert(&mut env, item, name.trim(), value, findings),
            None => findings.error(&item.span, format!("env `{text}` has no `=`")).help("write `NAME=value`"),
        }
    }
    env
}

fn insert(env: &mut Env, node: &Node, name: &str, value: &str, findings: &mut Findings) {
    if let Err(why) = check_name(name) {
        findings.error(&node.span, why);
        return;
    }
    if GENERATED.contains(&name) {
        findings.warning(&node.span, format!("env `{name}` is set by sealift; this value is not used"));
        return;
    }
    if value.contains('\0') {
        findings.error(&node.span, format!("env `{name}` holds a zero byte"));
        return;
    }
    if env.insert(name.to_owned(), value.to_owned()).is_some() {
        findings.warning(&node.span, format!("env `{name}` is set twice; this one wins"));
    }
}

/// Checks the name of a variable: anything that `env` takes.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("env without a name before `=`".to_owned());
    }
    if name.chars().any(|character| character.is_whitespace() || character.is_control() || character == '=') {
        return Err(format!("env name `{}` holds spaces or control characters", name.escape_debug()));
    }
    Ok(())
}
