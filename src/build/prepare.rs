//! A Kubefile on its way to a plan: its images brought, its URLs fetched, all that is wrong told at once.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;

use super::base_image::{self, BaseImage};
use super::context::BuildContext;
use super::download::{Downloaded, Downloads, Remote};
use super::instruction_cache::InstructionCache;
use super::lock_file::LockFile;
use super::options::Options;
use super::plan::{Known, Lacking, Plan, plan};
use super::scratch_dir::ScratchDir;
use super::stage_sources::{Image, StageSources};
use crate::diagnostic::{Diagnostic, refuse_errors};
use crate::error::{Failure, hints_of, kind_of};
use crate::events::Context;
use crate::image::parse_platform;
use crate::kubefile::{Parsed, parse};
use crate::registry::client::{Client, redacted_url};
use crate::store::Store;

/// What a plan is made from.
pub struct Prepared {
    /// What is asked for.
    pub options: Options,
    /// The context directory.
    pub context: BuildContext,
    /// What earlier builds remembered.
    pub cache: InstructionCache,
    /// The images that stages start from or take files from.
    pub bases: BTreeMap<Image, BaseImage>,
    /// Where stages and `--from` take their files from.
    pub origins: StageSources,
    /// The build's directory.
    pub workdir: ScratchDir,
    /// What it took by name so far.
    pub taken: LockFile,
    parsed: Parsed,
    /// What is wrong with the names of images.
    misnamed: Vec<Diagnostic>,
    downloaded: Downloaded,
}

impl Prepared {
    /// Reads the Kubefile and brings the images that it starts from. Of a Kubefile with errors only those that are here are looked
    /// at: for more errors the network is not asked.
    pub async fn begin(options: Options, client: &Client, store: &Store, ctx: &Context) -> Result<Self> {
        let parsed = parse(&options.kubefile, &options.text);
        let (origins, misnamed) = StageSources::find(&parsed.kubefile, &options);
        let sound = !parsed.diagnostics.iter().chain(&misnamed).any(Diagnostic::is_error);
        let (mut roots, mut taken) = (BTreeMap::new(), LockFile::default());
        for image in origins.images() {
            let root = match sound {
                true => {
                    let name = options.lock.as_ref().map_or_else(|| Ok(image.name.clone()), |lock| lock.image(&image.name))?;
                    let root = base_image::bring(&name, &parse_platform(&image.platform)?, &options, client, store, ctx).await;
                    let root = root.map_err(|error| blame(&options, &image.name.to_string(), error))?;
                    taken.add_image(&image.name, root.digest().try_into()?);
                    Some(root)
                }
                false => store.resolve(&image.name)?,
            };
            roots.extend(root.map(|root| (image.clone(), root)));
        }
        let (store, ctx) = (store.clone(), ctx.clone());
        tokio::task::spawn_blocking(move || {
            let cache = InstructionCache::open(&store, options.no_cache);
            let context = BuildContext::open(&options.context, options.ignore_file.as_deref())?;
            let bases = roots.into_iter().map(|(image, root)| read(image, &root, &cache, &store, &ctx)).collect::<Result<_>>()?;
            let workdir = ScratchDir::new(&store);
            Ok(Prepared { workdir, options, context, cache, bases, origins, taken, parsed, misnamed, downloaded: Downloaded::new() })
        })
        .await?
    }

    /// Plans, and fetches what the plan wants to look at, until nothing is missing. Fails with everything that is wrong at once.
    pub async fn plan(self, client: &Client, store: &Store, ctx: &Context) -> Result<(Self, Plan)> {
        let (mut draft, mut planned) = self.once(ctx).await?;
        while !planned.lacks.is_empty() {
            for lack in &planned.lacks {
                let remote = draft.locked(&lack.remote).map_err(|error| draft.at(lack, error))?;
                let fetched = Downloads::of(store).bring(&remote, &draft.cache, client, draft.options.pull, ctx).await;
                let key = redacted_url(&remote.url);
                let fetched = fetched.map_err(|error| draft.at(lack, blame(&draft.options, &key, error)))?;
                draft.taken.add_file(&lack.remote.url, fetched.digest);
                draft.downloaded.insert(lack.remote.clone(), fetched);
            }
            (draft, planned) = draft.once(ctx).await?;
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
    async fn once(self, ctx: &Context) -> Result<(Self, Plan)> {
        let ctx = ctx.clone();
        tokio::task::spawn_blocking(move || {
            let Prepared { options, context, bases, origins, downloaded, .. } = &self;
            let (plan, found) = plan(&self.parsed.kubefile, Known { origins, bases, context, options, downloaded, workdir: &self.workdir });
            let diagnostics = joined(&self.parsed.diagnostics, found.into_iter().chain(self.misnamed.clone()).collect());
            refuse_errors(&options.text, &diagnostics)?;
            for warning in diagnostics.iter().filter(|_| plan.lacks.is_empty()) {
                ctx.warn(told(warning, &options.text));
            }
            for path in context.left_out().iter().filter(|_| plan.lacks.is_empty()) {
                ctx.warn(format!("{} is left out: sockets, pipes and devices mean nothing elsewhere", path.display()));
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

fn read(image: Image, root: &Descriptor, cache: &InstructionCache, store: &Store, ctx: &Context) -> Result<(Image, BaseImage)> {
    let base = BaseImage::read(root, &parse_platform(&image.platform)?, cache, store, ctx);
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
