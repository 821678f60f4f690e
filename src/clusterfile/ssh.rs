//! How hosts are reached: what a document says over what the cluster says.

use secrecy::SecretString;

use super::document::{SecretSourceDocument, SshDocument, SudoDocument};
use super::finding::Findings;
use super::model::{SecretSource, Ssh, Sudo};
use super::node::Node;
use crate::diagnostic::Span;

/// Reads an `ssh` block; what it does not say is taken from `under`.
pub fn read(node: Option<&Node>, document: &SshDocument, under: &Ssh, findings: &mut Findings) -> Ssh {
    let Some(node) = node else { return under.clone() };
    let place = |field: &str| node.get(field).map_or(node.span.clone(), |node| node.span.clone());
    if document.encrypted == Some(true) {
        let finding = findings.error(
            &place("encrypted"),
            "passwords that Sealer encrypted are not read: all copies of Sealer share the key, so this is no protection",
        );
        finding.help("write `passwdFrom: prompt`, or use a key (`pk`)");
    }
    let mut ssh = under.clone();
    if let Some(user) = set(&document.user) {
        ssh.user = user;
    }
    if let Some(port) = set(&document.port) {
        ssh.port = read_port(&port, &place("port"), findings).unwrap_or(ssh.port);
    }
    ssh.pk = set(&document.pk).or(ssh.pk);
    if let Some((passwd, from)) = secret("passwd", &document.passwd, &document.passwd_from, &place, findings) {
        (ssh.passwd, ssh.passwd_from) = (passwd, from);
    }
    if let Some((passwd, from)) = secret("pkPasswd", &document.pk_passwd, &document.pk_passwd_from, &place, findings) {
        (ssh.pk_passwd, ssh.pk_passwd_from) = (passwd, from);
    }
    if let Some(sudo) = &document.sudo {
        ssh.sudo = Some(read_sudo(node.get("sudo").unwrap_or(node), sudo, findings));
    }
    if let Some(jump) = set(&document.jump) {
        check_jump(&jump, &place("jump"), findings);
        ssh.jump = Some(jump);
    }
    ssh
}

/// A text that is not empty: Sealer's files leave fields empty to say nothing.
fn set(text: &Option<String>) -> Option<String> {
    text.clone().filter(|text| !text.trim().is_empty())
}

fn read_sudo(node: &Node, document: &SudoDocument, findings: &mut Findings) -> Sudo {
    let place = |field: &str| node.get(field).map_or(node.span.clone(), |node| node.span.clone());
    let (passwd, passwd_from) = secret("passwd", &document.passwd, &document.passwd_from, &place, findings).unwrap_or_default();
    Sudo { passwd, passwd_from }
}

type Secret = (Option<SecretString>, Option<SecretSource>);

/// A secret that is written in the file, or where else it comes from; `None` where nothing is said.
fn secret(
    field: &str,
    written: &Option<String>,
    from: &Option<SecretSourceDocument>,
    place: &dyn Fn(&str) -> Span,
    findings: &mut Findings,
) -> Option<Secret> {
    let from_field = format!("{field}From");
    let source = from.as_ref().and_then(|from| read_source(from, &place(&from_field), findings));
    let written = set(written);
    if written.is_some() {
        let finding = findings.warning(&place(field), format!("`{field}` stands in the file for everybody who can read it"));
        finding.help(format!("use a key or an agent, or `{field}From: prompt`, `{{env: NAME}}` or `{{file: PATH}}`"));
    }
    match (written, source) {
        (Some(_), Some(_)) => {
            findings.error(&place(&from_field), format!("`{field}` and `{from_field}` exclude each other"));
            None
        }
        (Some(written), None) => Some((Some(SecretString::from(written)), None)),
        (None, Some(source)) => Some((None, Some(source))),
        (None, None) => None,
    }
}

fn read_source(document: &SecretSourceDocument, span: &Span, findings: &mut Findings) -> Option<SecretSource> {
    match document {
        SecretSourceDocument::Word(word) if word == "prompt" => return Some(SecretSource::Prompt),
        SecretSourceDocument::Place(place) => match (set(&place.env), set(&place.file), place.prompt) {
            (Some(name), None, None) => return Some(SecretSource::Env(name)),
            (None, Some(path), None) => return Some(SecretSource::File(path)),
            (None, None, Some(true)) => return Some(SecretSource::Prompt),
            _ => {}
        },
        SecretSourceDocument::Word(_) => {}
    }
    findings.error(span, "a secret comes from one of `prompt`, `{env: NAME}`, `{file: PATH}`");
    None
}

/// Reads a TCP port.
pub fn read_port(text: &str, span: &Span, findings: &mut Findings) -> Option<u16> {
    let port = text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    if port.is_none() {
        findings.error(span, format!("`{text}` is not a port: a number from 1 to 65535"));
    }
    port
}

fn check_jump(text: &str, span: &Span, findings: &mut Findings) {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let odd = |character: char| character.is_whitespace() || character.is_control() || character == '@';
    if host.is_empty()
        || text.starts_with('@')
        || text.starts_with('-')
        || text.chars().filter(|c| *c == '@').count() > 1
        || host.contains(odd)
    {
        findings.error(span, format!("`{text}` is not a host to go through")).help("write `[user@]host[:port]`");
    }
}
