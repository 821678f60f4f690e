//! `sealift chart`

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{CommandContext, EngineArg};
use crate::chart::{self, Document, HelmVersion, Release, Rendered, values};
use crate::error::Failure;

/// Render helm charts without helm
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Render(Box<Render>),
}

/// Print the manifests of a chart, as `helm template` does
///
/// Values come from the chart, then from each --values, then from each --set; later ones override earlier ones. Dependencies must be in
/// the chart's charts/ directory: nothing is fetched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift chart render ./shop --set replicas=3\n  sealift chart render shop-1.0.tgz -f values.yaml -n shop --include-crds"
)]
struct Render {
    /// The chart: a directory or a .tgz file
    chart: PathBuf,
    /// The name of the release
    #[arg(long, value_name = "NAME", default_value = "release-name")]
    name: String,
    /// The namespace of the release
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// A YAML file of values (repeatable)
    #[arg(short = 'f', long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// Set values: a.b=1,c={x,y} (repeatable)
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// Set values that stay strings (repeatable)
    #[arg(long, value_name = "PATH=VALUE")]
    set_string: Vec<String>,
    /// The version of Kubernetes to render for
    ///
    /// Without it that which the helm of --helm-version has: v1.32.0 or v1.37.0
    #[arg(long, value_name = "VERSION")]
    kube_version: Option<String>,
    /// Additional API versions of the cluster (repeatable)
    #[arg(short, long, value_name = "VERSION", value_delimiter = ',')]
    api_versions: Vec<String>,
    /// Render for an upgrade instead of an install
    #[arg(long)]
    is_upgrade: bool,
    /// Also print the custom resource definitions in crds/
    #[arg(long)]
    include_crds: bool,
    /// Leave out hooks
    #[arg(long)]
    no_hooks: bool,
    /// Print only the manifests of this template, such as templates/x.yaml (repeatable)
    #[arg(short, long, value_name = "TEMPLATE")]
    show_only: Vec<String>,
    /// The helm whose behaviour is followed
    #[arg(long, value_enum, default_value_t, value_name = "VERSION")]
    helm_version: HelmVersionArg,
    /// The renderer: sealift itself, or the helm in PATH
    #[arg(long, value_enum, default_value_t, value_name = "ENGINE")]
    engine: EngineArg,
}

/// A version of helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum HelmVersionArg {
    /// helm 3.17
    #[default]
    #[value(name = "3.17")]
    V3,
    /// helm 4
    #[value(name = "4")]
    V4,
}

impl HelmVersionArg {
    fn resolve(self) -> HelmVersion {
        match self {
            HelmVersionArg::V3 => HelmVersion::V3,
            HelmVersionArg::V4 => HelmVersion::V4,
        }
    }
}

/// Runs it.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let Verb::Render(args) = args.verb;
    let documents = tokio::task::spawn_blocking(move || args.documents()).await??;
    cmd.console.answer(&documents, || text(&documents))
}

fn text(documents: &[Document]) -> String {
    documents.iter().map(|document| format!("---\n# Source: {}\n{}\n", document.source, document.text)).collect()
}

impl Render {
    fn documents(&self) -> Result<Vec<Document>> {
        let files = chart::load(&self.chart)?;
        let release = Release {
            name: self.name.clone(),
            namespace: self.namespace.clone(),
            upgrade: self.is_upgrade,
            kube_version: self.kube_version.clone().unwrap_or_else(|| self.helm_version.resolve().default_kube_version().to_owned()),
            api_versions: self.api_versions.clone(),
            helm: self.helm_version.resolve(),
        };
        let values = self.user_values()?;
        let engine = self.engine.resolve();
        if let Some(helm) = engine.program()? {
            let place = || self.chart.display().to_string();
            return chart::helm_template(helm, &files, &values, &release, &self.helm_flags()).with_context(place);
        }
        let rendered = chart::render(files, &values, &release);
        let rendered = rendered.map_err(|message| chart::failure(format!("{}: {message}", self.chart.display())))?;
        self.select(self.all(rendered))
    }

    fn helm_flags(&self) -> Vec<&str> {
        let flags = [(self.include_crds, "--include-crds"), (self.no_hooks, "--no-hooks")];
        let flags = flags.into_iter().filter_map(|(on, flag)| on.then_some(flag));
        flags.chain(self.show_only.iter().flat_map(|template| ["--show-only", template])).collect()
    }

    fn user_values(&self) -> Result<serde_json::Value> {
        let mut values = serde_json::Value::Object(serde_json::Map::new());
        for file in &self.values {
            let text = fs_err::read_to_string(file)
                .context(Failure::usage(format!("values file {}", file.display())).hint("name another with `-f FILE`"))?;
            values::overlay(
                &mut values,
                values::from_yaml(&text).map_err(|message| Failure::usage(format!("{}: {message}", file.display())))?,
            );
        }
        for (assignments, texts) in self.set.iter().map(|text| (text, false)).chain(self.set_string.iter().map(|text| (text, true))) {
            values::set(&mut values, assignments, texts).map_err(|message| Failure::usage(format!("--set {assignments}: {message}")))?;
        }
        Ok(values)
    }

    fn all(&self, rendered: Rendered) -> Vec<Document> {
        let definitions = rendered.crds.into_iter().filter(|_| self.include_crds);
        let definitions = definitions.map(|(source, text)| Document { source, text });
        let hooks = rendered.hooks.into_iter().filter(|_| !self.no_hooks).map(|hook| hook.manifest);
        let manifests =
            rendered.manifests.into_iter().chain(hooks).map(|manifest| Document { source: manifest.source, text: manifest.text });
        definitions.chain(manifests).collect()
    }

    /// The documents of `--show-only`, which names templates without the chart's name before them.
    fn select(&self, mut documents: Vec<Document>) -> Result<Vec<Document>> {
        let inside =
            |source: &str, template: &str| source.split_once('/').is_some_and(|(_, path)| path == template.trim_start_matches("./"));
        for template in &self.show_only {
            if !documents.iter().any(|document| inside(&document.source, template)) {
                return Err(Failure::usage(format!("could not find template {template} in chart"))
                    .hint("name it with its directory, like `templates/deployment.yaml`")
                    .into());
            }
        }
        documents.retain(|document| self.show_only.is_empty() || self.show_only.iter().any(|template| inside(&document.source, template)));
        Ok(documents)
    }
}
