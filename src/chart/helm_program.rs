//! A `helm` program as the renderer, in the place of ours.

use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use fs_err as fs;
use serde::Serialize;

use super::{Files, Release, failure};
use crate::atomic_file;
use crate::error::Failure;

/// What renders charts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Engine {
    /// sealift itself.
    #[default]
    Sealift,
    /// A `helm` program, if there is one.
    Helm(Option<PathBuf>),
}

impl Engine {
    /// The program that renders, if it is not sealift itself.
    ///
    /// # Errors
    /// Fails where there is none.
    pub fn program(&self) -> Result<Option<&Path>> {
        match self {
            Engine::Sealift => Ok(None),
            Engine::Helm(Some(program)) => Ok(Some(program)),
            Engine::Helm(None) => Err(Failure::failed("no helm to render with")
                .hint("put `helm` into PATH or into the image's bin/, or leave out `--engine helm`: sealift renders charts itself")
                .into()),
        }
    }
}

/// A document and the template that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The template, with the path of its chart.
    pub source: String,
    /// The document.
    pub text: String,
}

/// What `helm template` makes of a chart. It has homes of its own, knows no cluster, and is told values in a file that only its user
/// can read. `options` are further ones of `helm template`.
///
/// # Errors
/// Fails with what helm says, which names the template and the line.
pub fn helm_template(helm: &Path, files: &Files, given: &serde_json::Value, release: &Release, options: &[&str]) -> Result<Vec<Document>> {
    let home = tempfile::Builder::new().prefix("sealift-helm-").tempdir()?;
    let (chart, values) = (home.path().join("chart"), home.path().join("values.json"));
    lay_out(files, &chart)?;
    atomic_file::write(&values, given.to_string().as_bytes(), 0o600)?;
    let mut command = Command::new(helm);
    command.arg("template").arg(&release.name).arg(&chart).arg("--values").arg(&values);
    command.args(["--namespace", &release.namespace, "--kube-version", &release.kube_version]).args(options);
    command.args(release.api_versions.iter().flat_map(|version| ["--api-versions", version]));
    command.args(release.upgrade.then_some("--is-upgrade"));
    command.env_clear().env("HOME", home.path()).env("KUBECONFIG", home.path().join("none"));
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, home.path().join(name));
    }
    let output = command.stdin(Stdio::null()).output().with_context(|| Failure::failed(format!("cannot run {}", helm.display())))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).replace(&format!("{}/", home.path().display()), "");
        return Err(failure(format!("helm: {}", essence(&said))).into());
    }
    Ok(documents(&String::from_utf8_lossy(&output.stdout)))
}

fn lay_out(files: &Files, chart: &Path) -> Result<()> {
    fs::create_dir_all(chart)?;
    for (path, bytes) in files {
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Failure::usage(format!("{path}: leads out of the chart")).into());
        }
        let file = chart.join(path);
        fs::create_dir_all(file.parent().unwrap_or(chart))?;
        fs::write(file, bytes)?;
    }
    Ok(())
}

/// What helm said, without its advice to call it again.
fn essence(said: &str) -> &str {
    let said = said.split("\n\nUse --debug flag").next().unwrap_or(said).trim();
    said.rsplit_once("Error: ").map_or(said, |(_, said)| said)
}

/// What helm printed, cut where it says a source.
fn documents(printed: &str) -> Vec<Document> {
    let printed = format!("\n{printed}");
    let parts = printed.split("\n---\n# Source: ").skip(1);
    parts
        .map(|part| {
            let (source, text) = part.split_once('\n').unwrap_or((part, ""));
            Document { source: source.to_owned(), text: text.trim_end_matches('\n').to_owned() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_at_their_sources() {
        let printed = "---\n# Source: web/crds/c.yaml\na: 1\n\n---\n# Source: web/templates/a.yaml\nb: |\n  ---\n  c\n---\n# Source: e\n";
        let documents: Vec<_> = documents(printed).into_iter().map(|one| (one.source, one.text)).collect();
        let expected = [("web/crds/c.yaml", "a: 1"), ("web/templates/a.yaml", "b: |\n  ---\n  c"), ("e", "")];
        assert_eq!(documents, expected.map(|(source, text)| (source.to_owned(), text.to_owned())));
    }

    #[test]
    fn errors_are_what_helm_says_in_the_end() {
        for (said, essential) in [
            ("WARNING: x\nError: template: a.yaml:1: bad\n\nUse --debug flag to render out invalid YAML\n", "template: a.yaml:1: bad"),
            ("Error: a\n", "a"),
            ("no words of helm\n", "no words of helm"),
        ] {
            assert_eq!(essence(said), essential);
        }
    }

    #[test]
    fn files_stay_inside_the_chart() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "a/../../x", "/x"] {
            let files = Files::from([(path.to_owned(), Vec::new())]);
            assert!(lay_out(&files, &dir.path().join("chart")).is_err(), "{path}");
        }
    }
}
