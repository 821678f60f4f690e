//! `sealift build`

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use oci_spec::image::Platform;

use super::trust_args::PolicyArgs;
use super::{CommandContext, EngineArg, RegistryArgs, count};
use crate::atomic_file;
use crate::build::{self, Built, Checked, LockFile, Options, Pull, user_namespace};
use crate::error::Failure;
use crate::image::{ClusterKind, Reference, host_platform, parse_platform};
use crate::kubefile::{Instruction, Step, parse};
use crate::layer::Compression;
use crate::workloads::{RequiredBy, SourceLocation};

/// Build a cluster image from a Kubefile
///
/// Stores the image under its name, together with every container image that its manifests, lists and IMAGES name. The same
/// inputs give the same digest, and instructions that did not change come from the cache. Prints the image's digest.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift build -t shop:1.0 .\n  sealift build -t shop:1.0 -f Kubefile --build-arg VERSION=1.0 .\n  sealift build -t shop:1.0 --platform linux/amd64,linux/arm64 .\n  sealift build --check --why docker.io/library/nginx:1.27 ."
)]
pub struct Args {
    /// The build context: the directory that COPY, ADD and APP read from; `-` reads the Kubefile from stdin, without files
    #[arg(default_value = ".")]
    context: PathBuf,
    /// The name of the image, for example registry.example.com/shop:2.1
    #[arg(short, long, value_name = "NAME", required_unless_present = "check")]
    tag: Option<Reference>,
    /// The Kubefile; `-` is stdin [default: Kubefile in the context directory]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Report errors and the container images that will be packed; build nothing
    #[arg(long)]
    check: bool,
    /// With --check: report only which files and lines name this container image
    #[arg(long, value_name = "IMAGE", requires = "check")]
    why: Option<Reference>,
    /// Set a build argument (ARG); without `=`, from the environment
    #[arg(long = "build-arg", value_name = "K=V")]
    build_args: Vec<String>,
    /// Build one image for these platforms [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// Add a label
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Add an annotation to the rootfs manifest
    #[arg(long = "annotation", value_name = "K=V", value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// Do not use the build cache
    #[arg(long)]
    no_cache: bool,
    /// Also use the layers of this image, in the store or a registry, as cache
    #[arg(long, value_name = "NAME")]
    cache_from: Vec<Reference>,
    /// Write the digests of all base images and files to Kubefile.lock
    #[arg(long, conflicts_with_all = ["locked", "check"])]
    lock: bool,
    /// Use exactly the digests in Kubefile.lock; refuse what is not in it
    #[arg(long)]
    locked: bool,
    /// The compression of layers; gzip for tools that read nothing else
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    compression: CompressionArg,
    /// Whether the image contains a cluster, or apps for a running one
    #[arg(long = "type", value_enum, default_value_t, value_name = "TYPE")]
    kind: KindArg,
    /// Whether container images are packed into the image
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    build_mode: Mode,
    /// The renderer of helm charts: sealift itself, or the helm in the image's bin/ or in PATH
    #[arg(long, value_enum, default_value_t, value_name = "ENGINE")]
    engine: EngineArg,
    /// When to pull images that the store has, and to download files again [default: missing; with --lock: newer]
    #[arg(long, value_enum, value_name = "WHEN")]
    pull: Option<PullArg>,
    /// Also pack the container images in this list, one a line
    #[arg(long = "image-list", value_name = "FILE")]
    image_lists: Vec<PathBuf>,
    /// Leave out the container images in this list, one name or pattern a line
    #[arg(long = "ignored-image-list", value_name = "FILE")]
    ignored_image_lists: Vec<PathBuf>,
    /// Take container images from this OCI layout directory or oci-archive before pulling them
    #[arg(long = "from-archive", value_name = "PATH")]
    archives: Vec<PathBuf>,
    /// Build even if container images cannot be found
    #[arg(long)]
    allow_missing: bool,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum CompressionArg {
    #[default]
    Zstd,
    Gzip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum KindArg {
    #[default]
    KubeInstaller,
    AppInstaller,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Mode {
    /// All container images.
    #[default]
    All,
    /// None: a registry at the target serves them.
    Lite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PullArg {
    /// Only if the store does not have the image. Files are checked for changes.
    #[value(alias = "false")]
    Missing,
    /// Always; blobs that the store has are not moved again.
    #[value(alias = "true")]
    Always,
    /// Always, but use what the store has, with a warning, if the registry is unreachable.
    #[value(alias = "ifnewer")]
    Newer,
    /// Never: use only what the store has.
    Never,
}

/// Builds, or checks.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    if args.has_run()
        && let Some(command) = user_namespace::command(&std::env::current_exe()?)
    {
        return restart_as(command);
    }
    let client = args.registry.client()?;
    let store = cmd.store()?;
    let (check, why, empty) = (args.check, args.why.clone(), args.context == Path::new("-"));
    // a context without files is an empty directory
    let empty_dir = empty.then(tempfile::tempdir).transpose()?;
    let platforms = match args.platform.as_slice() {
        [] => vec![host_platform()],
        texts => texts.iter().map(|text| parse_platform(text)).collect::<Result<_>>()?,
    };
    let lock_file = args.lock_file()?;
    let options = args.resolve(&platforms[0], empty_dir.as_ref().map(tempfile::TempDir::path))?;
    if check {
        let checked = build::check(options, why.clone(), &client, &store, &cmd.ctx).await?;
        if let Some(image) = why {
            let required = required(&checked, &image)?;
            return cmd.console.answer(&required.places, || reasons(required));
        }
        return cmd.console.answer(&checked, || report(&checked));
    }
    let built = build::build(options, &platforms, &client, &store, &cmd.ctx).await?;
    if let Some(file) = lock_file {
        write_lock(&file, built.lock_file.clone())?;
    }
    cmd.ctx.note(summary_line(&built));
    cmd.console.answer(&built, || format!("{}\n", built.digest))
}

/// Replaces this process by the same command in a user namespace. The store stays the same one.
fn restart_as(mut command: std::process::Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    command.args(std::env::args_os().skip(1)).env("SEALIFT_HOME", super::state_root()?);
    Err(command.exec()).context("unshare")
}

impl Args {
    /// Whether the Kubefile has RUN. One on stdin counts as if it had: it can be read only once.
    fn has_run(&self) -> bool {
        let file = self.kubefile();
        let is_run = |step: &Step| matches!(step.instruction, Instruction::Run(_));
        let runs = |text: String| parse("", &text).kubefile.stages.iter().any(|stage| stage.steps.iter().any(is_run));
        !self.check && (file == Path::new("-") || std::fs::read_to_string(file).is_ok_and(runs))
    }

    /// The path of the lock file, with `--lock`.
    fn lock_file(&self) -> Result<Option<PathBuf>> {
        self.lock.then(|| lock_file(&self.kubefile())).transpose()
    }

    fn kubefile(&self) -> PathBuf {
        match &self.file {
            Some(file) => file.clone(),
            None if self.context == Path::new("-") => PathBuf::from("-"),
            None => self.context.join("Kubefile"),
        }
    }

    fn resolve(self, platform: &Platform, empty_dir: Option<&Path>) -> Result<Options> {
        let file = self.kubefile();
        let text = read_text(&file)?;
        let build_args = self.build_args.iter().map(|text| build_arg(text)).collect::<Result<BTreeMap<_, _>>>()?;
        Ok(Options {
            name: self.tag.map_or_else(|| "check".parse(), Ok)?,
            kubefile: if file == Path::new("-") { "Kubefile".to_owned() } else { file.display().to_string() },
            text,
            context: empty_dir.unwrap_or(&self.context).to_owned(),
            ignore_file: own_ignore_file(&file),
            platform: platform.clone(),
            source_date_epoch: source_date_epoch(&build_args)?,
            build_args,
            labels: self.labels.into_iter().collect(),
            annotations: self.annotations.into_iter().collect(),
            kind: match self.kind {
                KindArg::KubeInstaller => ClusterKind::KubeInstaller,
                KindArg::AppInstaller => ClusterKind::AppInstaller,
            },
            compression: match self.compression {
                CompressionArg::Zstd => Compression::Zstd,
                CompressionArg::Gzip => Compression::Gzip,
            },
            no_cache: self.no_cache,
            cache_from: self.cache_from,
            lock: self.locked.then(|| read_lock(&file)).transpose()?,
            engine: self.engine.resolve(),
            pull: match self.pull {
                None if self.lock => Pull::Newer,
                None | Some(PullArg::Missing) => Pull::Missing,
                Some(PullArg::Always) => Pull::Always,
                Some(PullArg::Newer) => Pull::Newer,
                Some(PullArg::Never) => Pull::Never,
            },
            with_images: self.build_mode == Mode::All,
            image_lists: self.image_lists.iter().map(|path| named_text(path)).collect::<Result<_>>()?,
            ignored_image_lists: self.ignored_image_lists.iter().map(|path| named_text(path)).collect::<Result<_>>()?,
            archives: self.archives,
            allow_missing: self.allow_missing,
            policy: self.policy.policy()?,
        })
    }
}

/// The ignore file of this Kubefile alone, as docker has them: `NAME.kubeignore` or `NAME.dockerignore`.
fn own_ignore_file(kubefile: &Path) -> Option<PathBuf> {
    let named = |ending: &str| {
        let mut file = kubefile.as_os_str().to_owned();
        file.push(ending);
        PathBuf::from(file)
    };
    [".kubeignore", ".dockerignore"].map(named).into_iter().find(|file| file.is_file() && kubefile != Path::new("-"))
}

fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).context("stdin")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(|error| {
        let failure = Failure::usage(format!("Kubefile {}: {error}", path.display()));
        failure.hint("name it with `-f FILE`, relative to the working directory, or write one with `sealift init`").into()
    })
}

/// The lock file is next to its Kubefile.
fn lock_file(kubefile: &Path) -> Result<PathBuf> {
    if kubefile == Path::new("-") {
        bail!(Failure::usage("a Kubefile on stdin has no lock file").hint("name it with `-f FILE`"));
    }
    let mut file = kubefile.as_os_str().to_owned();
    file.push(".lock");
    Ok(file.into())
}

fn read_lock(kubefile: &Path) -> Result<LockFile> {
    let file = lock_file(kubefile)?;
    let text = std::fs::read_to_string(&file)
        .map_err(|error| Failure::usage(format!("lock file {}: {error}", file.display())).hint("`sealift build --lock` writes it"))?;
    LockFile::parse(&file.display().to_string(), &text)
}

/// Writes nothing if nothing changed. The directory keeps its modification time, which is part of the image if it is the context.
fn write_lock(file: &Path, taken: LockFile) -> Result<()> {
    let before = std::fs::read_to_string(file).unwrap_or_default();
    let text = match LockFile::parse(&file.display().to_string(), &before) {
        Ok(lock) => taken.replacing(lock).text()?,
        Err(_) => taken.text()?,
    };
    if text == before {
        return Ok(());
    }
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let before = fs_err::metadata(parent)?.modified()?;
    atomic_file::write(file, text.as_bytes(), 0o644)?;
    std::fs::File::open(parent)?.set_modified(before).with_context(|| parent.display().to_string())
}

fn named_text(path: &Path) -> Result<(String, String)> {
    Ok((path.display().to_string(), fs_err::read_to_string(path)?))
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

fn build_arg(text: &str) -> Result<(String, String)> {
    if let Some((key, value)) = text.split_once('=') {
        return Ok((key.to_owned(), value.to_owned()));
    }
    match std::env::var(text) {
        Ok(value) => Ok((text.to_owned(), value)),
        Err(_) => bail!(
            Failure::usage(format!("--build-arg {text}: no value, and the environment variable is not set"))
                .hint("write `--build-arg K=V`")
        ),
    }
}

/// The build argument overrides the environment, as with docker.
fn source_date_epoch(build_args: &BTreeMap<String, String>) -> Result<Option<i64>> {
    let text = build_args.get("SOURCE_DATE_EPOCH").cloned().or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok());
    let wrong = |text: &str| Failure::usage(format!("SOURCE_DATE_EPOCH `{text}`: expected seconds since 1970")).hint("for now: `date +%s`");
    Ok(text.map(|text| text.parse().map_err(|_| wrong(&text))).transpose()?)
}

fn summary_line(built: &Built) -> String {
    let what = if built.unchanged { "unchanged" } else { "built" };
    format!("{what} {} ({}, {})", built.name.familiar(), count(built.layers, "layer"), count(built.images, "container image"))
}

/// The places that name an image, each with the values that it comes from.
fn reasons(required: &RequiredBy) -> String {
    let values = |place: &SourceLocation| place.values.iter().map(|value| format!("  value {value}\n")).collect::<String>();
    required.places.iter().map(|place| format!("{place}\n{}", values(place))).collect()
}

/// The places that name an image.
fn required<'a>(checked: &'a Checked, image: &Reference) -> Result<&'a RequiredBy> {
    let missing = || {
        Failure::failed(format!("nothing requires {}", image.familiar()))
            .hint("`sealift build --check` lists the required container images")
    };
    Ok(checked.required.images.get(image).ok_or_else(missing)?)
}

fn report(checked: &Checked) -> String {
    let mut text = format!("{} required\n", count(checked.required.images.len(), "container image"));
    for (name, required) in &checked.required.images {
        let places: Vec<String> = required.places.iter().map(ToString::to_string).collect();
        text += &format!("  {}  {}\n", name.familiar(), places.join(", "));
    }
    for name in &checked.required.ignored {
        text += &format!("  {}  ignored\n", name.familiar());
    }
    if !checked.required.undecided.is_empty() {
        text += "undecided\n";
    }
    for undecided in &checked.required.undecided {
        text += &format!("  {}  `{}`: {}\n", undecided.place, undecided.text, undecided.why);
    }
    if checked.is_partial {
        text += "files that RUN writes and COPY --from copies may name more\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_and_build_arguments_are_split_once() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(pair("a").is_err() && pair("=a").is_err());
        assert_eq!(build_arg("V=").unwrap(), ("V".to_owned(), String::new()));
        assert!(build_arg("SEALIFT_NO_SUCH_VARIABLE").is_err());
    }

    #[test]
    fn a_build_is_summed_up_in_one_line() {
        let built = Built {
            name: "shop".parse().unwrap(),
            digest: crate::image::Digest::of(b""),
            unchanged: true,
            layers: 1,
            images: 2,
            missing: Vec::new(),
            lock_file: LockFile::default(),
        };
        assert_eq!(summary_line(&built), "unchanged shop:latest (1 layer, 2 container images)");
    }
}
