//! What `run`, `apply`, `plan` and `check` have in common: from arguments to a session with all hosts.

use std::cell::Cell;
use std::collections::BTreeSet;

use anyhow::Result;

use super::cluster_args::{AccessArgs, ClusterArgs, records};
use super::recorded::{keep_revision, versions};
use super::trust_args::PolicyArgs;
use super::{CommandContext, ImageArg, RegistryArgs, count};
use crate::cluster::preflight::{Severity, require_passed};
use crate::cluster::{ImageContent, Inputs, LeaseOptions, Plan, Session, SessionOptions, Unreachable};
use crate::clusterfile::{Clusterfile, HostSpec};
use crate::error::{Failure, Kind};
use crate::host::AgentBinaries;
use crate::image::{ClusterKind, Reference};
use crate::store::Store;
use crate::trust::{PullOptions, pull_verified};

/// How long the pods of a node that leaves may take, in seconds.
const DRAIN_TIMEOUT: u64 = 300;

/// The options of commands that bring a cluster up or show what that would change.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SessionArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Preflight checks that may fail; `sealift check` names them
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// Fail if any host is not reachable; else the others are changed, and the exit code is 4
    #[arg(long)]
    require_all: bool,
    /// Remove hosts that left the Clusterfile from the cluster even if they are not reachable
    #[arg(long)]
    forget: bool,
    /// How long the pods of a node that leaves the cluster may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_TIMEOUT)]
    drain_timeout: u64,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// A host that leaves the cluster, whether a Clusterfile names it or not.
    #[arg(skip)]
    leaving: Option<HostSpec>,
}

impl SessionArgs {
    /// The defaults, for a Clusterfile that is known.
    pub fn new(access: AccessArgs, forget: bool) -> Self {
        SessionArgs { cluster: ClusterArgs::new(access), forget, drain_timeout: DRAIN_TIMEOUT, ..SessionArgs::default() }
    }

    /// The same, with a host that leaves the cluster.
    pub fn without_host(self, leaving: HostSpec) -> Self {
        SessionArgs { leaving: Some(leaving), ..self }
    }

    /// The same, for the cluster with this name.
    pub fn with_cluster(mut self, name: Option<String>) -> Self {
        self.cluster.name = name.or(self.cluster.name);
        self
    }

    /// The Clusterfile: from the file, from the flags, or of a cluster that this machine knows.
    pub fn clusterfile(&self, image: Option<&ImageArg>, cmd: &CommandContext) -> Result<Clusterfile> {
        let image = image.map(|image| image.in_store(&cmd.store()?)).transpose()?.map(|name| name.familiar());
        match self.cluster.names_hosts() {
            true => self.cluster.from_file_and_flags(image.as_deref(), cmd),
            false => self.cluster.known(image.as_deref()),
        }
    }

    /// As [`Self::clusterfile`]. An application image named for a cluster that this machine knows is added to the images of that cluster,
    /// or replaces its earlier version.
    pub async fn clusterfile_with(&self, image: Option<&ImageArg>, store: &Store, cmd: &CommandContext) -> Result<Clusterfile> {
        let Some(arg) = image.filter(|_| !self.cluster.names_hosts()) else { return self.clusterfile(image, cmd) };
        let Some(known) = self.cluster.known_record()? else { return self.clusterfile(image, cmd) };
        let name = arg.in_store(store)?;
        let same = |text: &String| {
            text.parse::<Reference>().is_ok_and(|other| (other.registry(), other.repository()) == (name.registry(), name.repository()))
        };
        let replaces_first = known.cluster.images.first().is_none_or(same);
        if replaces_first || self.image(name.clone(), store, cmd).await?.config().kind != ClusterKind::AppInstaller {
            return self.clusterfile(image, cmd);
        }
        let mut clusterfile = self.cluster.known(None)?;
        let images = &mut clusterfile.cluster.images;
        match images.iter_mut().find(|text| same(text)) {
            Some(earlier) => *earlier = name.familiar(),
            None => images.push(name.familiar()),
        }
        Ok(clusterfile)
    }

    /// The images from the store, pulled first if they are not there: the first brings the cluster, the others more applications.
    pub async fn images(&self, clusterfile: &Clusterfile, store: &Store, cmd: &CommandContext) -> Result<Vec<ImageContent>> {
        if clusterfile.cluster.images.is_empty() {
            return Err(Failure::usage("no image").hint("name one: `sealift run IMAGE`, or `image:` in the Clusterfile").into());
        }
        let mut images = Vec::new();
        for text in &clusterfile.cluster.images {
            images.push(self.image(text.parse()?, store, cmd).await?);
        }
        Ok(images)
    }

    /// One image from the store, pulled first if it is not there.
    pub async fn image(&self, name: Reference, store: &Store, cmd: &CommandContext) -> Result<ImageContent> {
        match store.resolve(&name)? {
            Some(image) => self.policy.check(store, &name, &image, cmd).await?,
            None => self.pull(&name, store, cmd).await.map_err(|error| not_pulled(error, &name))?,
        }
        let (store, ctx) = (store.clone(), cmd.ctx.clone());
        tokio::task::spawn_blocking(move || ImageContent::open(&store, &name, &ctx)).await?
    }

    async fn pull(&self, name: &Reference, store: &Store, cmd: &CommandContext) -> Result<()> {
        let (client, policy) = (self.registry.client()?, self.policy.policy()?);
        pull_verified(&client, name, &PullOptions::all(&policy), store, &cmd.ctx).await?;
        Ok(())
    }

    /// Connects to all hosts and runs the preflight checks.
    pub async fn open(&self, mut clusterfile: Clusterfile, images: Vec<ImageContent>, cmd: &CommandContext) -> Result<Session> {
        records()?.unseal(&mut clusterfile)?;
        let before = records()?.find(&clusterfile.cluster.name)?;
        let mut known = before.clone();
        if let Some(leaving) = &self.leaving {
            known.get_or_insert_with(|| clusterfile.clone()).cluster.hosts.push(leaving.clone());
        }
        if let Some(known) = &mut known {
            known.cluster.hosts.extend(records()?.departing(&clusterfile.cluster.name)?);
        }
        let ssh = clusterfile.cluster.hosts.first().map_or_else(|| clusterfile.cluster.ssh.clone(), |host| host.ssh.clone());
        let target = |host: &HostSpec| self.cluster.access.target_of(host, &ssh);
        let options = SessionOptions {
            ignore: self.ignore.clone(),
            require_all: self.require_all,
            forget: self.forget,
            drain_timeout: self.drain_timeout,
            ..SessionOptions::default()
        };
        let inputs = Inputs { clusterfile, images, known, options };
        let session = Session::open(inputs, &target, &AgentBinaries::current_exe()?, &cmd.ctx).await?;
        if let Some(before) = before.filter(|_| !self.cluster.names_hosts()) {
            warn_of_another_record(&session, &before, cmd)?;
        }
        for image in session.desired.dropped_images() {
            cmd.ctx.warn(format!(
                "the cluster runs {image}, which the Clusterfile does not name: it leaves the record, and what it brought stays in the cluster"
            ));
        }
        Ok(session)
    }

    /// Says that a Clusterfile that the user keeps is not the cluster's any more.
    pub fn note_of_own_clusterfile(&self, clusterfile: &Clusterfile, cmd: &CommandContext) {
        let name = &clusterfile.cluster.name;
        cmd.ctx.note(format!(
            "a Clusterfile that you keep does not say so yet: `sealift run --name {name} --dry-run` prints the one that holds now"
        ));
    }
}

/// Puts on top of a pull's error that the image is not in the store either; kind and hints stay.
fn not_pulled(error: anyhow::Error, name: &Reference) -> anyhow::Error {
    let message = format!("image {} is not in the store and cannot be pulled", name.familiar());
    let failure = Failure::over(&error, message);
    error.context(failure)
}

/// Warns if the control plane has another Clusterfile than this machine, although the last run from here was done: another operator has
/// changed the cluster since.
fn warn_of_another_record(session: &Session, known: &Clusterfile, cmd: &CommandContext) -> Result<()> {
    let name = session.desired.name();
    let runs = records()?.logs(name).runs();
    let last_done = runs.iter().find(|run| !run.is_running).is_some_and(|run| run.result() == "done");
    let Some(membership) = session.desired.membership.as_ref().filter(|_| last_done || runs.is_empty()) else { return Ok(()) };
    let Some(recorded) = &membership.recorded else { return Ok(()) };
    let hosts = |file: &Clusterfile| file.cluster.hosts.iter().map(|host| (host.address, host.is_master())).collect::<BTreeSet<_>>();
    if hosts(recorded) == hosts(known) && recorded.cluster.images == known.cluster.images {
        return Ok(());
    }
    let contact = session.desired.contact();
    cmd.ctx.warn(format!(
        "the control plane of {name} has another Clusterfile than this machine: if somebody else changed the cluster, take theirs over \
        first with `sealift adopt --host {contact}`"
    ));
    Ok(())
}

/// What a run would change. Says too what would keep it from being run.
pub async fn plan(args: &SessionArgs, clusterfile: Clusterfile, cmd: &CommandContext) -> Result<Plan> {
    clusterfile.require_runnable()?;
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let images = args.images(&clusterfile, &store, cmd).await?;
    let session = args.open(clusterfile, images, cmd).await?;
    let plan = session.plan(&cmd.ctx).await;
    session.hosts.close().await;
    for finding in &session.findings {
        let refused = finding.severity == Severity::Fail && !finding.ignored;
        cmd.ctx.warn(if refused { format!("a run would be refused: {finding}") } else { finding.to_string() });
    }
    plan
}

/// Brings a cluster up: refuses hosts that fail the preflight checks, plans, asks before hosts leave the cluster, applies. Returns the
/// plan and the identifiers of the steps that were carried out.
pub async fn bring_up(session: &Session, store: &Store, run: &RunArgs, cmd: &CommandContext) -> Result<(Plan, Vec<String>)> {
    for finding in session.findings.iter().filter(|finding| finding.ignored || finding.severity == Severity::Warn) {
        cmd.ctx.warn(finding.to_string());
    }
    require_passed(&session.findings)?;
    let plan = session.plan(&cmd.ctx).await?;
    warn_of_too_few(session, cmd);
    confirm_removals(session, run.yes, cmd)?;
    if let Some(log) = &cmd.log {
        let names = session.desired.hosts.iter().map(|host| (host.address().to_string(), host.name.clone()));
        log.versions(versions(&session.desired)?, names.collect());
        log.plan(&plan);
    }
    let lease = LeaseOptions { owner: owner(), force: run.break_lease };
    let begun = Cell::new(false);
    let begin = || {
        begun.set(true);
        let departing = session.desired.departing.iter().filter(|host| host.reachable).map(|host| host.spec.clone());
        records()?.save_with_departing(&session.desired.clusterfile, departing.collect())
    };
    let done = session.apply(&plan, store, &lease, begin, &cmd.ctx).await;
    if begun.get() && plan.changes() > 0 {
        keep_revision(session, &plan, &done, cmd).await;
    }
    let done = done?;
    records()?.all_left(session.desired.name())?;
    Ok((plan, done))
}

/// What `run`, `apply` and `scale` have in common besides a session.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RunArgs {
    /// Do not ask before hosts leave the cluster; nothing else is asked
    #[arg(short, long)]
    pub yes: bool,
    /// Take over the lease of another run on this cluster
    #[arg(long)]
    pub break_lease: bool,
}

/// Warns of a cluster that does not survive what its operator may think it does.
fn warn_of_too_few(session: &Session, cmd: &CommandContext) {
    let desired = &session.desired;
    let masters = desired.masters().count();
    if desired.is_kubernetes() && masters.is_multiple_of(2) {
        let fail = (masters - 1) / 2;
        let may = if fail == 0 { "none may fail".to_owned() } else { format!("no more than {fail} may fail, as of {}", masters - 1) };
        cmd.ctx.warn(format!("etcd on {masters} masters: {may}; an odd number is better"));
    }
    if desired.is_kubernetes() && desired.workers().next().is_none() && !desired.removals().is_empty() {
        cmd.ctx.warn("no worker is left: pods that do not tolerate the taint of masters have no node to run on");
    }
}

/// Asks before hosts leave the cluster.
fn confirm_removals(session: &Session, yes: bool, cmd: &CommandContext) -> Result<()> {
    let desired = &session.desired;
    let (removals, role_changes) = (desired.removals(), desired.role_changes());
    if removals.is_empty() && role_changes.is_empty() || yes {
        return Ok(());
    }
    let mut parts = Vec::new();
    if !removals.is_empty() {
        let list = removals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        parts.push(format!("{list} {} cluster {}", if removals.len() == 1 { "leaves" } else { "leave" }, desired.name()));
    }
    for host in role_changes {
        let role = if host.spec.is_master() { "master" } else { "worker" };
        parts.push(format!("{} leaves and joins again as a {role}", host.address()));
    }
    let question = format!("{}: pods are evicted, changes undone", parts.join("; "));
    let hint = match cmd.log.as_ref().map(|log| log.command()) {
        Some("scale") => "confirm with `--yes`; `--dry-run` shows every step",
        Some("reset") => "confirm with `--yes`",
        _ => "confirm with `--yes`; `sealift plan` shows every step",
    };
    super::confirm(&question, hint, &cmd.ctx)
}

/// Says which hosts were not reachable, after everything else is done.
///
/// # Errors
/// Of kind `SomeHosts` if there are any.
pub fn require_reachable(unreachable: &[Unreachable]) -> Result<()> {
    if unreachable.is_empty() {
        return Ok(());
    }
    let lines = unreachable.iter().map(|host| format!("{}: {}", host.host, host.why)).collect::<Vec<_>>();
    Err(Failure::new(Kind::SomeHosts, format!("{} not changed:\n  {}", count(unreachable.len(), "host"), lines.join("\n  ")))
        .hint("run the same command again when they are reachable")
        .into())
}

/// Who holds the lease, for others who want to change the cluster meanwhile: `user@machine (process 1234)`.
pub fn owner() -> String {
    let uid = rustix::process::getuid();
    let variable = |name| std::env::var(name).ok().filter(|user| !user.is_empty());
    let user = if uid.is_root() { Some("root".to_owned()) } else { variable("USER").or_else(|| variable("LOGNAME")) };
    let user = user.unwrap_or_else(|| uid.as_raw().to_string());
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{machine} (process {})", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, hints_of, kind_of};

    #[test]
    fn an_image_that_cannot_be_pulled_has_kind_and_hints_of_the_cause() {
        let name: Reference = "shop:1".parse().unwrap();
        let error = not_pulled(Failure::network("no answer").hint("is it up?").into(), &name);
        assert_eq!((kind_of(&error), hints_of(&error)), (Kind::Network, &["is it up?".to_owned()][..]));
        assert!(format!("{error:#}").contains("shop:1") && format!("{error:#}").contains("no answer"));
    }
}
