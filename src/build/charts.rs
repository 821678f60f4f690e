//! The charts of a rootfs: rendered as they will be launched, to find the container images that they need.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::chart::{self, Files, Release};
use crate::error::Failure;
use crate::image::ClusterConfig;
use crate::template;
use crate::workloads::{Doubt, Kind, Place, Wanted, app_of, in_manifests};

/// A chart in a rootfs.
#[derive(Debug)]
pub struct Chart {
    /// The folder of the chart, or its archive.
    pub path: PathBuf,
    /// The files; `None` where an earlier RUN made them and they are forgotten.
    pub files: Option<Files>,
}

/// Renders charts for a cluster, and adds the images that they name.
///
/// # Errors
/// Fails with template and line where one does not render.
pub fn add_images(charts: Vec<Chart>, cluster: &ClusterConfig, env: &Env, wanted: &mut Wanted) -> Result<()> {
    for Chart { path, files } in charts {
        let app = app_of(&path);
        let Some(mut files) = files else {
            wanted.undecided.push(doubt(&path, "what an earlier RUN made is forgotten; build with `--no-cache`".to_owned()));
            continue;
        };
        let own = app.and_then(|app| cluster.app(app)).map(|app| app.env.clone()).unwrap_or_default();
        let env = env.iter().chain(&own).map(|(name, value)| (name.clone(), value.clone())).collect();
        wanted.undecided.extend(fill(&path, &mut files, &env));
        let name = app.or_else(|| path.file_stem()?.to_str()).unwrap_or("release").to_owned();
        for (template, text) in render(&path, files, &release(name, cluster))? {
            wanted.add(&template, app, &in_manifests(&text, false));
        }
    }
    Ok(())
}

type Env = BTreeMap<String, String>;

fn doubt(path: &Path, why: String) -> Doubt {
    Doubt { place: Place { source: path.display().to_string(), line: 1 }, text: "chart".to_owned(), why }
}

/// Renders the chart's `*.tmpl` with the environment, as the launch does; what needs more than is known now is told.
fn fill(path: &Path, files: &mut Files, env: &Env) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    let templates: Vec<String> = files.keys().filter(|name| name.ends_with(".tmpl")).cloned().collect();
    for name in templates {
        let Some(bytes) = files.remove(&name) else { continue };
        let file = path.join(&name);
        match template::render(&file.display().to_string(), &String::from_utf8_lossy(&bytes), env) {
            Ok(text) => drop(files.insert(name.trim_end_matches(".tmpl").to_owned(), text.into_bytes())),
            Err(error) => doubts.push(doubt(&file, format!("{error:#}"))),
        }
    }
    doubts
}

/// The Kubernetes that the image brings, if it says which.
fn release(name: String, cluster: &ClusterConfig) -> Release {
    match &cluster.runtime_version {
        Some(version) => Release { name, kube_version: version.clone(), ..Release::default() },
        None => Release { name, ..Release::default() },
    }
}

/// Renders one chart: what each of its templates makes, by where it is in the rootfs.
fn render(path: &Path, files: Files, release: &Release) -> Result<Env> {
    let nothing = serde_json::Value::Object(serde_json::Map::new());
    let rendered = chart::render(files, &nothing, release).map_err(|message| {
        Failure::usage(format!("chart {}: {message}", path.display()))
            .hint("see what it makes with `sealift chart render CHART --values FILE`")
            .hint("give the chart the values that it needs in its values.yaml or values.yaml.tmpl")
    })?;
    let inside = |template: String| match template.split_once('/') {
        Some((_, inside)) => path.join(inside).display().to_string(),
        None => template,
    };
    let texts = rendered.files.into_iter().chain(rendered.definitions).filter(|(name, _)| !name.ends_with("NOTES.txt"));
    Ok(texts.map(|(name, text)| (inside(name), text)).collect())
}

/// The charts among files, by their paths in the rootfs; charts inside charts belong to those.
pub fn among<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        let chart = match Kind::of(path) {
            Some(Kind::Chart) => path.parent().map(Path::to_path_buf),
            Some(Kind::PackedChart) => Some(path.to_path_buf()),
            _ => None,
        };
        found.extend(chart);
    }
    let all = found.clone();
    found.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    found
}
