//! Renders the helm charts of a rootfs as they will be launched, to find the container images that they require.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::cache_key::CacheKey;
use super::image_sources::{Content, HELM};
use super::instruction_cache::InstructionCache;
use super::scratch_dir::ScratchDir;
use super::stage::StageResult;
use super::value_provenance::{ValueProvenance, values_of};
use crate::chart::{self, Engine, Files, Release};
use crate::error::{Failure, hints_of, kind_of};
use crate::events::Context;
use crate::image::{ClusterConfig, Digest, Reference};
use crate::kubefile::VersionRange;
use crate::layer::{Source, Tree, flatten};
use crate::store::Store;
use crate::template;
use crate::workloads::{FileKind, FoundImages, RequiredImages, SourceLocation, UndecidedImage, app_of, find_in_manifests};

/// A chart in a rootfs.
#[derive(Debug)]
pub struct Chart {
    /// The chart's directory, or its archive.
    pub path: PathBuf,
    /// The files, by their paths in the rootfs.
    pub files: BTreeMap<PathBuf, Content>,
}

/// Renders the charts of a finished stage.
pub struct ChartRenderer<'a> {
    /// The engine that is requested.
    pub engine: &'a Engine,
    /// Whether programs of the image run on this machine.
    pub is_native: bool,
    /// The image's cluster config.
    pub cluster: &'a ClusterConfig,
    /// The image's environment.
    pub env: &'a Env,
    /// The finished stage.
    pub stage: &'a StageResult,
    /// The build cache.
    pub cache: &'a InstructionCache,
    /// A directory for files that are read out of layers.
    pub scratch: &'a ScratchDir,
    /// Where layers are.
    pub store: &'a Store,
    /// What to report to.
    pub ctx: &'a Context,
}

type Env = BTreeMap<String, String>;

/// A rendered chart.
#[derive(Debug, Serialize, Deserialize)]
struct RenderedChart {
    templates: Vec<RenderedTemplate>,
    #[serde(rename = "doubts")]
    undecided: Vec<UndecidedImage>,
}

/// The images that a rendered template names.
#[derive(Debug, Serialize, Deserialize)]
struct RenderedTemplate {
    /// The template's path in the rootfs.
    path: String,
    finds: FoundImages,
    /// Whether line numbers are those of the rendered text, not of the template.
    rendered: bool,
}

impl RenderedTemplate {
    /// Adds it to the templates, or what it names to the one of its path.
    fn add_to(self, templates: &mut Vec<RenderedTemplate>) {
        let Some(known) = templates.iter_mut().find(|known| known.path == self.path) else {
            templates.push(self);
            return;
        };
        for image in self.finds.images {
            if !known.finds.images.contains(&image) {
                known.finds.images.push(image);
            }
        }
        for text in self.finds.undecided {
            if !known.finds.undecided.contains(&text) {
                known.finds.undecided.push(text);
            }
        }
    }
}

/// The minor versions of Kubernetes that a range admits, each with a patch version that it admits.
fn minor_versions(range: &str) -> Vec<String> {
    let Ok(range) = range.parse::<VersionRange>() else { return Vec::new() };
    let admitted = |minor: u64| {
        let versions = [0, 99].map(|patch| format!("v1.{minor}.{patch}"));
        versions.into_iter().find(|version| range.matches(version).unwrap_or(false))
    };
    chart::KUBERNETES_MINORS.filter_map(admitted).collect()
}

impl ChartRenderer<'_> {
    /// Renders the charts of the rootfs, and adds the images that they name.
    ///
    /// # Errors
    /// Fails if a chart does not render, with its template and line.
    pub fn add_images(&self, required: &mut RequiredImages) -> Result<()> {
        let charts = self.stage.image_sources.charts();
        if charts.is_empty() {
            return Ok(());
        }
        let engine = self.engine()?;
        for chart in charts {
            let rendered = match engine.program()? {
                None => self.cache.chart(&self.key(&chart), || self.render(&chart, None))?,
                helm => self.render(&chart, helm)?,
            };
            required.undecided.extend(rendered.undecided);
            let app = app_of(&chart.path);
            for template in &rendered.templates {
                match template.rendered {
                    true => required.add_rendered(&template.path, app, &template.finds),
                    false => required.add(&template.path, app, &template.finds),
                }
            }
        }
        Ok(())
    }

    /// The engine to render with: the image's own `helm` is preferred to that of this machine.
    fn engine(&self) -> Result<Engine> {
        if !self.is_native || *self.engine == Engine::Sealift {
            return Ok(self.engine.clone());
        }
        if let Some(helm) = self.stage.image_sources.helm() {
            return Ok(Engine::Helm(Some(helm.to_owned())));
        }
        let found = flatten(self.store, &self.stage.layers, |path| path == Path::new(HELM), self.scratch.path()?, self.ctx)?;
        let Some(Source::File(program, _)) = found.into_values().next().map(|entry| entry.source) else { return Ok(self.engine.clone()) };
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?;
        Ok(Engine::Helm(Some(program)))
    }

    /// The cache key of a rendered chart.
    fn key(&self, chart: &Chart) -> Digest {
        let mut key = CacheKey::new("chart");
        key.part(env!("CARGO_PKG_VERSION"));
        key.part(chart.path.as_os_str().as_bytes());
        for (path, content) in &chart.files {
            key.part(path.as_os_str().as_bytes());
            key.part(content.digest.to_string());
        }
        for (name, value) in self.env(chart) {
            key.part(name);
            key.part(value);
        }
        key.part(format!("{:?}", self.releases(chart)));
        key.finish()
    }

    /// The image's environment, overridden by that of the application.
    fn env(&self, chart: &Chart) -> Env {
        let own = app_of(&chart.path).and_then(|app| self.cluster.app(app)).map(|app| app.env.clone()).unwrap_or_default();
        self.env.iter().chain(&own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The releases that a launch may install: one for the Kubernetes version of the image, or one for each minor version of KUBEVERSION, else
    /// one for the default.
    fn releases(&self, chart: &Chart) -> Vec<Release> {
        let name = app_of(&chart.path).or_else(|| chart.path.file_stem()?.to_str()).unwrap_or("release").to_owned();
        let release = Release { name, ..Release::default() };
        let versions = match &self.cluster.runtime_version {
            Some(version) => vec![version.clone()],
            None => self.cluster.kube_version.as_deref().map(minor_versions).unwrap_or_default(),
        };
        match versions.as_slice() {
            [] => vec![release],
            versions => versions.iter().map(|version| Release { kube_version: version.clone(), ..release.clone() }).collect(),
        }
    }

    fn render(&self, chart: &Chart, helm: Option<&Path>) -> Result<RenderedChart> {
        let mut files = self.files(chart)?;
        let undecided = render_tmpl_files(&chart.path, &mut files, &self.env(chart));
        let templates = self.templates(chart, files, helm).map_err(|error| render_error(&chart.path, &error))?;
        Ok(RenderedChart { templates, undecided })
    }

    fn templates(&self, chart: &Chart, files: Files, helm: Option<&Path>) -> Result<Vec<RenderedTemplate>> {
        let (mut templates, mut rendered, mut failed) = (Vec::new(), false, None);
        for release in self.releases(chart) {
            let texts = match helm {
                Some(helm) => render_with_helm(helm, &files, &release),
                None => render_with_sealift(files.clone(), &release),
            };
            match texts {
                Ok(texts) => {
                    rendered = true;
                    let texts = texts.into_iter().filter(|text| !text.template.ends_with("NOTES.txt"));
                    texts.for_each(|text| text.find_images(&chart.path).add_to(&mut templates));
                }
                Err(error) => failed = Some(error),
            }
        }
        // a chart need not support each version of a range
        match failed {
            Some(error) if !rendered => Err(error),
            _ => Ok(templates),
        }
    }

    /// Adds to the places in charts that require `image` the values that its name is made of.
    ///
    /// # Errors
    /// Fails if a chart cannot be read.
    pub fn explain(&self, image: &Reference, required: &mut RequiredImages) -> Result<()> {
        let Some(found) = required.images.get_mut(image) else { return Ok(()) };
        let (engine, charts) = (self.engine()?, self.stage.image_sources.charts());
        for place in &mut found.places {
            if let Some(chart) = charts.iter().find(|chart| Path::new(&place.source).starts_with(&chart.path)) {
                place.values = self.values(image, place, chart, engine.program()?)?;
            }
        }
        Ok(())
    }

    fn values(&self, image: &Reference, place: &SourceLocation, chart: &Chart, helm: Option<&Path>) -> Result<Vec<SourceLocation>> {
        let mut files = self.files(chart)?;
        let lines = |files: &Files, name: &str| files.get(name).map(|bytes| bytes.iter().filter(|byte| **byte == b'\n').count());
        let before = files.clone();
        render_tmpl_files(&chart.path, &mut files, &self.env(chart));
        let requires_image = |files: Files| {
            let templates = self.templates(chart, files, helm).ok()?;
            let finds = templates.into_iter().filter(|template| template.path == place.source).flat_map(|template| template.finds.images);
            Some(finds.map(|found| found.image).any(|found| found == *image))
        };
        let place_of = |value: ValueProvenance| {
            let source = format!("{}.tmpl", value.file);
            let path = |file: &str| chart.path.join(file).display().to_string();
            match lines(&before, &source) {
                None => SourceLocation::line(path(&value.file), value.line),
                // the template added or removed lines, so they are those of the rendered text
                count if count != lines(&files, &value.file) => {
                    SourceLocation { rendered: true, ..SourceLocation::line(path(&source), value.line) }
                }
                _ => SourceLocation::line(path(&source), value.line),
            }
        };
        Ok(values_of(image, &files, requires_image).into_iter().map(place_of).collect())
    }

    /// The files of a chart by their paths in it. Those that are in layers only are read from there.
    fn files(&self, chart: &Chart) -> Result<Files> {
        let only_in_layers = |path: &Path| chart.files.get(path).is_some_and(|content| content.source.is_none());
        let found = match chart.files.keys().any(|path| only_in_layers(path)) {
            true => flatten(self.store, &self.stage.layers, only_in_layers, self.scratch.path()?, self.ctx)?,
            false => Tree::new(),
        };
        let mut files = Files::new();
        for (path, content) in &chart.files {
            let source = content.source.as_ref().or_else(|| found.get(path).map(|entry| &entry.source));
            let bytes = match source {
                Some(Source::File(file, _)) => fs_err::read(file)?,
                Some(Source::Bytes(bytes)) => bytes.clone(),
                _ => {
                    return Err(Failure::failed(format!("{}: not in the image's layers", path.display()))
                        .hint("build again with `--no-cache`")
                        .into());
                }
            };
            match path.strip_prefix(&chart.path) {
                Ok(inside) if !inside.as_os_str().is_empty() => drop(files.insert(inside.to_string_lossy().into_owned(), bytes)),
                _ => return chart::load_archive(&bytes).with_context(|| path.display().to_string()),
            }
        }
        chart::apply_helmignore(&mut files).with_context(|| chart.path.display().to_string())?;
        Ok(files)
    }
}

fn render_error(path: &Path, error: &anyhow::Error) -> anyhow::Error {
    let mut failure = Failure::new(kind_of(error), format!("chart {}: {error:#}", path.display()));
    failure.hints = hints_of(error).to_vec();
    let failure = failure.hint("set the values that the chart requires in its values.yaml or values.yaml.tmpl");
    failure.hint("`sealift chart render CHART --values FILE` shows what it renders to").into()
}

/// A rendered template.
struct Text {
    template: String,
    text: String,
    /// For each line of the text, the template's line that wrote it, if that is known.
    lines: Option<Vec<usize>>,
}

impl Text {
    /// The images that it names, with the lines of the template where those are known.
    fn find_images(self, chart: &Path) -> RenderedTemplate {
        let mut finds = find_in_manifests(&self.text, false);
        if let Some(lines) = &self.lines {
            let undecided = finds.undecided.iter_mut().map(|found| &mut found.line);
            let places = finds.images.iter_mut().map(|found| &mut found.line).chain(undecided);
            places.for_each(|line| *line = lines.get(line.saturating_sub(1)).copied().unwrap_or(*line));
        }
        let path = match self.template.split_once('/') {
            Some((_, inside)) => chart.join(inside).display().to_string(),
            None => self.template,
        };
        RenderedTemplate { path, finds, rendered: self.lines.is_none() }
    }
}

fn no_values() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

fn render_with_sealift(files: Files, release: &Release) -> Result<Vec<Text>> {
    let mut rendered = chart::render(files, &no_values(), release).map_err(chart::failure)?;
    let definitions = rendered.crds.into_iter().map(|(template, text)| Text { lines: Some(Vec::new()), template, text });
    let texts = rendered.files.into_iter().map(|(template, text)| Text { lines: rendered.lines.remove(&template), template, text });
    Ok(texts.chain(definitions).collect())
}

fn render_with_helm(helm: &Path, files: &Files, release: &Release) -> Result<Vec<Text>> {
    let documents = chart::helm_template(helm, files, &no_values(), release, &["--include-crds"])?;
    let text = |document: chart::Document| Text { template: document.source, text: document.text, lines: None };
    Ok(documents.into_iter().map(text).collect())
}

fn undecided(path: &Path, why: String) -> UndecidedImage {
    UndecidedImage { place: SourceLocation::line(path.display().to_string(), 1), text: "chart".to_owned(), why }
}

/// Renders the chart's `*.tmpl` files with the environment, as a launch does. Gives those that do not render yet.
fn render_tmpl_files(path: &Path, files: &mut Files, env: &Env) -> Vec<UndecidedImage> {
    let mut failed = Vec::new();
    let templates: Vec<String> = files.keys().filter(|name| name.ends_with(".tmpl")).cloned().collect();
    for name in templates {
        let Some(bytes) = files.remove(&name) else { continue };
        let file = path.join(&name);
        match template::render(&file.display().to_string(), &String::from_utf8_lossy(&bytes), env) {
            Ok(text) => drop(files.insert(name.trim_end_matches(".tmpl").to_owned(), text.into_bytes())),
            Err(error) => failed.push(undecided(&file, format!("{error:#}"))),
        }
    }
    failed
}

/// The paths of the charts among files; charts inside charts belong to those.
pub fn find_charts<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in paths {
        let chart = match FileKind::of(path) {
            Some(FileKind::Chart) => path.parent().map(Path::to_path_buf),
            Some(FileKind::PackedChart) => Some(path.to_path_buf()),
            _ => None,
        };
        found.extend(chart);
    }
    let all = found.clone();
    found.retain(|path| !all.iter().any(|other| other != path && path.starts_with(other)));
    found
}
