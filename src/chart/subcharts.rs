//! A chart with the charts inside it.

use std::collections::BTreeMap;

use super::loader::{Files, archive};
use super::yaml;
use crate::template::Value;
use crate::template::functions::version::Version;

/// A chart as its files say it.
#[derive(Debug, Clone)]
pub struct Chart {
    /// `Chart.yaml`, with what `requirements.yaml` adds.
    pub metadata: Value,
    /// `values.yaml`.
    pub values: Value,
    /// `values.schema.json`.
    pub schema: Option<Vec<u8>>,
    /// What is in `templates/`, by path.
    pub templates: BTreeMap<String, String>,
    /// What `.Files` has, `crds/` included.
    pub files: Files,
    /// The charts in `charts/`.
    pub inner: Vec<Chart>,
}

/// Charts inside charts go this deep.
const DEEPEST: usize = 20;

impl Chart {
    /// Reads a chart from its files.
    ///
    /// # Errors
    /// Fails with a message that names the file that is wrong.
    pub fn read(files: Files) -> Result<Chart, String> {
        Self::read_below(files, 0)
    }

    fn read_below(files: Files, depth: usize) -> Result<Chart, String> {
        if depth > DEEPEST {
            return Err("charts are nested too deep".to_owned());
        }
        let parse = |name: &str, text: &[u8], read: fn(&str) -> Result<Value, String>| {
            read(&String::from_utf8_lossy(text)).map_err(|message| format!("cannot load {name}: {message}"))
        };
        let metadata = files.get("Chart.yaml").ok_or("Chart.yaml file is missing")?;
        let metadata = parse("Chart.yaml", metadata, yaml::strings)?;
        let name = metadata.get("name");
        if metadata.as_map().is_none() || name.as_text().is_none_or(str::is_empty) {
            return Err("validation: chart.metadata.name is required".to_owned());
        }
        valid(&metadata)?;
        let mut chart = Chart {
            metadata,
            values: Value::map::<String>([]),
            schema: None,
            templates: BTreeMap::new(),
            files: Files::new(),
            inner: Vec::new(),
        };
        let (mut folders, mut packed): (BTreeMap<String, Files>, BTreeMap<String, Vec<u8>>) = Default::default();
        for (path, bytes) in files {
            match path.as_str() {
                "Chart.yaml" | "Chart.lock" | "requirements.lock" => {}
                "values.yaml" => chart.values = chart_values(&parse(&path, &bytes, yaml::read)?, &path)?,
                "values.schema.json" => chart.schema = Some(bytes),
                "requirements.yaml" => chart.require(&parse(&path, &bytes, yaml::strings)?),
                _ if path.starts_with("templates/") => {
                    chart.templates.insert(path, String::from_utf8_lossy(&bytes).into_owned());
                }
                _ => match path.strip_prefix("charts/") {
                    None => drop(chart.files.insert(path, bytes)),
                    Some(inside) if inside.starts_with(['_', '.']) => {}
                    Some(inside) => match inside.split_once('/') {
                        Some((folder, rest)) if !folder.ends_with(".tgz") => {
                            drop(folders.entry(folder.to_owned()).or_default().insert(rest.to_owned(), bytes))
                        }
                        None if inside.ends_with(".tgz") => drop(packed.insert(inside.to_owned(), bytes)),
                        // Helm takes it for a chart too, and says that it is none
                        None => drop(folders.entry(inside.to_owned()).or_default()),
                        Some(_) => {}
                    },
                },
            }
        }
        for (name, bytes) in packed {
            let wrong = |message: String| format!("error unpacking {name} in {}: {message}", chart.name());
            let files = archive(&bytes).map_err(|error| wrong(format!("{error:#}")))?;
            chart.inner.push(Chart::read_below(files, depth + 1).map_err(wrong)?);
        }
        for (name, files) in folders {
            let wrong = |message| format!("error unpacking subchart {name} in {}: {message}", chart.name());
            chart.inner.push(Chart::read_below(files, depth + 1).map_err(wrong)?);
        }
        Ok(chart)
    }

    /// The dependencies of a chart of version 1 stand in a file of their own.
    fn require(&mut self, requirements: &Value) {
        if let Some(map) = self.metadata.as_map() {
            map.borrow_mut().entry("dependencies".to_owned()).or_insert_with(|| requirements.get("dependencies"));
        }
    }

    /// The name, that of the alias where it has one.
    pub fn name(&self) -> String {
        self.field("name")
    }

    /// A text of `Chart.yaml`; empty where there is none.
    pub fn field(&self, name: &str) -> String {
        match self.metadata.get(name) {
            Value::Text(text) => text.to_string(),
            _ => String::new(),
        }
    }

    /// Whether it only lends its templates.
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

    /// The custom resource definitions of `crds/`, of the charts inside as well: path and text.
    pub fn definitions(&self, path: &str) -> Vec<(String, String)> {
        let own = self.files.iter().filter(|(name, _)| name.starts_with("crds/") && is_manifest(name));
        let mut all: Vec<(String, String)> =
            own.map(|(name, bytes)| (format!("{path}/{name}"), String::from_utf8_lossy(bytes).into_owned())).collect();
        for chart in &self.inner {
            all.extend(chart.definitions(&format!("{path}/charts/{}", chart.name())));
        }
        all
    }
}

/// What Helm asks of `Chart.yaml` besides a name.
fn valid(metadata: &Value) -> Result<(), String> {
    let wrong = |what: String| Err(format!("validation: chart.metadata.{what}"));
    let version = metadata.get("version");
    match version.as_text().unwrap_or_default() {
        "" => return wrong("version is required".to_owned()),
        version if Version::parse(version).is_err() => return wrong(format!("version {version:?} is invalid")),
        _ => {}
    }
    match metadata.get("type").as_text() {
        None | Some("" | "application" | "library") => Ok(()),
        Some(_) => wrong("type must be application or library".to_owned()),
    }
}

fn is_manifest(name: &str) -> bool {
    [".yaml", ".yml", ".json"].iter().any(|ending| name.ends_with(ending))
}

fn chart_values(value: &Value, path: &str) -> Result<Value, String> {
    match value {
        Value::Map(_) => Ok(value.clone()),
        Value::Nil | Value::Absent => Ok(Value::map::<String>([])),
        _ => Err(format!("cannot load {path}: it is no mapping")),
    }
}
