//! A chart with its subcharts, read from files.

use std::collections::{BTreeMap, BTreeSet};

use super::loader::{Files, load_archive};
use super::yaml;
use crate::template::functions::version::Version;
use crate::template::{Value, display};

/// A chart.
#[derive(Debug, Clone)]
pub struct Chart {
    /// `Chart.yaml`, with the dependencies of `requirements.yaml` (charts of version 1).
    pub metadata: Value,
    /// `values.yaml`.
    pub values: Value,
    /// `values.schema.json`.
    pub schema: Option<Vec<u8>>,
    /// The texts of `templates/` by path.
    pub templates: BTreeMap<String, String>,
    /// The files of `.Files` by path, `crds/` included.
    pub files: Files,
    /// The charts of `charts/`, directories and archives.
    pub subcharts: Vec<Chart>,
    /// The name that stands in the paths of the charts inside, if it is another.
    pub name_in_paths: Option<String>,
}

/// The limit on how deep subcharts nest.
const MAX_DEPTH: usize = 20;

impl Chart {
    /// Reads a chart from its files.
    ///
    /// # Errors
    /// Fails with Helm's message, which names the invalid file.
    pub fn read(files: Files) -> Result<Chart, String> {
        Self::read_at_depth(files, 0)
    }

    fn read_at_depth(files: Files, depth: usize) -> Result<Chart, String> {
        if depth > MAX_DEPTH {
            return Err(format!("subcharts nest deeper than {MAX_DEPTH} levels"));
        }
        let files: Files = files.into_iter().map(|(path, bytes)| (path, without_mark(bytes))).collect();
        let parse = |name: &str, text: &[u8], read: fn(&str) -> Result<Value, String>| {
            read(&String::from_utf8_lossy(text)).map_err(|message| format!("cannot load {name}: {message}"))
        };
        let metadata = files.get("Chart.yaml").ok_or("Chart.yaml file is missing")?;
        let metadata = parse("Chart.yaml", metadata, yaml::strings)?;
        let name = metadata.get("name");
        if metadata.as_map().is_none() || name.as_text().is_none_or(str::is_empty) {
            return Err("validation: chart.metadata.name is required".to_owned());
        }
        if name.as_text().is_some_and(|name| name.contains('/')) {
            return Err(format!("validation: chart.metadata.name {:?} is invalid", display(&name)));
        }
        validate(&metadata)?;
        let mut chart = Chart {
            metadata,
            values: Value::map::<String>([]),
            schema: None,
            templates: BTreeMap::new(),
            files: Files::new(),
            subcharts: Vec::new(),
            name_in_paths: None,
        };
        let (mut directories, mut archives): (BTreeMap<String, Files>, BTreeMap<String, Vec<u8>>) = Default::default();
        for (path, bytes) in files {
            match path.as_str() {
                "Chart.yaml" | "Chart.lock" | "requirements.lock" => {}
                "values.yaml" => chart.values = chart_values(&parse(&path, &bytes, yaml::read)?, &path)?,
                "values.schema.json" => chart.schema = Some(bytes),
                "requirements.yaml" => chart.add_requirements(&parse(&path, &bytes, yaml::strings)?),
                _ if path.starts_with("templates/") => {
                    chart.templates.insert(path, String::from_utf8_lossy(&bytes).into_owned());
                }
                _ => match path.strip_prefix("charts/") {
                    None => drop(chart.files.insert(path, bytes)),
                    Some(inside) if inside.starts_with(['_', '.']) => {}
                    Some(inside) => match inside.split_once('/') {
                        Some((directory, rest)) if !directory.ends_with(".tgz") => {
                            drop(directories.entry(directory.to_owned()).or_default().insert(rest.to_owned(), bytes))
                        }
                        None if inside.ends_with(".tgz") => drop(archives.insert(inside.to_owned(), bytes)),
                        // Helm reads a plain file as a chart as well, and reports that it has no Chart.yaml
                        None => drop(directories.entry(inside.to_owned()).or_default()),
                        Some(_) => {}
                    },
                },
            }
        }
        for (name, bytes) in archives {
            let unpack_error = |message: String| format!("error unpacking {name} in {}: {message}", chart.name());
            let files = load_archive(&bytes).map_err(|error| unpack_error(format!("{error:#}")))?;
            chart.subcharts.push(Chart::read_at_depth(files, depth + 1).map_err(unpack_error)?);
        }
        for (name, files) in directories {
            let unpack_error = |message| format!("error unpacking subchart {name} in {}: {message}", chart.name());
            chart.subcharts.push(Chart::read_at_depth(files, depth + 1).map_err(unpack_error)?);
        }
        Ok(chart)
    }

    /// Adds the dependencies of a chart of version 1, which are in a file of their own.
    fn add_requirements(&mut self, requirements: &Value) {
        let listed = requirements.get("dependencies");
        if let Some(map) = self.metadata.as_map().filter(|_| !listed.is_nil()) {
            map.borrow_mut().insert("dependencies".to_owned(), listed);
        }
    }

    /// The name, or the alias if the parent gives it one.
    pub fn name(&self) -> String {
        self.field("name")
    }

    /// A string field of `Chart.yaml`; empty where there is none.
    pub fn field(&self, name: &str) -> String {
        match self.metadata.get(name) {
            Value::Text(text) => text.to_string(),
            _ => String::new(),
        }
    }

    /// Whether it is a library chart: only other charts use its templates.
    pub fn is_library(&self) -> bool {
        self.field("type").eq_ignore_ascii_case("library")
    }

    /// The dependencies that `Chart.yaml` lists.
    pub fn dependencies(&self) -> Vec<Value> {
        match self.metadata.get("dependencies") {
            Value::List(items) => items.iter().filter(|item| item.as_map().is_some()).cloned().collect(),
            _ => Vec::new(),
        }
    }

    /// The path of a chart inside this one, which has a path itself.
    pub fn path_of(&self, own_path: &str, inside: &Chart) -> String {
        let own = match (&self.name_in_paths, own_path.rsplit_once('/')) {
            (Some(name), Some((parent, _))) => format!("{parent}/{name}"),
            (Some(name), None) => name.clone(),
            (None, _) => own_path.to_owned(),
        };
        format!("{own}/charts/{}", inside.name())
    }

    /// The custom resource definitions of `crds/`, those of subcharts included: path and text.
    pub fn crds(&self, path: &str) -> Vec<(String, String)> {
        let own = self.files.iter().filter(|(name, _)| name.starts_with("crds/") && is_manifest(name));
        let mut all: Vec<(String, String)> =
            own.map(|(name, bytes)| (format!("{path}/{name}"), String::from_utf8_lossy(bytes).into_owned())).collect();
        for chart in &self.subcharts {
            all.extend(chart.crds(&self.path_of(path, chart)));
        }
        all
    }
}

/// The bytes of a file without the byte order mark that some editors put first, as Helm reads them.
fn without_mark(bytes: Vec<u8>) -> Vec<u8> {
    match bytes.strip_prefix("\u{feff}".as_bytes()) {
        Some(rest) => rest.to_vec(),
        None => bytes,
    }
}

/// Checks what Helm requires of `Chart.yaml` besides a name.
fn validate(metadata: &Value) -> Result<(), String> {
    let invalid = |message: String| Err(format!("validation: chart.metadata.{message}"));
    let version = metadata.get("version");
    match version.as_text().unwrap_or_default() {
        "" => return invalid("version is required".to_owned()),
        version if Version::parse(version).is_err() => return invalid(format!("version {version:?} is invalid")),
        _ => {}
    }
    if !matches!(metadata.get("type").as_text(), None | Some("" | "application" | "library")) {
        return invalid("type must be application or library".to_owned());
    }
    let mut names = BTreeSet::new();
    let Value::List(dependencies) = metadata.get("dependencies") else { return Ok(()) };
    for dependency in dependencies.iter() {
        let text = |key: &str| dependency.get(key).as_text().unwrap_or_default().to_owned();
        let name = if text("alias").is_empty() { text("name") } else { text("alias") };
        if !names.insert(name.clone()) {
            return Err(format!("validation: more than one dependency with name or alias {name:?}"));
        }
    }
    Ok(())
}

fn is_manifest(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

fn chart_values(value: &Value, path: &str) -> Result<Value, String> {
    match value {
        Value::Map(_) => Ok(value.clone()),
        Value::Nil | Value::Absent => Ok(Value::map::<String>([])),
        _ => Err(format!("cannot load {path}: expected a mapping")),
    }
}
