//! Takes secrets out of lines that are kept: those of a Clusterfile by their values, others by their form.

use regex::Regex;
use secrecy::{ExposeSecret as _, SecretString};

use crate::clusterfile::Clusterfile;

/// What stands in the place of a secret.
const REDACTED: &str = "…";
/// Shorter values of variables are words and numbers that any line may have.
const MIN_VALUE: usize = 8;
/// Values of variables whose names say that they are secret: also shorter ones.
const MIN_SECRET: usize = 4;
/// What names of variables and fields with secrets have in them, in lower case.
const SECRET_NAMES: [&str; 8] = ["apikey", "credential", "passphrase", "passwd", "password", "privatekey", "secret", "token"];

/// Secrets by their form: bootstrap tokens, certificate keys, tokens of HTTP headers, passwords in URLs and in options.
const FORMS: [(&str, &str); 5] = [
    (r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b", REDACTED),
    (r"(?i)(certificate-?key[ =:]+)[0-9a-f]{64}", "${1}…"),
    (r"(?i)\b(bearer|basic) [a-z0-9+/=._~-]{8,}", "${1} …"),
    (r"(://[^/\s:@]+:)[^/\s@]+@", "${1}…@"),
    (r"(?i)(--?pass(?:word|wd|phrase)?[ =])\S+", "${1}…"),
];

/// Replaces secrets in lines.
#[derive(Debug)]
pub struct Redactor {
    /// The longest first: one may be a part of another.
    values: Vec<SecretString>,
    forms: Vec<(Regex, &'static str)>,
}

impl Redactor {
    /// Knows the secrets of a Clusterfile.
    pub fn new(clusterfile: &Clusterfile) -> Self {
        let mut values: Vec<String> = passwords(clusterfile).map(|secret| secret.expose_secret().to_owned()).collect();
        for (place, value) in clusterfile.secret_values() {
            if place.starts_with("env ") || place.starts_with("kubeadm's ") {
                let least = if names_a_secret(&place) { MIN_SECRET } else { MIN_VALUE };
                values.extend(Some(value).filter(|value| value.len() >= least));
            } else {
                values.extend(secret_fields(&value));
            }
        }
        // lines are matched one by one
        let mut lines: Vec<String> = values.iter().flat_map(|value| value.lines()).map(|line| line.trim().to_owned()).collect();
        lines.retain(|line| line.len() >= MIN_SECRET);
        lines.sort_by_key(|line| std::cmp::Reverse(line.len()));
        lines.dedup();
        let forms = FORMS.iter().filter_map(|(form, by)| Some((Regex::new(form).ok()?, *by)));
        Redactor { values: lines.into_iter().map(SecretString::from).collect(), forms: forms.collect() }
    }

    /// The text without secrets.
    pub fn redact(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.values {
            if text.contains(value.expose_secret()) {
                text = text.replace(value.expose_secret(), REDACTED);
            }
        }
        for (form, by) in &self.forms {
            if form.is_match(&text) {
                text = form.replace_all(&text, *by).into_owned();
            }
        }
        text
    }
}

fn passwords(clusterfile: &Clusterfile) -> impl Iterator<Item = &SecretString> {
    let cluster = &clusterfile.cluster;
    let ssh = std::iter::once(&cluster.ssh).chain(cluster.hosts.iter().map(|host| &host.ssh));
    let registries = [
        cluster.registry.local.as_ref().and_then(|local| local.password.as_ref()),
        cluster.registry.external.as_ref().and_then(|external| external.password.as_ref()),
    ];
    ssh.flat_map(|ssh| [ssh.passwd.as_ref(), ssh.pk_passwd.as_ref(), ssh.sudo.as_ref().and_then(|sudo| sudo.passwd.as_ref())])
        .chain(registries)
        .flatten()
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_lowercase().replace(['_', '-'], "");
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

/// The values in a text of YAML, JSON, TOML or lines `name=value` whose names say that they are secret.
fn secret_fields(text: &str) -> Vec<String> {
    let parts = text.split(['\n', ',', '{', '}']);
    let fields = parts.filter_map(|part| part.split_once([':', '=']));
    let secret = fields.filter(|(name, _)| names_a_secret(name));
    secret.map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned()).filter(|value| value.len() >= MIN_SECRET).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusterfile::load;

    #[test]
    fn secrets_of_the_clusterfile_and_secrets_by_their_form_are_taken_out() {
        let text = "apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {name: shop}\nspec: {image: 'shop:1', ssh: {passwd: hunter2}, \
            env: [PodCIDR=10.244.0.0/16, DB_PASSWORD=kurz, SITE=a-long-value, LEVEL=info], \
            hosts: [{ips: [10.0.0.1], roles: [master]}]}\n---\napiVersion: sealift.io/v1\nkind: Config\nmetadata: {name: c}\n\
            spec: {path: a, data: {user: me, password: in-config}}\n";
        let redactor = Redactor::new(&load("Clusterfile", text).unwrap());
        let cases = [
            ("login hunter2 refused", "login … refused"),
            ("kurz and a-long-value", "… and …"),
            ("info 10.244.0.0/16 me", "info 10.244.0.0/16 me"),
            ("password is in-config", "password is …"),
            ("join --token abcdef.0123456789abcdef x", "join --token … x"),
            ("GET http://me:pw@r.example/x", "GET http://me:…@r.example/x"),
            ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer …"),
            ("psql --password=abc -h db", "psql --password=… -h db"),
        ];
        for (line, expected) in cases {
            assert_eq!(redactor.redact(line), expected);
        }
        let key = "0123456789abcdef".repeat(4);
        assert_eq!(redactor.redact(&format!("--certificate-key {key}")), "--certificate-key …");
        assert_eq!(redactor.redact(&format!("blob sha256:{key}")), format!("blob sha256:{key}"), "digests are no secrets");
    }
}
