//! From a Kubefile's text to a checked plan: parses it, pulls the images that it builds on, downloads what it names by URL.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;

use super::base_image::{self, BaseImage};
use super::cache_from::CacheFrom;
use super::context::BuildContext;
use super::download::{Downloaded, DownloadedFile, Downloads, Remote};
use super::instruction_cache::InstructionCache;
use super::lock_file::LockFile;
use super::options::Options;
use super::plan::{Inputs, MissingDownload, Plan, plan};
use super::scratch_dir::ScratchDir;
use super::stage_sources::{Image, StageSources};
use crate::diagnostic::{Diagnostic, refuse_errors};
use crate::events::Context;
use crate::image::parse_platform;
use crate::kubefile::{Parsed, parse};
use crate::registry::client::{Client, redacted_url};
use crate::store::Store;
use crate::workloads::image_list::Ignore;

/// A build whose images and files are here: what executing its plan needs.
pub struct Prepared {
    /// What is requested.
    pub options: Options,
    /// The images that stages start from or copy files from.
    pub base_images: BTreeMap<Image, BaseImage>,
    /// The image that the built one is based on; empty for `FROM scratch`.
    pub base: BaseImage,
    /// What earlier builds in this store remembered.
    pub cache: InstructionCache,
    /// The images whose layers are reused.
    pub cache_from: CacheFrom,
    /// The container images to leave out.
    pub ignored_images: Ignore,
    /// The digests of the images and files that the Kubefile names.
    pub lock_file: LockFile,
    /// A directory for unpacked files; it is gone after the build.
    pub scratch: ScratchDir,
    /// Where layers and images go.
    pub store: Store,
    /// What to report to.
    pub ctx: Context,
}

/// Reads a Kubefile and all that it builds on, and plans.
///
/// # Errors
/// Fails with everything that is wrong in the Kubefile at once, of kind `Usage`; and if an image or a file cannot be fetched.
pub async fn prepare(options: Options, client: &Client, store: &Store, ctx: &Context) -> Result<(Prepared, Plan)> {
    let (draft, plan) = Draft::read(options, client, store, ctx).await?.complete(client, store, ctx).await?;
    let Draft { options, context, cache, base_images, sources, scratch, lock_file, .. } = draft;
    let ignored_images = ignored_images(&context, &options, ctx)?;
    let cache_from = CacheFrom::open(&options, client, store, ctx).await?;
    let base = sources.root(plan.image().number).and_then(|image| base_images.get(image)).cloned().unwrap_or_default();
    let (store, ctx) = (store.clone(), ctx.clone());
    Ok((Prepared { options, base_images, base, cache, cache_from, ignored_images, lock_file, scratch, store, ctx }, plan))
}

/// The container images that the context's `.imageignore` and the options leave out.
fn ignored_images(context: &BuildContext, options: &Options, ctx: &Context) -> Result<Ignore> {
    let mut ignore = Ignore::default();
    let mut lists = options.ignored_image_lists.clone();
    match fs_err::read_to_string(context.root().join(".imageignore")) {
        Ok(text) => lists.push((".imageignore".to_owned(), text)),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    for (name, text) in lists {
        for (line, text) in ignore.add(&text) {
            ctx.warn(format!("{name}:{line}: `{text}` is neither an image name nor a pattern; the line is skipped"));
        }
    }
    Ok(ignore)
}

/// A Kubefile on its way to a plan.
struct Draft {
    options: Options,
    context: BuildContext,
    cache: InstructionCache,
    base_images: BTreeMap<Image, BaseImage>,
    sources: StageSources,
    scratch: ScratchDir,
    lock_file: LockFile,
    parsed: Parsed,
    /// What is wrong with the names of images.
    source_diagnostics: Vec<Diagnostic>,
    downloaded: Downloaded,
}

impl Draft {
    /// Reads the Kubefile and pulls the images that it starts from. For a Kubefile with errors the network is not used: only images
    /// that are in the store are read, to find more errors.
    async fn read(options: Options, client: &Client, store: &Store, ctx: &Context) -> Result<Self> {
        let parsed = parse(&options.kubefile, &options.text);
        let (sources, source_diagnostics) = StageSources::find(&parsed.kubefile, &options);
        let is_valid = !parsed.diagnostics.iter().chain(&source_diagnostics).any(Diagnostic::is_error);
        let (mut roots, mut lock_file) = (BTreeMap::new(), LockFile::default());
        for image in sources.images() {
            let root = match is_valid {
                true => {
                    let name = options.lock.as_ref().map_or_else(|| Ok(image.name.clone()), |lock| lock.image(&image.name))?;
                    let root = base_image::pull(&name, &parse_platform(&image.platform)?, &options, client, store, ctx).await;
                    let root = root.map_err(|error| options.at_lock_entry(&image.name.to_string(), error))?;
                    lock_file.add_image(&image.name, root.digest().try_into()?);
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
            let base_images =
                roots.into_iter().map(|(image, root)| read_base(image, &root, &cache, &store, &ctx)).collect::<Result<_>>()?;
            let scratch = ScratchDir::new(&store);
            let downloaded = Downloaded::new();
            Ok(Draft { options, context, cache, base_images, sources, scratch, lock_file, parsed, source_diagnostics, downloaded })
        })
        .await?
    }

    /// Plans again and again, and downloads what the plan names, until nothing is missing.
    async fn complete(self, client: &Client, store: &Store, ctx: &Context) -> Result<(Self, Plan)> {
        let (mut draft, mut plan) = self.plan(ctx).await?;
        while !plan.missing.is_empty() {
            for missing in &plan.missing {
                let MissingDownload { remote, line, title } = missing;
                let fetched = draft.download(remote, client, store, ctx).await;
                let fetched = fetched.map_err(|error| draft.options.at_instruction(*line, title, error))?;
                draft.lock_file.add_file(&remote.url, fetched.digest);
                draft.downloaded.insert(remote.clone(), fetched);
            }
            (draft, plan) = draft.plan(ctx).await?;
        }
        Ok((draft, plan))
    }

    /// Downloads a file. It must have the checksum in the Kubefile, or else the one in the lock file.
    async fn download(&self, remote: &Remote, client: &Client, store: &Store, ctx: &Context) -> Result<DownloadedFile> {
        let checksum = match (&self.options.lock, remote.checksum) {
            (Some(lock), None) => Some(lock.file(&remote.url)?),
            (_, checksum) => checksum,
        };
        let remote = Remote { url: remote.url.clone(), checksum };
        let fetched = Downloads::new(store).fetch(&remote, &self.cache, client, self.options.pull, ctx).await;
        fetched.map_err(|error| self.options.at_lock_entry(&redacted_url(&remote.url), error))
    }

    /// Plans with what is here. Warnings are reported when the plan is complete.
    async fn plan(self, ctx: &Context) -> Result<(Self, Plan)> {
        let ctx = ctx.clone();
        tokio::task::spawn_blocking(move || {
            let Draft { options, context, base_images, sources, downloaded, scratch, .. } = &self;
            let (plan, found) = plan(&self.parsed.kubefile, Inputs { sources, base_images, context, options, downloaded, scratch });
            let found = found.into_iter().chain(self.source_diagnostics.clone()).collect();
            let diagnostics = merged_diagnostics(&self.parsed.diagnostics, found);
            refuse_errors(&options.text, &diagnostics)?;
            if plan.missing.is_empty() {
                diagnostics.iter().for_each(|warning| ctx.warn(one_line(warning, &options.text)));
                for path in context.skipped() {
                    ctx.warn(format!("{} is left out: an image has no sockets, pipes and devices", path.display()));
                }
            }
            Ok((self, plan))
        })
        .await?
    }
}

fn read_base(image: Image, root: &Descriptor, cache: &InstructionCache, store: &Store, ctx: &Context) -> Result<(Image, BaseImage)> {
    let base = BaseImage::read(root, &parse_platform(&image.platform)?, cache, store, ctx);
    let base = base.with_context(|| format!("image {}", image.name.familiar()))?;
    Ok((image, base))
}

/// What the parser and the planner found, in the order of the text; of one place the parser's error alone.
fn merged_diagnostics(parsed: &[Diagnostic], planned: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let is_new = |found: &Diagnostic| !parsed.iter().any(|known| known.is_error() && known.span == found.span);
    let mut all: Vec<Diagnostic> = planned.into_iter().filter(is_new).collect();
    all.extend(parsed.iter().cloned());
    all.sort_by_key(|diagnostic| diagnostic.span.start);
    all
}

fn one_line(warning: &Diagnostic, text: &str) -> String {
    let located = warning.located(text);
    let help = located.help.map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}:{}:{}: {}{help}", located.file, located.line, located.column, located.message)
}
