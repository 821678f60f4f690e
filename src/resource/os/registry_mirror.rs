//! Registry mirrors of containerd: a `hosts.toml` below its `config_path`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::{Content, File, Reconcile, Snapshot, State, System};

/// Mirrors that containerd pulls from before the registry of an image's name (containerd, `docs/hosts.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryMirror {
    /// The mirrored registry: `docker.io`; `_default` for all.
    pub registry: String,
    /// The mirrors, tried in this order.
    pub endpoints: Vec<Endpoint>,
    /// containerd's `config_path`: `/etc/containerd/certs.d`.
    pub config_path: PathBuf,
}

/// A mirror and how to log in to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its URL: `https://10.0.0.1:5000`.
    pub url: String,
    /// A file with CA certificates (PEM) that are trusted besides those of the host.
    pub ca: Option<PathBuf>,
    /// The value of the `Authorization` header. Secret.
    pub authorization: Option<Content>,
}

impl Endpoint {
    /// A mirror without login, whose certificate the host trusts.
    pub fn new(url: impl Into<String>) -> Self {
        Endpoint { url: url.into(), ca: None, authorization: None }
    }

    /// Sets the file with CA certificates.
    pub fn ca(mut self, ca: Option<&str>) -> Self {
        self.ca = ca.map(PathBuf::from);
        self
    }

    /// Sets basic authentication with user and password (RFC 7617), if there are any.
    pub fn login(mut self, login: Option<(&str, &SecretString)>) -> Self {
        self.authorization =
            login.map(|(user, password)| format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose_secret()))).into());
        self
    }
}

impl RegistryMirror {
    /// Mirrors for all registries.
    pub fn all_registries(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        RegistryMirror {
            registry: "_default".into(),
            endpoints: endpoints.into_iter().collect(),
            config_path: "/etc/containerd/certs.d".into(),
        }
    }

    fn file(&self) -> File {
        let mut text = String::from("# written by sealift\n");
        for endpoint in &self.endpoints {
            write!(text, "\n[host.{:?}]\n  capabilities = [\"pull\", \"resolve\"]\n", endpoint.url).expect("a String takes all writes");
            if let Some(ca) = &endpoint.ca {
                writeln!(text, "  ca = {:?}", ca.display().to_string()).expect("a String takes all writes");
            }
            if let Some(authorization) = &endpoint.authorization {
                let value = String::from_utf8_lossy(authorization.bytes());
                write!(text, "[host.{:?}.header]\n  Authorization = {value:?}\n", endpoint.url).expect("a String takes all writes");
            }
        }
        let has_credentials = self.endpoints.iter().any(|endpoint| endpoint.authorization.is_some());
        File::new(self.config_path.join(&self.registry).join("hosts.toml"), text, if has_credentials { 0o600 } else { 0o644 })
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

    fn apply(&self, system: &System, log: &mut dyn FnMut(&str)) -> Result<()> {
        self.file().apply(system, log)
    }

    fn undo(&self, system: &System, snapshot: &Snapshot, log: &mut dyn FnMut(&str)) -> Result<()> {
        self.file().undo(system, snapshot, log)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_named_in_order() {
        let endpoints = ["https://10.0.0.1:5000", "https://10.0.0.2:5000"].map(|url| Endpoint::new(url).ca(Some("/etc/sealift/ca.crt")));
        let file = serde_json::to_value(RegistryMirror::all_registries(endpoints).file()).unwrap();
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
        let mirror = RegistryMirror::all_registries([
            Endpoint::new("https://10.0.0.1:5000").login(Some(("ann", &password))),
            Endpoint::new("https://r.example"),
        ]);
        let file = mirror.file();
        assert_eq!(file.permissions.mode, 0o600);
        let text = String::from_utf8_lossy(file.content.bytes()).into_owned();
        assert_eq!(text.matches("Authorization = \"Basic YW5uOnNlY3JldA==\"").count(), 1, "{text}");
        assert!(!format!("{mirror:?}").contains("YW5u"));
    }
}
