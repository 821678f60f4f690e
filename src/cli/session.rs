//! What `run`, `apply`, `plan` and `check` have in common: from arguments to a session with all hosts.

use std::cell::Cell;

use anyhow::Result;

use super::cluster_args::{ClusterArgs, records};
use super::recorded::{keep_revision, versions};
use super::trust_args::PolicyArgs;
use super::{CommandContext, ImageArg, RegistryArgs};
use crate::cluster::{ImageContent, LeaseOptions, Plan, Session};
use crate::clusterfile::Clusterfile;
use crate::error::Failure;
use crate::host::AgentBinaries;
use crate::image::Reference;
use crate::store::Store;
use crate::trust::{PullOptions, pull_verified};

/// The options of commands that bring a cluster up or show what that would change.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SessionArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Preflight checks that may fail; `sealift check` names them
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    pub ignore: Vec<String>,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

impl SessionArgs {
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

    /// The image from the store, pulled first if it is not there.
    pub async fn image(&self, clusterfile: &Clusterfile, store: &Store, cmd: &CommandContext) -> Result<ImageContent> {
        let text = match clusterfile.cluster.images.as_slice() {
            [image] => image,
            [] => return Err(Failure::usage("no image").hint("name one: `sealift run IMAGE`, or `image:` in the Clusterfile").into()),
            _ => return Err(Failure::usage("running several images is not supported yet").hint("build one image FROM the other").into()),
        };
        let name: Reference = text.parse()?;
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
    pub async fn open(&self, clusterfile: Clusterfile, image: ImageContent, cmd: &CommandContext) -> Result<Session> {
        let targets = self.cluster.access.targets(&clusterfile)?;
        Session::open(clusterfile, image, &targets, &AgentBinaries::current_exe()?, &self.ignore, &cmd.ctx).await
    }
}

/// Puts on top of a pull's error that the image is not in the store either; kind and hints stay.
fn not_pulled(error: anyhow::Error, name: &Reference) -> anyhow::Error {
    let message = format!("image {} is not in the store and cannot be pulled", name.familiar());
    let failure = Failure::over(&error, message);
    error.context(failure)
}

/// Brings a cluster up: refuses hosts that fail the preflight checks, plans, applies. Returns the plan and the number of changes.
pub async fn bring_up(session: &Session, store: &Store, break_lease: bool, cmd: &CommandContext) -> Result<(Plan, usize)> {
    for finding in
        session.findings.iter().filter(|finding| finding.ignored || finding.severity == crate::cluster::preflight::Severity::Warn)
    {
        cmd.ctx.warn(finding.to_string());
    }
    crate::cluster::preflight::require_passed(&session.findings)?;
    let plan = session.plan(&cmd.ctx).await?;
    if let Some(log) = &cmd.log {
        log.versions(versions(&session.desired)?);
        log.plan(&plan);
    }
    let lease = LeaseOptions { owner: owner(), force: break_lease };
    let begun = Cell::new(false);
    let begin = || {
        begun.set(true);
        records()?.save(&session.desired.clusterfile)
    };
    let changed = session.apply(&plan, store, &lease, begin, &cmd.ctx).await;
    if begun.get() && plan.changes() > 0 {
        keep_revision(session, &plan, &changed, cmd).await;
    }
    Ok((plan, changed?))
}

/// Who holds the lease, for others who want to change the cluster meanwhile: `user@machine (process 1234)`.
pub fn owner() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
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
