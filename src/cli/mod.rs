//! The command line: one file per command. The only place that prints.

mod adopt;
mod agent;
mod apply;
mod balance;
mod build;
mod byte_size;
mod chart;
mod check;
pub mod cluster_args;
mod clusters;
mod complete;
mod completion;
mod console;
mod diff;
pub mod engine_args;
mod exec;
mod forget;
mod fsck;
mod help;
mod history;
mod image_arg;
mod images;
mod init;
mod inspect;
mod inventory;
mod key;
mod kubeconfig;
mod lease;
mod lint;
mod load;
mod login;
mod logout;
mod logs;
mod man;
mod manifest;
mod merge;
mod plan;
mod progress;
mod prune;
mod pull;
mod push;
mod recorded;
mod registry;
pub mod registry_args;
mod reset;
mod rmi;
mod run;
mod save;
mod sbom;
mod scale;
mod schema;
mod session;
mod sign;
mod status;
mod suggest;
mod table;
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

use crate::cluster::RunLog;
use crate::error::Failure;
use crate::events::Context;
use crate::store::Store;

pub use console::{Console, bytes, count};
pub use engine_args::EngineArg;
pub use image_arg::ImageArg;
pub use registry_args::RegistryArgs;
pub use table::Table;

/// Packs a Kubernetes cluster and its applications into one OCI image, moves it, and brings it up on bare hosts, offline.
#[derive(Debug, Parser)]
#[command(name = "sealift", version, propagate_version = true, arg_required_else_help = true, subcommand_required = true)]
#[command(after_help = "\
`sealift COMMAND --help` has every option, and examples.
Exit codes: 0 done, 1 failed, 2 usage or invalid file, 3 preflight failed,
4 some hosts failed, 5 plan has changes, 6 verification failed,
7 network (worth a retry), 130 interrupted.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The local store of images [env: SEALIFT_STORE] [default: store in $SEALIFT_HOME, /var/lib/sealift for root, $XDG_DATA_HOME/sealift for others]
    // the environment is read in `store_root`: clap would show an option that it sets as required in every usage line
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    store: Option<PathBuf>,
    /// Format of the result on stdout; progress and errors go to stderr
    // a String, not a `Format`: `save` has an option of the same name that takes a file
    #[arg(short, long, global = true, value_parser = ["text", "json"], default_value = "text", value_name = "FORMAT", help_heading = "Global options")]
    output: String,
    /// Print no progress
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
    /// Number of parallel jobs [default: the number of cores, and at least 4 transfers]
    #[arg(short, long, global = true, value_name = "N", help_heading = "Global options")]
    jobs: Option<NonZeroUsize>,
    /// Log to stderr (-v info, -vv debug)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    verbose: u8,
    /// When to use colours
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
    Adopt(adopt::Args),
    #[command(hide = true)]
    Agent(agent::Args),
    Apply(apply::Args),
    #[command(hide = true)]
    Balance(balance::Args),
    Build(Box<build::Args>),
    Chart(chart::Args),
    Check(check::Args),
    Clusters(clusters::Args),
    Completion(completion::Args),
    Diff(diff::Args),
    Exec(exec::Args),
    Forget(forget::Args),
    Fsck(fsck::Args),
    History(history::Args),
    Images(images::Args),
    Init(init::Args),
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
    Logs(logs::Args),
    #[command(hide = true)]
    Man(man::Args),
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
    Scale(scale::Args),
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
            Command::Adopt(args) => adopt::run(args, cmd).await,
            Command::Agent(args) => agent::run(args).await,
            Command::Apply(args) => apply::run(args, cmd).await,
            Command::Balance(args) => balance::run(args, cmd).await,
            Command::Build(args) => build::run(*args, cmd).await,
            Command::Chart(args) => chart::run(args, cmd).await,
            Command::Check(args) => check::run(args, cmd).await,
            Command::Clusters(args) => clusters::run(args, cmd),
            Command::Completion(args) => completion::run(args, cmd),
            Command::Diff(args) => diff::run(args, cmd).await,
            Command::Exec(args) => exec::run(args, cmd).await,
            Command::Forget(args) => forget::run(args, cmd),
            Command::Fsck(args) => fsck::run(args, cmd).await,
            Command::History(args) => history::run(args, cmd).await,
            Command::Images(args) => images::run(args, cmd).await,
            Command::Init(args) => init::run(args, cmd),
            Command::Inspect(args) => inspect::run(args, cmd).await,
            Command::Inventory(args) => inventory::run(args, cmd).await,
            Command::Key(args) => key::run(args, cmd).await,
            Command::Kubeconfig(args) => kubeconfig::run(args, cmd).await,
            Command::Lease(args) => lease::run(&args),
            Command::Lint(args) => lint::run(args, cmd),
            Command::Load(args) => load::run(args, cmd).await,
            Command::Login(args) => login::run(args, cmd).await,
            Command::Logout(args) => logout::run(args, cmd).await,
            Command::Logs(args) => logs::run(args, cmd).await,
            Command::Man(args) => man::run(args, cmd),
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
            Command::Scale(args) => scale::run(args, cmd).await,
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

/// What every command is given: the console, the context for long work, and the store.
pub struct CommandContext {
    /// Where it prints.
    pub console: Arc<Console>,
    /// Passed to long work.
    pub ctx: Context,
    /// The log of the run, where it is recorded.
    pub log: Option<Arc<RunLog>>,
    store: Option<PathBuf>,
}

impl CommandContext {
    /// The same, with all events written to a log too.
    pub fn logged_to(&self, log: Arc<RunLog>) -> CommandContext {
        let ctx = self.ctx.logged_to(log.clone());
        CommandContext { console: self.console.clone(), ctx, log: Some(log), store: self.store.clone() }
    }

    /// Opens the local store.
    pub fn store(&self) -> Result<Store> {
        Store::open(&self.store_root()?)
    }

    /// Where the local store is.
    pub fn store_root(&self) -> Result<PathBuf> {
        match self.store.clone().or_else(store_from_env) {
            Some(root) => Ok(root),
            None => Ok(state_root()?.join("store")),
        }
    }
}

/// The store that `$SEALIFT_STORE` names.
fn store_from_env() -> Option<PathBuf> {
    std::env::var_os("SEALIFT_STORE").filter(|root| !root.is_empty()).map(PathBuf::from)
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
        .ok_or_else(|| Failure::usage("no home directory").hint("set HOME, or name a directory for images with `--store DIR`").into())
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    rustls::crypto::ring::default_provider().install_default().ok();
    if completes() {
        return ExitCode::SUCCESS;
    }
    let args: Vec<String> = std::env::args_os().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let command = command().color(RawOptions::of(&args).color.clap());
    let parsed = command.clone().try_get_matches().and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, secrets_in_argv(&matches))));
    match parsed {
        Ok((cli, secrets)) => start(cli, &secrets),
        Err(error) => refuse(suggest::explain(error, &command, &args), &args),
    }
}

/// Answers the shell's completion script, if that is who calls.
fn completes() -> bool {
    let env = clap_complete::CompleteEnv::with_factory(command).var(complete::VARIABLE);
    env.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()).unwrap_or(false)
}

/// Prints help, or what is wrong with the command line: help on stdout with code 0, errors on stderr with code 2.
fn refuse(error: clap::Error, args: &[String]) -> ExitCode {
    let code = ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
    if error.use_stderr() && RawOptions::of(args).json {
        Console::new(Format::Json, false, false).close(Err(usage_failure(&error).into()))
    } else {
        error.print().ok();
        code
    }
}

/// What clap says about a command line, as an error with hints.
fn usage_failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut paragraphs = text.trim().split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs.next().unwrap_or_default();
    let failure = Failure::usage(message.strip_prefix("error: ").unwrap_or(&message));
    paragraphs.map(|hint| hint.strip_prefix("tip: ").map(str::to_owned).unwrap_or(hint)).fold(failure, Failure::hint)
}

/// Runs a command line that parsed.
fn start(cli: Cli, secrets: &[String]) -> ExitCode {
    let color = cli.global.color.is_on();
    let console = Arc::new(Console::new(cli.format(), cli.global.quiet, color));
    log_to(&console, cli.global.verbose, color);
    let result = runtime().and_then(|runtime| {
        let jobs = cli.global.jobs.or(std::thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
        let mut ctx = Context::new(console.clone(), console::cancel_on_interrupt(console.clone()), jobs);
        if cli.global.jobs.is_some() {
            ctx = ctx.with_fixed_jobs();
        }
        for option in secrets {
            ctx.warn(format!("`--{option}` is visible to all users of this machine in the process list; `--help` has safer options"));
        }
        let cmd = CommandContext { console: console.clone(), ctx, log: None, store: cli.global.store };
        let result = runtime.block_on(cli.command.run(&cmd));
        runtime.shutdown_background();
        result
    });
    console.close(result)
}

/// The options with secrets that were typed, where other users of the machine see them.
fn secrets_in_argv(matches: &ArgMatches) -> Vec<String> {
    let Some((_, matches)) = matches.subcommand() else { return Vec::new() };
    let typed = |id: &&str| matches.try_contains_id(id).is_ok() && matches.value_source(id) == Some(ValueSource::CommandLine);
    let secrets = ["passwd", "pk_passwd", "password"];
    let mut found: Vec<String> = secrets.iter().filter(|id| typed(id)).map(|id| id.replace('_', "-")).collect();
    found.extend(secrets_in_argv(matches));
    found
}

/// The options that say how errors are printed, also of a command line that does not parse.
struct RawOptions {
    json: bool,
    color: Color,
}

impl RawOptions {
    fn of(args: &[String]) -> RawOptions {
        let value = |long: &str, short: &str| {
            let at = args
                .iter()
                .position(|arg| arg == long || arg == short || [long, short].iter().any(|option| arg.starts_with(&format!("{option}="))))?;
            args[at].split_once('=').map_or_else(|| args.get(at + 1).map(String::as_str), |(_, value)| Some(value))
        };
        // what follows `--` belongs to another command
        let args = &args[..args.iter().position(|arg| arg == "--").unwrap_or(args.len())];
        // what these call their output is a file
        let names: Vec<String> = Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let command = args.iter().find(|arg| names.contains(arg));
        let is_file = command.is_some_and(|name| name == "save" || name == "inventory");
        let json = !is_file && (value("--output", "-o") == Some("json") || args.iter().any(|arg| arg == "-ojson"));
        let color = value("--color", "--color").and_then(|text| Color::from_str(text, false).ok());
        RawOptions { json, color: color.unwrap_or_default() }
    }
}

impl Cli {
    fn format(&self) -> Format {
        // what these call their output is a file
        let json = self.global.output == "json" && !matches!(self.command, Command::Save(_) | Command::Inventory(_));
        if json { Format::Json } else { Format::Text }
    }
}

impl Color {
    /// Whether stderr gets colours.
    fn is_on(self) -> bool {
        match self {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                use std::io::IsTerminal as _;
                std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                    && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
                    && std::io::stderr().is_terminal()
            }
        }
    }

    fn clap(self) -> clap::ColorChoice {
        match self {
            Color::Auto => clap::ColorChoice::Auto,
            Color::Always => clap::ColorChoice::Always,
            Color::Never => clap::ColorChoice::Never,
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Logs to stderr, above the bars of the console.
fn log_to(console: &Arc<Console>, verbose: u8, color: bool) {
    let level = match verbose {
        // why a certificate is refused is said by the error that follows
        0 => "error,rustls_platform_verifier=off",
        1 => "sealift=info,warn",
        _ => "sealift=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SEALIFT_LOG").unwrap_or_else(|_| level.into());
    let writer = console::LogWriter(console.clone());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || writer.clone());
    log.with_ansi(color).with_target(false).init();
}

/// The clap command, with its help in groups.
pub fn command() -> clap::Command {
    help::grouped(plain_command())
}

/// The clap command as clap itself lists it, for man pages.
fn plain_command() -> clap::Command {
    Cli::command()
}

/// Asks on the terminal before something is lost.
///
/// # Errors
/// `Usage` with `hint` if the answer is not yes, or there is no terminal to ask on.
fn confirm(what: &str, hint: &str, ctx: &Context) -> Result<()> {
    use std::io::{IsTerminal as _, Write as _};
    let refusal = || Failure::usage(what.to_owned()).hint(hint);
    if !std::io::stdin().is_terminal() {
        return Err(refusal().into());
    }
    let mut stderr = std::io::stderr();
    write!(stderr, "{what}. Continue? [y/N] ")?;
    stderr.flush()?;
    await_input(ctx)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refusal().into()) }
}

/// Waits until a line can be read from stdin, or the user interrupts.
fn await_input(ctx: &Context) -> Result<()> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let stdin = std::io::stdin();
    let interval = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    loop {
        ctx.check()?;
        match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&interval)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        std::iter::once("sealift").chain(line.split(' ')).map(str::to_owned).collect()
    }

    #[test]
    fn secrets_on_the_command_line_are_named_by_their_options() {
        for (line, expected) in [
            ("run shop:1 -m 10.0.0.1 -p secret", &["passwd"][..]),
            ("plan --pk-passwd secret --passwd secret", &["passwd", "pk-passwd"]),
            ("login -u me --password secret", &["password"]),
            ("run shop:1 -m 10.0.0.1", &[]),
            ("images", &[]),
        ] {
            let matches = command().get_matches_from(words(line));
            assert_eq!(secrets_in_argv(&matches), expected, "{line}");
        }
    }

    #[test]
    fn a_wrong_command_line_is_json_where_json_was_requested() {
        for (line, json) in [
            ("images --no-such -o json", true),
            ("--output=json biuld", true),
            ("-o=json biuld", true),
            ("images -ojson --no-such", true),
            ("save -o json", false),
            ("images --no-such", false),
            ("images -o text --no-such", false),
        ] {
            assert_eq!(RawOptions::of(&words(line)).json, json, "{line}");
        }
        let error = command().try_get_matches_from(words("tag a:1")).unwrap_err();
        let failure = usage_failure(&error);
        assert_eq!(failure.message, "the following required arguments were not provided: <NAMES>...");
        assert!(failure.hints[0].starts_with("Usage: sealift tag"), "{:?}", failure.hints);
    }

    #[test]
    fn the_examples_of_every_command_parse() {
        let root = command();
        let visible = root.get_subcommands().filter(|command| !command.is_hide_set());
        let mut commands: Vec<(String, clap::Command)> = visible.map(|command| (command.get_name().to_owned(), command.clone())).collect();
        while let Some((name, command)) = commands.pop() {
            let nested = command.get_subcommands().map(|nested| (format!("{name} {}", nested.get_name()), nested.clone()));
            let is_group = command.has_subcommands();
            commands.extend(nested);
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> = help.lines().filter_map(|line| line.strip_prefix("  ")).collect();
            assert!(is_group || help.starts_with("Examples:\n"), "{name} has no examples");
            assert!(examples.len() <= 5, "{name}");
            for example in examples {
                assert!(example.contains(&format!("sealift {name}")), "{name}: {example}");
                assert!(example.chars().count() <= 78, "{name}: {example}");
                let calls = example.split([';', '|']).filter_map(|part| part.split_once("sealift ")).map(|(_, call)| call);
                for call in calls {
                    let call = call.split([')', '>', '#']).next().unwrap_or_default().trim().replace(['\'', '"'], "");
                    let parsed = command_of(&call);
                    assert!(parsed.is_ok(), "{example}: {}", parsed.unwrap_err());
                }
            }
        }
    }

    fn command_of(call: &str) -> Result<ArgMatches, clap::Error> {
        command().try_get_matches_from(words(call))
    }
}
