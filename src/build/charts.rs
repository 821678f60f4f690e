//! The charts of a rootfs: rendered as they will be launched, to find the container images that they need.

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
use crate::layer::{Source, Tree, flatten};
use crate::store::Store;
use crate::template;
use crate::workloads::{FileKind, FoundImages, RequiredImages, SourceLocation, UndecidedImage, app_of, find_in_manifests};

/// A chart in a rootfs.
#[derive(Debug)]
pub struct Chart {
    /// The folder of the chart, or its archive.
    pub path: PathBuf,
    /// The files, by their paths in the rootfs.
    pub files: BTreeMap<PathBuf, Content>,
}

/// What charts are rendered with and for.
pub struct Launch<'a> {
    /// What renders them.
    pub engine: &'a Engine,
    /// Whether programs of the image run on this machine.
    pub native: bool,
    /// The cluster that they are launched in.
    pub cluster: &'a ClusterConfig,
    /// The image's environment.
    pub env: &'a Env,
    /// The finished stage.
    pub made: &'a StageResult,
    /// What earlier builds remembered.
    pub cache: &'a InstructionCache,
    /// The build's directory.
    pub workdir: &'a ScratchDir,
    /// Where layers are.
    pub store: &'a Store,
    /// What to report to.
    pub ctx: &'a Context,
}

type Env = BTreeMap<String, String>;

/// What one chart asks for.
#[derive(Debug, Serialize, Deserialize)]
struct Asks {
    templates: Vec<Template>,
    doubts: Vec<UndecidedImage>,
}

/// What one of its templates names.
#[derive(Debug, Serialize, Deserialize)]
struct Template {
    /// Where it is in the rootfs.
    path: String,
    finds: FoundImages,
    /// Whether lines are those of what it makes.
    rendered: bool,
}

impl Launch<'_> {
    /// Renders the charts of the rootfs, and adds the images that they name.
    ///
    /// # Errors
    /// Fails with template and line where one does not render.
    pub fn add_images(&self, wanted: &mut RequiredImages) -> Result<()> {
        let charts = self.made.named.charts();
        if charts.is_empty() {
            return Ok(());
        }
        let engine = self.engine()?;
        for chart in charts {
            let asks = match engine.program()? {
                None => self.cache.chart(&self.key(&chart), || self.asks(&chart, None))?,
                helm => self.asks(&chart, helm)?,
            };
            wanted.undecided.extend(asks.doubts);
            let app = app_of(&chart.path);
            for template in &asks.templates {
                match template.rendered {
                    true => wanted.add_rendered(&template.path, app, &template.finds),
                    false => wanted.add(&template.path, app, &template.finds),
                }
            }
        }
        Ok(())
    }

    /// The engine; a `helm` that the image brings goes before that of this machine.
    fn engine(&self) -> Result<Engine> {
        if !self.native || *self.engine == Engine::Sealift {
            return Ok(self.engine.clone());
        }
        if let Some(helm) = self.made.named.helm() {
            return Ok(Engine::Helm(Some(helm.to_owned())));
        }
        let brought = flatten(self.store, &self.made.layers, |path| path == Path::new(HELM), self.workdir.path()?, self.ctx)?;
        let Some(Source::File(program, _)) = brought.into_values().next().map(|entry| entry.source) else { return Ok(self.engine.clone()) };
        fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o700))?;
        Ok(Engine::Helm(Some(program)))
    }

    /// All that the answer depends on.
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
        key.part(format!("{:?}", self.release(chart)));
        key.finish()
    }

    /// The image's environment, under that of the application.
    fn env(&self, chart: &Chart) -> Env {
        let own = app_of(&chart.path).and_then(|app| self.cluster.app(app)).map(|app| app.env.clone()).unwrap_or_default();
        self.env.iter().chain(&own).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// The release that the launch makes, for the Kubernetes that the image brings, if it says which.
    fn release(&self, chart: &Chart) -> Release {
        let name = app_of(&chart.path).or_else(|| chart.path.file_stem()?.to_str()).unwrap_or("release").to_owned();
        match &self.cluster.runtime_version {
            Some(version) => Release { name, kube_version: version.clone(), ..Release::default() },
            None => Release { name, ..Release::default() },
        }
    }

    fn asks(&self, chart: &Chart, helm: Option<&Path>) -> Result<Asks> {
        let mut files = self.files(chart)?;
        let doubts = fill(&chart.path, &mut files, &self.env(chart));
        let templates = self.templates(chart, files, helm).map_err(|error| failed(&chart.path, &error))?;
        Ok(Asks { templates, doubts })
    }

    fn templates(&self, chart: &Chart, files: Files, helm: Option<&Path>) -> Result<Vec<Template>> {
        let release = self.release(chart);
        let texts = match helm {
            Some(helm) => by_helm(helm, &files, &release)?,
            None => by_sealift(files, &release)?,
        };
        let texts = texts.into_iter().filter(|text| !text.template.ends_with("NOTES.txt"));
        Ok(texts.map(|text| text.read(&chart.path)).collect())
    }

    /// Says of the places in charts that ask for an image which values make it.
    ///
    /// # Errors
    /// Fails where a chart cannot be read any more.
    pub fn explain(&self, image: &Reference, wanted: &mut RequiredImages) -> Result<()> {
        let Some(asked) = wanted.images.get_mut(image) else { return Ok(()) };
        let (engine, charts) = (self.engine()?, self.made.named.charts());
        for place in &mut asked.places {
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
        fill(&chart.path, &mut files, &self.env(chart));
        let asks = |files: Files| {
            let templates = self.templates(chart, files, helm).ok()?;
            let finds = templates.into_iter().filter(|template| template.path == place.source).flat_map(|template| template.finds.images);
            Some(finds.map(|found| found.image).any(|found| found == *image))
        };
        let shown = |given: ValueProvenance| {
            let source = format!("{}.tmpl", given.file);
            let path = |file: &str| chart.path.join(file).display().to_string();
            match lines(&before, &source) {
                None => SourceLocation::line(path(&given.file), given.line),
                // lines may have come and gone
                count if count != lines(&files, &given.file) => {
                    SourceLocation { rendered: true, ..SourceLocation::line(path(&source), given.line) }
                }
                _ => SourceLocation::line(path(&source), given.line),
            }
        };
        Ok(values_of(image, &files, asks).into_iter().map(shown).collect())
    }

    /// The files of a chart by their paths in it; what is only in layers is read from there.
    fn files(&self, chart: &Chart) -> Result<Files> {
        let lost = |path: &Path| chart.files.get(path).is_some_and(|content| content.source.is_none());
        let found = match chart.files.keys().any(|path| lost(path)) {
            true => flatten(self.store, &self.made.layers, lost, self.workdir.path()?, self.ctx)?,
            false => Tree::new(),
        };
        let mut files = Files::new();
        for (path, content) in &chart.files {
            let source = content.source.as_ref().or_else(|| found.get(path).map(|entry| &entry.source));
            let bytes = match source {
                Some(Source::File(file, _)) => fs_err::read(file)?,
                Some(Source::Bytes(bytes)) => bytes.clone(),
                _ => return Err(Failure::failed(format!("{}: not in the image's layers", path.display())).into()),
            };
            match path.strip_prefix(&chart.path) {
                Ok(inside) if !inside.as_os_str().is_empty() => drop(files.insert(inside.to_string_lossy().into_owned(), bytes)),
                _ => return chart::archive(&bytes).with_context(|| path.display().to_string()),
            }
        }
        chart::ignore(&mut files).with_context(|| chart.path.display().to_string())?;
        Ok(files)
    }
}

fn failed(path: &Path, error: &anyhow::Error) -> anyhow::Error {
    let mut failure = Failure::new(kind_of(error), format!("chart {}: {error:#}", path.display()));
    failure.hints = hints_of(error).to_vec();
    let failure = failure.hint("see what it makes with `sealift chart render CHART --values FILE`");
    failure.hint("give the chart the values that it needs in its values.yaml or values.yaml.tmpl").into()
}

/// What a template makes.
struct Text {
    template: String,
    text: String,
    /// The lines of the template that wrote those of the text, if that is known.
    lines: Option<Vec<usize>>,
}

impl Text {
    /// What it names, with the lines of the template where those are known.
    fn read(self, chart: &Path) -> Template {
        let mut finds = find_in_manifests(&self.text, false);
        if let Some(lines) = &self.lines {
            let places = finds.images.iter_mut().map(|found| &mut found.line).chain(finds.undecided.iter_mut().map(|one| &mut one.line));
            places.for_each(|line| *line = lines.get(line.saturating_sub(1)).copied().unwrap_or(*line));
        }
        let path = match self.template.split_once('/') {
            Some((_, inside)) => chart.join(inside).display().to_string(),
            None => self.template,
        };
        Template { path, finds, rendered: self.lines.is_none() }
    }
}

fn nothing() -> serde_json::Value {
    serde_json::Value::Object(serde_json::Map::new())
}

fn by_sealift(files: Files, release: &Release) -> Result<Vec<Text>> {
    let mut rendered = chart::render(files, &nothing(), release).map_err(chart::failure)?;
    let definitions = rendered.definitions.into_iter().map(|(template, text)| Text { lines: Some(Vec::new()), template, text });
    let texts = rendered.files.into_iter().map(|(template, text)| Text { lines: rendered.lines.remove(&template), template, text });
    Ok(texts.chain(definitions).collect())
}

fn by_helm(helm: &Path, files: &Files, release: &Release) -> Result<Vec<Text>> {
    let documents = chart::helm_template(helm, files, &nothing(), release, &["--include-crds"])?;
    let text = |one: chart::Document| Text { template: one.source, text: one.text, lines: None };
    Ok(documents.into_iter().map(text).collect())
}

fn doubt(path: &Path, why: String) -> UndecidedImage {
    UndecidedImage { place: SourceLocation::line(path.display().to_string(), 1), text: "chart".to_owned(), why }
}

/// Renders the chart's `*.tmpl` with the environment, as the launch does; what needs more than is known now is told.
fn fill(path: &Path, files: &mut Files, env: &Env) -> Vec<UndecidedImage> {
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

/// The charts among files, by their paths in the rootfs; charts inside charts belong to those.
pub fn among<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
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
