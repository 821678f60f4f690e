//! A Kubefile on its way to a plan: its images brought, its URLs fetched, all that is wrong told at once.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;

use super::base_image::{self, Base};
use super::context::Context;
use super::download::{Downloaded, Downloads, Remote};
use super::instruction_cache::Cache;
use super::lock_file::Lock;
use super::options::Options;
use super::plan::{Known, Lacking, Plan, plan};
use super::scratch_dir::Workdir;
use super::stage_sources::{Image, Origins};
use crate::diagnostic::{Diagnostic, refuse_errors};
use crate::error::{Failure, hints_of, kind_of};
use crate::events::Job;
use crate::image::parse_platform;
use crate::kubefile::{Parsed, parse};
use crate::registry::client::{Client, shown};
use crate::store::Store;

/// What a plan is made from.
pub struct Draft {
    /// What is asked for.
    pub options: Options,
    /// The context directory.
    pub context: Context,
    /// What earlier builds remembered.
    pub cache: Cache,
    /// The images that stages start from or take files from.
    pub bases: BTreeMap<Image, Base>,
    /// Where stages and `--from` take their files from.
    pub origins: Origins,
    /// The build's directory.
    pub workdir: Workdir,
    /// What it took by name so far.
    pub taken: Lock,
    parsed: Parsed,
    /// What is wrong with the names of images.
    misnamed: Vec<Diagnostic>,
    downloaded: Downloaded,
}

impl Draft {
    /// Reads the Kubefile and brings the images that it starts from. Of a Kubefile with errors only those that are here are looked
    /// at: for more errors the network is not asked.
    pub async fn begin(options: Options, client: &Client, store: &Store, job: &Job) -> Result<Self> {
        let parsed = parse(&options.kubefile, &options.text);
        let (origins, misnamed) = Origins::find(&parsed.kubefile, &options);
        let sound = !parsed.diagnostics.iter().chain(&misnamed).any(Diagnostic::is_error);
        let (mut roots, mut taken) = (BTreeMap::new(), Lock::default());
        for image in origins.images() {
            let root = match sound {
                true => {
                    let name = options.lock.as_ref().map_or_else(|| Ok(image.name.clone()), |lock| lock.image(&image.name))?;
                    let root = base_image::bring(&name, &parse_platform(&image.platform)?, &options, client, store, job).await;
                    let root = root.map_err(|error| blame(&options, &image.name.to_string(), error))?;
                    taken.add_image(&image.name, root.digest().try_into()?);
                    Some(root)
                }
                false => store.resolve(&image.name)?,
            };
            roots.extend(root.map(|root| (image.clone(), root)));
        }
        let (store, job) = (store.clone(), job.clone());
        tokio::task::spawn_blocking(move || {
            let cache = Cache::open(&store, options.no_cache);
            let context = Context::open(&options.context, options.ignore_file.as_deref())?;
            let bases = roots.into_iter().map(|(image, root)| read(image, &root, &cache, &store, &job)).collect::<Result<_>>()?;
            let workdir = Workdir::new(&store);
            Ok(Draft { workdir, options, context, cache, bases, origins, taken, parsed, misnamed, downloaded: Downloaded::new() })
        })
        .await?
    }

    /// Plans, and fetches what the plan wants to look at, until nothing is missing. Fails with everything that is wrong at once.
    pub async fn plan(self, client: &Client, store: &Store, job: &Job) -> Result<(Self, Plan)> {
        let (mut draft, mut planned) = self.once(job).await?;
        while !planned.lacks.is_empty() {
            for lack in &planned.lacks {
                let remote = draft.locked(&lack.remote).map_err(|error| draft.at(lack, error))?;
                let fetched = Downloads::of(store).bring(&remote, &draft.cache, client, draft.options.pull, job).await;
                let key = shown(&remote.url);
                let fetched = fetched.map_err(|error| draft.at(lack, blame(&draft.options, &key, error)))?;
                draft.taken.add_file(&lack.remote.url, fetched.digest);
                draft.downloaded.insert(lack.remote.clone(), fetched);
            }
            (draft, planned) = draft.once(job).await?;
        }
        Ok((draft, planned))
    }

    /// A file with the checksum that the lock file has for it; one in the Kubefile counts more.
    fn locked(&self, remote: &Remote) -> Result<Remote> {
        let checksum = match (&self.options.lock, remote.checksum) {
            (Some(lock), None) => Some(lock.file(&remote.url)?),
            (_, checksum) => checksum,
        };
        Ok(Remote { url: remote.url.clone(), checksum })
    }

    /// Warnings are told when the plan is whole.
    async fn once(self, job: &Job) -> Result<(Self, Plan)> {
        let job = job.clone();
        tokio::task::spawn_blocking(move || {
            let Draft { options, context, bases, origins, downloaded, .. } = &self;
            let (plan, found) = plan(&self.parsed.kubefile, Known { origins, bases, context, options, downloaded, workdir: &self.workdir });
            let diagnostics = joined(&self.parsed.diagnostics, found.into_iter().chain(self.misnamed.clone()).collect());
            refuse_errors(&options.text, &diagnostics)?;
            for warning in diagnostics.iter().filter(|_| plan.lacks.is_empty()) {
                job.warn(told(warning, &options.text));
            }
            for path in context.left_out().iter().filter(|_| plan.lacks.is_empty()) {
                job.warn(format!("{} is left out: sockets, pipes and devices mean nothing elsewhere", path.display()));
            }
            Ok((self, plan))
        })
        .await?
    }

    /// Says which instruction asked. The kind and the hints stay what they are.
    fn at(&self, lack: &Lacking, error: anyhow::Error) -> anyhow::Error {
        let mut failure = Failure::new(kind_of(&error), format!("{}:{}: {}", self.options.kubefile, lack.line, lack.title));
        failure.hints = hints_of(&error).to_vec();
        error.context(failure)
    }
}

/// Says what the lock file has to do with an error.
fn blame(options: &Options, key: &str, error: anyhow::Error) -> anyhow::Error {
    match &options.lock {
        Some(lock) => lock.blame(key, error),
        None => error,
    }
}

fn read(image: Image, root: &Descriptor, cache: &Cache, store: &Store, job: &Job) -> Result<(Image, Base)> {
    let base = Base::read(root, &parse_platform(&image.platform)?, cache, store, job);
    let base = base.with_context(|| format!("image {}", image.name.familiar()))?;
    Ok((image, base))
}

/// What the parser and the planner found, in the order of the text; of a place that both speak of, what the parser says.
fn joined(parsed: &[Diagnostic], planned: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let is_new = |one: &Diagnostic| !parsed.iter().any(|known| known.is_error() && known.span == one.span);
    let mut all: Vec<Diagnostic> = planned.into_iter().filter(is_new).collect();
    all.extend(parsed.iter().cloned());
    all.sort_by_key(|one| one.span.start);
    all
}

/// A warning in one line.
fn told(diagnostic: &Diagnostic, text: &str) -> String {
    let located = diagnostic.located(text);
    let help = located.help.map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}:{}:{}: {}{help}", located.file, located.line, located.column, located.message)
}
