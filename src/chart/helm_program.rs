//! Renders charts with a `helm` program instead of sealift itself (`--engine helm`).

use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use fs_err as fs;
use serde::Serialize;

use super::{Files, Release, failure};
use crate::atomic_file;
use crate::error::Failure;

/// What renders charts (`--engine`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Engine {
    /// sealift itself.
    #[default]
    Sealift,
    /// The `helm` program at a path; `None` if none was found.
    Helm(Option<PathBuf>),
}

impl Engine {
    /// The `helm` program; `None` if sealift renders itself.
    ///
    /// # Errors
    /// Fails where `helm` is requested and was not found.
    pub fn program(&self) -> Result<Option<&Path>> {
        match self {
            Engine::Sealift => Ok(None),
            Engine::Helm(Some(program)) => Ok(Some(program)),
            Engine::Helm(None) => Err(Failure::failed("helm not found, and `--engine helm` needs it")
                .hint("put `helm` into PATH or into the image's bin/, or leave out `--engine helm`: sealift renders charts itself")
                .into()),
        }
    }
}

/// A YAML document of a rendered chart, as `helm template` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// The path of the template, starting with the chart's name.
    pub source: String,
    /// The YAML, without `---`.
    pub text: String,
}

/// Runs `helm template` on a chart; `options` are more of its options. It gets a temporary home and no cluster, and reads values from a
/// file that only its user can read.
///
/// # Errors
/// Fails with helm's message, which names the template and the line.
pub fn helm_template(
    helm: &Path,
    files: &Files,
    user_values: &serde_json::Value,
    release: &Release,
    options: &[&str],
) -> Result<Vec<Document>> {
    let home = tempfile::Builder::new().prefix("sealift-helm-").tempdir()?;
    let (chart, values) = (home.path().join("chart"), home.path().join("values.json"));
    write_files(files, &chart)?;
    atomic_file::write(&values, user_values.to_string().as_bytes(), 0o600)?;
    let mut command = Command::new(helm);
    command.arg("template").arg(&release.name).arg(&chart).arg("--values").arg(&values);
    command.args(["--namespace", &release.namespace, "--kube-version", &release.kube_version]).args(options);
    command.args(release.api_versions.iter().flat_map(|version| ["--api-versions", version]));
    command.args(release.upgrade.then_some("--is-upgrade"));
    command.env_clear().env("HOME", home.path()).env("KUBECONFIG", home.path().join("none"));
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, home.path().join(name));
    }
    let output = command.stdin(Stdio::null()).output().with_context(|| {
        Failure::failed(format!("cannot run {}", helm.display())).hint("is it a helm 3 program for this machine? `helm version` shows it")
    })?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).replace(&format!("{}/", home.path().display()), "");
        return Err(failure(format!("helm: {}", error_message(&stderr))).into());
    }
    Ok(split_documents(&String::from_utf8_lossy(&output.stdout)))
}

fn write_files(files: &Files, chart: &Path) -> Result<()> {
    fs::create_dir_all(chart)?;
    for (path, bytes) in files {
        if !Path::new(path).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Failure::usage(format!("{path}: the path leads out of the chart"))
                .hint("pack the chart again with `helm package`")
                .into());
        }
        let file = chart.join(path);
        fs::create_dir_all(file.parent().unwrap_or(chart))?;
        fs::write(file, bytes)?;
    }
    Ok(())
}

/// The error in what helm wrote to stderr, without warnings and its advice on `--debug`.
fn error_message(stderr: &str) -> &str {
    let message = stderr.split("\n\nUse --debug flag").next().unwrap_or(stderr).trim();
    message.rsplit_once("Error: ").map_or(message, |(_, message)| message)
}

/// Splits what helm printed at its `# Source:` lines.
fn split_documents(stdout: &str) -> Vec<Document> {
    let stdout = format!("\n{stdout}");
    let parts = stdout.split("\n---\n# Source: ").skip(1);
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
    fn documents_are_split_at_their_sources() {
        let stdout = "---\n# Source: web/crds/c.yaml\na: 1\n\n---\n# Source: web/templates/a.yaml\nb: |\n  ---\n  c\n---\n# Source: e\n";
        let documents: Vec<_> = split_documents(stdout).into_iter().map(|document| (document.source, document.text)).collect();
        let expected = [("web/crds/c.yaml", "a: 1"), ("web/templates/a.yaml", "b: |\n  ---\n  c"), ("e", "")];
        assert_eq!(documents, expected.map(|(source, text)| (source.to_owned(), text.to_owned())));
    }

    #[test]
    fn errors_are_the_last_message_of_helm() {
        for (stderr, expected) in [
            ("WARNING: x\nError: template: a.yaml:1: bad\n\nUse --debug flag to render out invalid YAML\n", "template: a.yaml:1: bad"),
            ("Error: a\n", "a"),
            ("killed\n", "killed"),
        ] {
            assert_eq!(error_message(stderr), expected);
        }
    }

    #[test]
    fn files_stay_inside_the_chart() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["../x", "a/../../x", "/x"] {
            let files = Files::from([(path.to_owned(), Vec::new())]);
            assert!(write_files(&files, &dir.path().join("chart")).is_err(), "{path}");
        }
    }
}
