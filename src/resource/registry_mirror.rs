//! Where containerd gets images from: `hosts.toml` of its registry configuration.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{Content, File, Reconcile, Snapshot, State, System};

/// Registries that containerd asks instead of, or before, the one an image's name tells (containerd, `hosts.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryMirror {
    /// The registry they stand for; `_default` for every one.
    pub registry: String,
    /// They, asked in this order.
    pub endpoints: Vec<Endpoint>,
    /// The directory that containerd's `config_path` names.
    pub config_path: PathBuf,
}

/// A registry that is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// The file with the certificate authorities it is checked against, besides those that the host trusts.
    pub ca: Option<PathBuf>,
    /// The `Authorization` header that it wants.
    pub authorization: Option<Content>,
}

impl Endpoint {
    /// One that serves everybody.
    pub fn new(url: impl Into<String>) -> Self {
        Endpoint { url: url.into(), ca: None, authorization: None }
    }

    /// Checks it against the authorities in a file.
    pub fn ca(mut self, ca: Option<&str>) -> Self {
        self.ca = ca.map(PathBuf::from);
        self
    }

    /// Logs in with user and password, if they are known (RFC 7617).
    pub fn login(mut self, login: Option<(&str, &SecretString)>) -> Self {
        self.authorization =
            login.map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose_secret()))).into());
        self
    }
}

impl RegistryMirror {
    /// Mirrors of every registry.
    pub fn of_all(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        RegistryMirror {
            registry: "_default".into(),
            endpoints: endpoints.into_iter().collect(),
            config_path: "/etc/containerd/certs.d".into(),
        }
    }

    fn file(&self) -> File {
        let mut text = String::from("# written by sealift\n");
        for endpoint in &self.endpoints {
            write!(text, "\n[host.{:?}]\n  capabilities = [\"pull\", \"resolve\"]\n", endpoint.url).expect("strings take everything");
            if let Some(ca) = &endpoint.ca {
                writeln!(text, "  ca = {:?}", ca.display().to_string()).expect("strings take everything");
            }
            if let Some(authorization) = &endpoint.authorization {
                let value = String::from_utf8_lossy(authorization.bytes());
                write!(text, "[host.{:?}.header]\n  Authorization = {value:?}\n", endpoint.url).expect("strings take everything");
            }
        }
        let secret = self.endpoints.iter().any(|endpoint| endpoint.authorization.is_some());
        File::new(self.config_path.join(&self.registry).join("hosts.toml"), text, if secret { 0o600 } else { 0o644 })
    }
}

impl Reconcile for RegistryMirror {
    fn title(&self) -> String {
        format!("mirror of {}", if self.registry == "_default" { "all registries" } else { &self.registry })
    }

    fn check(&self, system: &System) -> Result<State> {
        self.file().check(system)
    }

    fn snapshot(&self, system: &System) -> Result<Snapshot> {
        self.file().snapshot(system)
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        self.file().apply(system, say)
    }

    fn undo(&self, system: &System, before: &Snapshot, say: &mut dyn FnMut(&str)) -> Result<()> {
        self.file().undo(system, before, say)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_named_in_order() {
        let endpoints = ["https://10.0.0.1:5000", "https://10.0.0.2:5000"].map(|url| Endpoint::new(url).ca(Some("/etc/sealift/ca.crt")));
        let file = serde_json::to_value(RegistryMirror::of_all(endpoints).file()).unwrap();
        assert_eq!(file["path"], "/etc/containerd/certs.d/_default/hosts.toml");
        insta::assert_snapshot!(file["content"]["text"].as_str().unwrap(), @r#"
        # written by sealift

        [host."https://10.0.0.1:5000"]
          capabilities = ["pull", "resolve"]
          ca = "/etc/sealift/ca.crt"

        [host."https://10.0.0.2:5000"]
          capabilities = ["pull", "resolve"]
          ca = "/etc/sealift/ca.crt"
        "#);
    }

    #[test]
    fn a_password_is_in_a_file_that_only_root_reads_and_in_no_message() {
        let password = SecretString::from("secret");
        let mirror = RegistryMirror::of_all([
            Endpoint::new("https://10.0.0.1:5000").login(Some(("ann", &password))),
            Endpoint::new("https://r.example"),
        ]);
        let file = mirror.file();
        assert_eq!(file.rights.mode, 0o600);
        let text = String::from_utf8_lossy(file.content.bytes()).into_owned();
        assert_eq!(text.matches("Authorization = \"Basic YW5uOnNlY3JldA==\"").count(), 1, "{text}");
        assert!(!format!("{mirror:?}").contains("YW5u"));
    }
}
