//! Where containerd gets images from: `hosts.toml` of its registry configuration.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::{Act, Before, File, State, System};

/// Registries that containerd asks instead of, or before, the one an image's name tells (containerd, `hosts.md`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// The registry they stand for; `_default` for every one.
    pub registry: String,
    /// Their URLs, asked in this order.
    pub endpoints: Vec<String>,
    /// The file with the certificate authority they are checked against.
    pub ca: Option<PathBuf>,
    /// The directory that containerd's `config_path` names.
    pub config_path: PathBuf,
}

impl Mirror {
    /// Mirrors of every registry, without TLS or with a certificate that the host trusts.
    pub fn of_all(endpoints: impl IntoIterator<Item = String>) -> Self {
        Mirror {
            registry: "_default".into(),
            endpoints: endpoints.into_iter().collect(),
            ca: None,
            config_path: "/etc/containerd/certs.d".into(),
        }
    }

    fn file(&self) -> File {
        let mut text = String::from("# written by sealift\n");
        for endpoint in &self.endpoints {
            write!(text, "\n[host.{endpoint:?}]\n  capabilities = [\"pull\", \"resolve\"]\n").expect("strings take everything");
            if let Some(ca) = &self.ca {
                writeln!(text, "  ca = {:?}", ca.display().to_string()).expect("strings take everything");
            }
        }
        File::new(self.config_path.join(&self.registry).join("hosts.toml"), text, 0o644)
    }
}

impl Act for Mirror {
    fn title(&self) -> String {
        format!("mirror of {}", if self.registry == "_default" { "all registries" } else { &self.registry })
    }

    fn check(&self, system: &System) -> Result<State> {
        self.file().check(system)
    }

    fn before(&self, system: &System) -> Result<Before> {
        self.file().before(system)
    }

    fn apply(&self, system: &System, say: &mut dyn FnMut(&str)) -> Result<()> {
        self.file().apply(system, say)
    }

    fn undo(&self, system: &System, before: &Before, say: &mut dyn FnMut(&str)) -> Result<()> {
        self.file().undo(system, before, say)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_is_named_in_order() {
        let mut mirror = Mirror::of_all(["https://10.0.0.1:5000".into(), "https://10.0.0.2:5000".into()]);
        mirror.ca = Some("/etc/sealift/ca.crt".into());
        let file = serde_json::to_value(mirror.file()).unwrap();
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
}
