//! How hosts are reached: what a document says over what the cluster says.

use super::document::{SshDocument, SudoDocument};
use super::finding::Findings;
use super::model::{Ssh, Sudo};
use super::secret::{read as secret, set};
use crate::diagnostic::Span;
use crate::yaml::Node;

/// Reads an `ssh` block; what it does not say is taken from `under`.
pub fn read(node: Option<&Node>, document: &SshDocument, under: &Ssh, findings: &mut Findings) -> Ssh {
    let Some(node) = node else { return under.clone() };
    let place = |field: &str| node.get(field).map_or(node.span.clone(), |node| node.span.clone());
    if document.encrypted == Some(true) {
        let finding = findings.error(
            &place("encrypted"),
            "passwords encrypted by Sealer are not supported: all copies of Sealer share the key, so they protect nothing",
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

fn read_sudo(node: &Node, document: &SudoDocument, findings: &mut Findings) -> Sudo {
    let place = |field: &str| node.get(field).map_or(node.span.clone(), |node| node.span.clone());
    let (passwd, passwd_from) = secret("passwd", &document.passwd, &document.passwd_from, &place, findings).unwrap_or_default();
    Sudo { passwd, passwd_from }
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
