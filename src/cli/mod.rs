//! The command line: one file per command. The only place that prints.

mod agent;
mod apply;
mod balance;
mod build;
mod byte_size;
mod chart;
mod check;
pub mod cluster_args;
mod completion;
mod console;
mod diff;
pub mod engine_args;
mod exec;
mod fsck;
mod history;
mod images;
mod inspect;
mod inventory;
mod key;
mod kubeconfig;
mod lease;
mod lint;
mod load;
mod login;
mod logout;
mod manifest;
mod merge;
mod plan;
mod prune;
mod pull;
mod push;
mod registry;
pub mod registry_args;
mod reset;
mod rmi;
mod run;
mod save;
mod sbom;
mod schema;
mod session;
mod sign;
mod status;
mod tag;
pub mod trust_args;
mod unpack;
mod verify;
mod version;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use crate::error::Failure;
use crate::events::Context;
use crate::store::Store;

pub use console::{Console, bytes, table};
pub use engine_args::EngineArg;
pub use registry_args::RegistryArgs;

/// Packs a Kubernetes cluster and its applications into one OCI image, moves it, and brings it up on bare hosts, offline.
#[derive(Debug, Parser)]
#[command(name = "sealift", version, propagate_version = true, arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 usage or invalid file, 3 preflight failed, 4 some hosts failed, \
    5 plan has changes, 6 verification failed, 7 network (worth a retry), 130 interrupted.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where images are kept [default: /var/lib/sealift/store for root, else $XDG_DATA_HOME/sealift/store]
    #[arg(long, global = true, env = "SEALIFT_STORE", value_name = "DIR", help_heading = "Global options")]
    store: Option<PathBuf>,
    /// How results are printed; progress and errors go to stderr
    // a String, not a `Format`: `save` has an option of the same name that takes a file
    #[arg(short, long, global = true, value_parser = ["text", "json"], default_value = "text", value_name = "FORMAT", help_heading = "Global options")]
    output: String,
    /// No progress
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
    /// How many things to do at once [default: the number of cores, and at least 4 transfers]
    #[arg(short, long, global = true, value_name = "N", help_heading = "Global options")]
    jobs: Option<NonZeroUsize>,
    /// Say more on stderr (-v info, -vv debug)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
    /// When to use colour
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Global options")]
    color: Color,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON document.
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Color {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands. Each is a file of this module with its `Args` and its `run`.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    Agent(agent::Args),
    Apply(apply::Args),
    #[command(hide = true)]
    Balance(balance::Args),
    Build(Box<build::Args>),
    Chart(chart::Args),
    Check(check::Args),
    Completion(completion::Args),
    Diff(diff::Args),
    Exec(exec::Args),
    Fsck(fsck::Args),
    History(history::Args),
    Images(images::Args),
    Inspect(inspect::Args),
    Inventory(inventory::Args),
    Key(key::Args),
    Kubeconfig(kubeconfig::Args),
    #[command(hide = true)]
    Lease(lease::Args),
    Lint(lint::Args),
    Load(load::Args),
    Login(login::Args),
    Logout(logout::Args),
    Manifest(manifest::Args),
    Merge(merge::Args),
    Plan(plan::Args),
    Prune(prune::Args),
    Pull(pull::Args),
    Push(push::Args),
    Registry(registry::Args),
    Reset(reset::Args),
    Rmi(rmi::Args),
    Run(run::Args),
    Save(save::Args),
    Sbom(sbom::Args),
    Schema(schema::Args),
    Sign(sign::Args),
    Status(status::Args),
    Tag(tag::Args),
    Unpack(unpack::Args),
    Verify(verify::Args),
    Version(version::Args),
}

impl Command {
    async fn run(self, cmd: &CommandContext) -> Result<()> {
        match self {
            Command::Agent(args) => agent::run(args).await,
            Command::Apply(args) => apply::run(args, cmd).await,
            Command::Balance(args) => balance::run(args, cmd).await,
            Command::Build(args) => build::run(*args, cmd).await,
            Command::Chart(args) => chart::run(args, cmd).await,
            Command::Check(args) => check::run(args, cmd).await,
            Command::Completion(args) => completion::run(args, cmd),
            Command::Diff(args) => diff::run(args, cmd).await,
            Command::Exec(args) => exec::run(args, cmd).await,
            Command::Fsck(args) => fsck::run(args, cmd).await,
            Command::History(args) => history::run(args, cmd).await,
            Command::Images(args) => images::run(args, cmd).await,
            Command::Inspect(args) => inspect::run(args, cmd).await,
            Command::Inventory(args) => inventory::run(args, cmd).await,
            Command::Key(args) => key::run(args, cmd).await,
            Command::Kubeconfig(args) => kubeconfig::run(args, cmd).await,
            Command::Lease(args) => lease::run(&args),
            Command::Lint(args) => lint::run(args, cmd),
            Command::Load(args) => load::run(args, cmd).await,
            Command::Login(args) => login::run(args, cmd).await,
            Command::Logout(args) => logout::run(args, cmd).await,
            Command::Manifest(args) => manifest::run(args, cmd).await,
            Command::Merge(args) => merge::run(args, cmd).await,
            Command::Plan(args) => plan::run(args, cmd).await,
            Command::Prune(args) => prune::run(args, cmd).await,
            Command::Pull(args) => pull::run(args, cmd).await,
            Command::Push(args) => push::run(args, cmd).await,
            Command::Registry(args) => registry::run(args, cmd).await,
            Command::Reset(args) => reset::run(args, cmd).await,
            Command::Rmi(args) => rmi::run(args, cmd).await,
            Command::Run(args) => run::run(args, cmd).await,
            Command::Save(args) => save::run(args, cmd).await,
            Command::Sbom(args) => sbom::run(args, cmd).await,
            Command::Schema(args) => schema::run(args, cmd),
            Command::Sign(args) => sign::run(args, cmd).await,
            Command::Status(args) => status::run(args, cmd).await,
            Command::Tag(args) => tag::run(args, cmd).await,
            Command::Unpack(args) => unpack::run(args, cmd).await,
            Command::Verify(args) => verify::run(args, cmd).await,
            Command::Version(args) => version::run(args, cmd),
        }
    }
}

/// What a command works with.
pub struct CommandContext {
    /// Where it prints.
    pub console: Arc<Console>,
    /// What it hands to long work.
    pub ctx: Context,
    store: Option<PathBuf>,
}

impl CommandContext {
    /// Opens the local store.
    pub fn store(&self) -> Result<Store> {
        Store::open(&self.store_root()?)
    }

    /// Where the local store is.
    pub fn store_root(&self) -> Result<PathBuf> {
        match &self.store {
            Some(root) => Ok(root.clone()),
            None => Ok(state_root()?.join("store")),
        }
    }
}

/// Where sealift keeps what it needs on this machine: `$SEALIFT_HOME`, else `/var/lib/sealift` for root and
/// `$XDG_DATA_HOME/sealift` for others.
pub fn state_root() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("SEALIFT_HOME").filter(|home| !home.is_empty()) {
        return Ok(PathBuf::from(home));
    }
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from(crate::paths::HOME));
    }
    std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/share")))
        .map(|data| data.join("sealift"))
        .ok_or_else(|| Failure::usage("no home directory").hint("say where images are kept with `--store DIR`").into())
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    let parsed = Cli::command().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, shown_secrets(&matches))));
    let (cli, shown) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // clap prints help and versions to stdout with code 0, usage errors to stderr with code 2
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let console = Arc::new(Console::new(cli.format(), cli.global.quiet, cli.global.color_choice()));
    log_to_stderr(cli.global.verbose);
    let result = runtime().and_then(|runtime| {
        let jobs = cli.global.jobs.or(std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let mut ctx = Context::new(console.clone(), console::cancel_on_interrupt(), jobs);
        if cli.global.jobs.is_some() {
            ctx = ctx.as_asked();
        }
        for option in shown {
            ctx.warn(format!("`--{option}` is seen by all users of this machine in the process list; better: `--help` names other ways"));
        }
        let cmd = CommandContext { console: console.clone(), ctx, store: cli.global.store };
        let result = runtime.block_on(cli.command.run(&cmd));
        runtime.shutdown_background();
        result
    });
    console.close(result)
}

/// The options with secrets that were typed, where other users of the machine see them, as they are written.
fn shown_secrets(matches: &ArgMatches) -> Vec<String> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let typed = |id: &&str| matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::CommandLine);
    let mut shown: Vec<String> = ["passwd", "pk_passwd", "password"].iter().filter(|id| typed(id)).map(|id| id.replace('_', "-")).collect();
    shown.extend(shown_secrets(matches));
    shown
}

impl Cli {
    fn format(&self) -> Format {
        // what these call their output is a file
        let json = self.global.output == "json" && !matches!(self.command, Command::Save(_) | Command::Inventory(_));
        if json { Format::Json } else { Format::Text }
    }
}

impl Global {
    fn color_choice(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                use std::io::IsTerminal as _;
                std::env::var_os("NO_COLOR").is_none()
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
                    && std::io::stderr().is_terminal()
            }
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        // what it has against a certificate is told by the error that follows
        0 => "error,rustls_platform_verifier=off",
        1 => "sealift=info,warn",
        _ => "sealift=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SEALIFT_LOG").unwrap_or_else(|_| level.into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}

/// The clap command, for completion, man pages and documentation.
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_that_were_typed_are_told_by_their_options() {
        for (line, expected) in [
            ("run shop:1 -m 10.0.0.1 -p secret", &["passwd"][..]),
            ("plan --pk-passwd secret --passwd secret", &["passwd", "pk-passwd"]),
            ("login -u me --password secret", &["password"]),
            ("run shop:1 -m 10.0.0.1", &[]),
            ("images", &[]),
        ] {
            let matches = Cli::command().get_matches_from(std::iter::once("sealift").chain(line.split(' ')));
            assert_eq!(shown_secrets(&matches), expected, "{line}");
        }
    }
}
