//! Plans applications: APP, CNI, CSI, APPENV, APPCMDS, LAUNCH.

use std::path::{Path, PathBuf};

use super::super::add_archive::{self, Format, chart, format_by_name};
use super::super::app_kind::detect;
use super::super::copy_destination::one_file;
use super::super::download::file_name;
use super::super::ignore_file::Patterns;
use super::{CopyFiles, CopySource, Destination, Item, Operation, Planner};
use crate::diagnostic::{Span, did_you_mean};
use crate::image::{App, AppKind, Role};
use crate::kubefile::{self, Pair, Word};
use crate::layer::Source;

impl Planner<'_> {
    pub(super) fn app(&mut self, app: &kubefile::App, span: &Span) -> Operation {
        let name = self.word(&app.name);
        let missing_before = self.missing.len();
        let items: Vec<Item> = app.sources.iter().flat_map(|source| self.app_source(source)).collect();
        if items.is_empty() && self.diagnostics.is_empty() && self.missing.len() == missing_before {
            self.error(span, format!("application `{name}` has no files")).help =
                Some("its sources are empty: name files, or directories that contain files".to_owned());
        }
        let detected = detect(&name, &items);
        let new = App { name, kind: detected.kind, files: detected.files, env: Default::default(), cmds: Vec::new(), role: app.role };
        let destination = Destination::parse(&format!("{}/", new.root()));
        let sources = items.into_iter().map(CopySource::Item).collect();
        self.declare(new);
        Operation::Copy(CopyFiles { sources, destination, mode: None, owner: None })
    }

    /// The files of a source: files, directories, and charts, unpacked if they are archives.
    fn app_source(&mut self, source: &Word) -> Vec<Item> {
        let text = self.word(source);
        match text.split_once("://") {
            Some(("local", path)) => self.local_source(path, &source.span),
            Some(("http" | "https" | "oci", _)) => self.remote_source(&text, &source.span).into_iter().collect(),
            Some((scheme, _)) => {
                self.error(&source.span, format!("`{scheme}://` is not supported as a source")).help =
                    Some("sources are `local://path`, `https://…`, `http://…` or `oci://registry/chart:tag`".to_owned());
                Vec::new()
            }
            None => {
                self.error(&source.span, format!("application source `{text}` has no scheme")).help =
                    Some(format!("did you mean `local://{text}`?"));
                Vec::new()
            }
        }
    }

    fn local_source(&mut self, path: &str, span: &Span) -> Vec<Item> {
        let mut items = self.selected(path, span, &Patterns::default());
        for item in &mut items {
            let file = match item.tree.get(Path::new("")).map(|entry| &entry.source) {
                Some(Source::File(file, _)) => file.clone(),
                _ => continue,
            };
            if let Some(chart) = self.chart(&file, &item.name.clone(), span) {
                *item = chart;
            }
        }
        items
    }

    fn remote_source(&mut self, url: &str, span: &Span) -> Option<Item> {
        let (url, file) = self.remote(url, None, span)?;
        let is_oci = url.scheme() == "oci";
        let name = if is_oci { PathBuf::from("chart.tgz") } else { file_name(&url).unwrap_or_else(|| PathBuf::from("download")) };
        let chart = self.chart(&file.path, &name, span);
        if is_oci && chart.is_none() {
            self.error(span, format!("`{url}` is not a Helm chart: it has no Chart.yaml"));
        }
        Some(chart.unwrap_or_else(|| one_file(name, Source::File(file.path, file.size), 0o644)))
    }

    /// The chart in an archive; `None` if it is not an archive, or one of something else.
    fn chart(&mut self, file: &Path, name: &Path, span: &Span) -> Option<Item> {
        let read = || match format_by_name(file, name)? {
            Format::Other => Ok(None),
            format => anyhow::Ok(chart(add_archive::read(file, format, self.inputs.scratch.path()?)?)),
        };
        match read() {
            Ok(tree) => Some(Item { name: PathBuf::new(), tree: tree? }),
            Err(error) => {
                self.error(span, format!("`{}` is not a readable archive: {error:#}", name.display())).help =
                    Some("the file may be damaged: create or download it again".to_owned());
                None
            }
        }
    }

    /// Adds an application, or replaces the one with its name.
    fn declare(&mut self, app: App) {
        let role = match app.role {
            Some(Role::Cni) => Some("cni"),
            Some(Role::Csi) => Some("csi"),
            None => None,
        };
        if let Some(role) = role {
            self.stage.cluster.labels.insert(format!("cluster.alpha.sealer.io/kube-{role}-{}", app.name), "true".to_owned());
        }
        match self.stage.cluster.apps.iter_mut().find(|known| known.name == app.name) {
            Some(known) => *known = app,
            None => self.stage.cluster.apps.push(app),
        }
    }

    pub(super) fn app_env(&mut self, app: &Word, env: &[Pair]) {
        let pairs = self.pairs(env);
        if let Some(app) = self.known_app(app) {
            app.env.extend(pairs);
        }
    }

    pub(super) fn app_cmds(&mut self, app: &Word, cmds: &[Word]) {
        if let Some(app) = self.known_app(app) {
            app.cmds = cmds.iter().map(|cmd| cmd.value.clone()).collect();
        }
    }

    pub(super) fn launch(&mut self, apps: &[Word]) {
        self.stage.cluster.launch.apps.clear();
        for word in apps {
            let Some(name) = self.known_name(word) else { continue };
            self.stage.cluster.launch.apps.push(name);
        }
    }

    fn known_app(&mut self, word: &Word) -> Option<&mut App> {
        let name = self.known_name(word)?;
        self.stage.cluster.apps.iter_mut().find(|app| app.name == name)
    }

    /// The name of an application that is declared or inherited; else an error.
    fn known_name(&mut self, word: &Word) -> Option<String> {
        let name = self.word(word).trim().to_owned();
        if self.stage.cluster.app(&name).is_some() {
            return Some(name);
        }
        // without its base an image's applications are not known; on scratch the parser has reported it
        if self.base_is_known && !self.diagnostics.iter().any(|known| known.span == word.span) {
            let known: Vec<&str> = self.stage.cluster.apps.iter().map(|app| app.name.as_str()).collect();
            let help = match did_you_mean(&name, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if known.is_empty() => format!("declare it: `APP {name} local://…`"),
                None => format!("applications of this image: {}", known.join(", ")),
            };
            self.error(&word.span, format!("no application `{name}` is declared or inherited")).help = Some(help);
        }
        None
    }

    /// Checks that an application of unknown kind has commands of its own.
    pub(super) fn check_launch_commands(&mut self) {
        let unknown: Vec<String> = self
            .stage
            .cluster
            .apps
            .iter()
            .filter(|app| app.kind == AppKind::Unknown && app.cmds.is_empty() && !app.files.is_empty())
            .map(|app| app.name.clone())
            .collect();
        for name in unknown {
            let message = format!("no launch command for application `{name}`: its files are neither all manifests nor all scripts");
            let span = self.options.text.find(&name).map_or(0..0, |start| start..start + name.len());
            self.error(&span, message).help = Some(format!("add `APPCMDS {name} [\"COMMAND\"]`"));
        }
    }
}
