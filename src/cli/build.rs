//! `sealift build`

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use oci_spec::image::Platform;

use super::trust_args::PolicyArgs;
use super::{CommandContext, EngineArg, RegistryArgs};
use crate::atomic_file;
use crate::build::{self, Built, Checked, LockFile, Options, Pull, user_namespace};
use crate::error::Failure;
use crate::image::{ClusterKind, Reference, host_platform, parse_platform};
use crate::kubefile::{Instruction, Step, parse};
use crate::layer::Compression;
use crate::workloads::{RequiredBy, SourceLocation};

/// Build a cluster image from a Kubefile and a directory
///
/// The image goes into the store under its name, together with every container image that its manifests, lists and IMAGES
/// name. The same inputs give the same digest, and what did not change since the last build is not done again. Prints the
/// image's digest.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory that COPY, ADD and APP read from; `-` reads the Kubefile from stdin and has no files
    #[arg(default_value = ".")]
    context: PathBuf,
    /// What to call the image, for example registry.example.com/shop:2.1
    #[arg(short, long, value_name = "NAME", required_unless_present = "check")]
    tag: Option<Reference>,
    /// The Kubefile; `-` is stdin [default: Kubefile in the context directory]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Say what is wrong and which container images are wanted; build nothing
    #[arg(long)]
    check: bool,
    /// With --check: say only which files and lines ask for this container image
    #[arg(long, value_name = "IMAGE", requires = "check")]
    why: Option<Reference>,
    /// Give a build argument (ARG) its value; without `=` the value comes from the environment
    #[arg(long = "build-arg", value_name = "K=V")]
    build_args: Vec<String>,
    /// Build for these platforms, one image for all [default: this machine's]
    #[arg(long, value_name = "OS/ARCH", value_delimiter = ',')]
    platform: Vec<String>,
    /// Add a label
    #[arg(long = "label", value_name = "K=V", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Add an annotation to the rootfs manifest
    #[arg(long = "annotation", value_name = "K=V", value_parser = pair)]
    annotations: Vec<(String, String)>,
    /// Carry out every instruction again
    #[arg(long)]
    no_cache: bool,
    /// Take layers of this image, of the store or a registry, for instructions that are the same
    #[arg(long, value_name = "NAME")]
    cache_from: Vec<Reference>,
    /// Write down in Kubefile.lock what the names of images and files stood for
    #[arg(long, conflicts_with_all = ["locked", "check"])]
    lock: bool,
    /// Take exactly what Kubefile.lock says; what is not in it is refused
    #[arg(long)]
    locked: bool,
    /// How layers are compressed; gzip for tools that read nothing else
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    compression: CompressionArg,
    /// Whether the image brings a cluster, or applications for one that runs
    #[arg(long = "type", value_enum, default_value_t, value_name = "TYPE")]
    kind: KindArg,
    /// Whether container images are brought along
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    build_mode: Mode,
    /// What renders helm charts: sealift itself, or the helm of the image's bin/ or PATH
    #[arg(long, value_enum, default_value_t, value_name = "ENGINE")]
    engine: EngineArg,
    /// When to ask registries for images that the store has, and servers for files [default: missing, with --lock: newer]
    #[arg(long, value_enum, value_name = "WHEN")]
    pull: Option<PullArg>,
    /// Bring the container images of this list too, one a line
    #[arg(long = "image-list", value_name = "FILE")]
    image_lists: Vec<PathBuf>,
    /// Leave out the container images of this list, one name or pattern a line
    #[arg(long = "ignored-image-list", value_name = "FILE")]
    ignored_image_lists: Vec<PathBuf>,
    /// Take container images from this OCI layout directory or oci-archive before asking registries
    #[arg(long = "from-archive", value_name = "PATH")]
    archives: Vec<PathBuf>,
    /// Build without the container images that are nowhere
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
    /// All of them.
    #[default]
    All,
    /// None: the site has a registry that serves them.
    Lite,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PullArg {
    /// When the store does not have the image. Files are asked for only to see whether they changed.
    #[value(alias = "false")]
    Missing,
    /// Always; what has the same digest is not moved again.
    #[value(alias = "true")]
    Always,
    /// Always, but what is here is taken, with a warning, where nobody answers.
    #[value(alias = "ifnewer")]
    Newer,
    /// Never: only what is here.
    Never,
}

/// Builds, or checks.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    if args.has_run()
        && let Some(command) = user_namespace::command(&std::env::current_exe()?)
    {
        return go_on_as(command);
    }
    let client = args.registry.client()?;
    let store = cmd.store()?;
    let (check, why, empty) = (args.check, args.why.clone(), args.context == Path::new("-"));
    // a context without files is a directory that lives as long as the build
    let nothing = empty.then(tempfile::tempdir).transpose()?;
    let platforms = match args.platform.as_slice() {
        [] => vec![host_platform()],
        texts => texts.iter().map(|text| parse_platform(text)).collect::<Result<_>>()?,
    };
    let lock_file = args.lock_file()?;
    let options = args.resolve(&platforms[0], nothing.as_ref().map(tempfile::TempDir::path))?;
    if check {
        let checked = build::check(options, why.clone(), &client, &store, &cmd.ctx).await?;
        if let Some(image) = why {
            let asked = asked(&checked, &image)?;
            return cmd.console.answer(&asked.places, || reasons(asked));
        }
        return cmd.console.answer(&checked, || report(&checked));
    }
    let built = build::build(options, &platforms, &client, &store, &cmd.ctx).await?;
    if let Some(file) = lock_file {
        write_lock(&file, built.lock_file.clone())?;
    }
    cmd.ctx.note(story(&built));
    cmd.console.answer(&built, || format!("{}\n", built.digest))
}

/// Starts this program again, in this one's place. Where things are does not change with the user.
fn go_on_as(mut command: std::process::Command) -> Result<()> {
    use std::os::unix::process::CommandExt as _;
    command.args(std::env::args_os().skip(1)).env("SEALIFT_HOME", super::state_root()?);
    Err(command.exec()).context("unshare")
}

impl Args {
    /// Whether commands are carried out. Of a Kubefile that comes from stdin it is not known, as it is read only once.
    fn has_run(&self) -> bool {
        let file = self.kubefile();
        let is_run = |step: &Step| matches!(step.instruction, Instruction::Run(_));
        let runs = |text: String| parse("", &text).kubefile.stages.iter().any(|stage| stage.steps.iter().any(is_run));
        !self.check && (file == Path::new("-") || std::fs::read_to_string(file).is_ok_and(runs))
    }

    /// Where the lock file is to be written, if it is.
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

    fn resolve(self, platform: &Platform, nothing: Option<&Path>) -> Result<Options> {
        let file = self.kubefile();
        let text = read_text(&file)?;
        let build_args = self.build_args.iter().map(|text| build_arg(text)).collect::<Result<BTreeMap<_, _>>>()?;
        Ok(Options {
            name: self.tag.map_or_else(|| "check".parse(), Ok)?,
            kubefile: if file == Path::new("-") { "Kubefile".to_owned() } else { file.display().to_string() },
            text,
            context: nothing.unwrap_or(&self.context).to_owned(),
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

/// The ignore file beside a Kubefile that is for it alone, as docker has them: a context may have several Kubefiles.
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
        failure.hint("name it with `-f FILE`; relative paths start at the working directory").into()
    })
}

/// The lock file stands beside its Kubefile.
fn lock_file(kubefile: &Path) -> Result<PathBuf> {
    if kubefile == Path::new("-") {
        bail!(Failure::usage("the Kubefile comes from stdin, so there is no place for its lock file").hint("name it with `-f FILE`"));
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

/// Leaves the file alone if it says the same already. The directory keeps its time: it is part of images, and would be another then.
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
        _ => Err("want KEY=VALUE".to_owned()),
    }
}

fn build_arg(text: &str) -> Result<(String, String)> {
    if let Some((key, value)) = text.split_once('=') {
        return Ok((key.to_owned(), value.to_owned()));
    }
    match std::env::var(text) {
        Ok(value) => Ok((text.to_owned(), value)),
        Err(_) => bail!(Failure::usage(format!("--build-arg {text}: no value, and the environment has none")).hint("write K=V")),
    }
}

/// The build argument counts over the environment, as with docker.
fn source_date_epoch(build_args: &BTreeMap<String, String>) -> Result<Option<i64>> {
    let text = build_args.get("SOURCE_DATE_EPOCH").cloned().or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok());
    let wrong = |text: &str| Failure::usage(format!("SOURCE_DATE_EPOCH `{text}`: want seconds since 1970"));
    Ok(text.map(|text| text.parse().map_err(|_| wrong(&text))).transpose()?)
}

fn story(built: &Built) -> String {
    let what = if built.unchanged { "unchanged" } else { "built" };
    format!("{what} {} ({}, {})", built.name.familiar(), count(built.layers, "layer"), count(built.images, "container image"))
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The places, each with the values that make the image there.
fn reasons(asked: &RequiredBy) -> String {
    let values = |place: &SourceLocation| place.values.iter().map(|value| format!("  value {value}\n")).collect::<String>();
    asked.places.iter().map(|place| format!("{place}\n{}", values(place))).collect()
}

/// Who asks for an image.
fn asked<'a>(checked: &'a Checked, image: &Reference) -> Result<&'a RequiredBy> {
    let nobody =
        || Failure::failed(format!("nothing asks for {}", image.familiar())).hint("`sealift build --check` lists what is asked for");
    Ok(checked.required.images.get(image).ok_or_else(nobody)?)
}

fn report(checked: &Checked) -> String {
    let mut text = format!("{} wanted\n", count(checked.required.images.len(), "container image"));
    for (name, asked) in &checked.required.images {
        let places: Vec<String> = asked.places.iter().map(ToString::to_string).collect();
        text += &format!("  {}  {}\n", name.familiar(), places.join(", "));
    }
    for name in &checked.required.ignored {
        text += &format!("  {}  ignored\n", name.familiar());
    }
    if !checked.required.undecided.is_empty() {
        text += "not decided\n";
    }
    for doubt in &checked.required.undecided {
        text += &format!("  {}  `{}`: {}\n", doubt.place, doubt.text, doubt.why);
    }
    if checked.is_partial {
        text += "what RUN makes and COPY --from brings may name more\n";
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
    fn a_build_is_told_in_one_line() {
        let built = Built {
            name: "shop".parse().unwrap(),
            digest: crate::image::Digest::of(b""),
            unchanged: true,
            layers: 1,
            images: 2,
            missing: Vec::new(),
            lock_file: LockFile::default(),
        };
        assert_eq!(story(&built), "unchanged shop:latest (1 layer, 2 container images)");
    }
}
