//! `sealift chart`

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{CommandContext, EngineArg};
use crate::chart::{self, DEFAULT_KUBE_VERSION, Document, Release, Rendered, values};
use crate::error::Failure;

/// Look into helm charts
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Render(Box<Render>),
}

/// Print what `helm template` would, without helm
///
/// Values are taken from the chart, then from each --values, then from each --set, the later over the earlier. Charts inside the
/// chart must be in its charts/ folder: nothing is fetched.
#[derive(Debug, clap::Args)]
struct Render {
    /// The chart: a directory or a .tgz
    chart: PathBuf,
    /// The name of the release
    #[arg(long, value_name = "NAME", default_value = "release-name")]
    name: String,
    /// The namespace of the release
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// Values over those of the chart; may be repeated
    #[arg(short = 'f', long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// A value by its path: a.b=1,c={x,y}; may be repeated
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// As --set, but the value stays a string
    #[arg(long, value_name = "PATH=VALUE")]
    set_string: Vec<String>,
    /// The version of Kubernetes to render for
    #[arg(long, value_name = "VERSION", default_value = DEFAULT_KUBE_VERSION)]
    kube_version: String,
    /// API versions that the cluster has besides the usual; may be repeated
    #[arg(short, long, value_name = "VERSION", value_delimiter = ',')]
    api_versions: Vec<String>,
    /// Render for an upgrade rather than an install
    #[arg(long)]
    is_upgrade: bool,
    /// Print the custom resource definitions of crds/ too
    #[arg(long)]
    include_crds: bool,
    /// Print no hooks
    #[arg(long)]
    no_hooks: bool,
    /// Print only what these templates make (templates/x.yaml); may be repeated
    #[arg(short, long, value_name = "TEMPLATE")]
    show_only: Vec<String>,
    /// What renders: sealift itself, or the helm in PATH
    #[arg(long, value_enum, default_value_t, value_name = "ENGINE")]
    engine: EngineArg,
}

/// Runs it.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let Verb::Render(args) = args.verb;
    let documents = tokio::task::spawn_blocking(move || args.documents()).await??;
    cmd.console.answer(&documents, || text(&documents))
}

fn text(documents: &[Document]) -> String {
    documents.iter().map(|one| format!("---\n# Source: {}\n{}\n", one.source, one.text)).collect()
}

impl Render {
    fn documents(&self) -> Result<Vec<Document>> {
        let files = chart::load(&self.chart)?;
        let release = Release {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            upgrade: self.is_upgrade,
            kube_version: self.kube_version.clone(),
            api_versions: self.api_versions.clone(),
        };
        let given = self.given()?;
        let engine = self.engine.resolve();
        if let Some(helm) = engine.program()? {
            let place = || self.chart.display().to_string();
            return chart::helm_template(helm, &files, &given, &release, &self.options_of_helm()).with_context(place);
        }
        let rendered = chart::render(files, &given, &release);
        let rendered = rendered.map_err(|message| chart::failure(format!("{}: {message}", self.chart.display())))?;
        self.only(self.all(rendered))
    }

    fn options_of_helm(&self) -> Vec<&str> {
        let flags = [(self.include_crds, "--include-crds"), (self.no_hooks, "--no-hooks")];
        let flags = flags.into_iter().filter_map(|(on, flag)| on.then_some(flag));
        flags.chain(self.show_only.iter().flat_map(|template| ["--show-only", template])).collect()
    }

    fn given(&self) -> Result<serde_json::Value> {
        let mut values = serde_json::Value::Object(serde_json::Map::new());
        for file in &self.values {
            let text = fs_err::read_to_string(file).context(Failure::usage(format!("no such values file: {}", file.display())))?;
            values::overlay(
                &mut values,
                values::from_yaml(&text).map_err(|message| Failure::usage(format!("{}: {message}", file.display())))?,
            );
        }
        for (assignments, texts) in self.set.iter().map(|one| (one, false)).chain(self.set_string.iter().map(|one| (one, true))) {
            values::set(&mut values, assignments, texts).map_err(|message| Failure::usage(format!("--set {assignments}: {message}")))?;
        }
        Ok(values)
    }

    fn all(&self, rendered: Rendered) -> Vec<Document> {
        let definitions = rendered.crds.into_iter().filter(|_| self.include_crds);
        let definitions = definitions.map(|(source, text)| Document { source, text });
        let hooks = rendered.hooks.into_iter().filter(|_| !self.no_hooks).map(|hook| hook.manifest);
        let manifests = rendered.manifests.into_iter().chain(hooks).map(|one| Document { source: one.source, text: one.text });
        definitions.chain(manifests).collect()
    }

    /// What `--show-only` names; templates are named without the chart's name before them.
    fn only(&self, mut documents: Vec<Document>) -> Result<Vec<Document>> {
        let inside = |source: &str, wanted: &str| source.split_once('/').is_some_and(|(_, path)| path == wanted.trim_start_matches("./"));
        for wanted in &self.show_only {
            if !documents.iter().any(|one| inside(&one.source, wanted)) {
                return Err(Failure::usage(format!("could not find template {wanted} in chart")).into());
            }
        }
        documents.retain(|one| self.show_only.is_empty() || self.show_only.iter().any(|wanted| inside(&one.source, wanted)));
        Ok(documents)
    }
}
