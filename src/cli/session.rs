//! What `run`, `apply`, `plan` and `check` have in common: from arguments to a site with its hosts connected.

use anyhow::Result;
use oci_spec::image::Descriptor;

use super::cluster_args::{ClusterArgs, records};
use super::trust_args::PolicyArgs;
use super::{CommandContext, RegistryArgs};
use crate::cluster::{ImageContent, LeaseOptions, Plan, Session};
use crate::clusterfile::Clusterfile;
use crate::error::Failure;
use crate::host::AgentBinaries;
use crate::image::Reference;
use crate::store::Store;
use crate::trust::bring_referrers;

/// The options of commands that bring a cluster up or say what that would change.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SiteArgs {
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Checks of the hosts that may fail (`sealift check` names them)
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    pub ignore: Vec<String>,
    #[command(flatten)]
    registry: RegistryArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

impl SiteArgs {
    /// The Clusterfile that is meant: by file, by flags, or of the only cluster that this machine knows.
    pub fn clusterfile(&self, image: Option<&str>, cmd: &CommandContext) -> Result<Clusterfile> {
        if self.cluster.names_hosts() || image.is_some() {
            return self.cluster.clusterfile(image, cmd);
        }
        self.cluster.known()
    }

    /// The image from the store, pulled first if it is not there.
    pub async fn image(&self, clusterfile: &Clusterfile, store: &Store, cmd: &CommandContext) -> Result<ImageContent> {
        let text = match clusterfile.cluster.images.as_slice() {
            [image] => image,
            [] => return Err(Failure::usage("no image").hint("name one: `sealift run IMAGE`, or `image:` in the Clusterfile").into()),
            _ => return Err(Failure::usage("running several images is not carried out yet").hint("build one image FROM the other").into()),
        };
        let name: Reference = text.parse()?;
        let image = match store.resolve(&name)? {
            Some(image) => image,
            None => self.pull(&name, store, cmd).await.map_err(|error| not_pulled(error, &name))?,
        };
        self.policy.check(store, &name, &image, cmd).await?;
        if store.resolve(&name)?.is_none() {
            store.tag(&name, &image)?;
        }
        let (store, ctx) = (store.clone(), cmd.ctx.clone());
        tokio::task::spawn_blocking(move || ImageContent::open(&store, &name, &ctx)).await?
    }

    async fn pull(&self, name: &Reference, store: &Store, cmd: &CommandContext) -> Result<Descriptor> {
        let client = self.registry.client()?;
        let (image, _) = client.pull(name, &[], store, &cmd.ctx).await?;
        bring_referrers(&client, &image, name, store, &cmd.ctx).await?;
        Ok(image)
    }

    /// Connects to the hosts and looks at them.
    pub async fn open(&self, clusterfile: Clusterfile, image: ImageContent, cmd: &CommandContext) -> Result<Session> {
        let targets = self.cluster.access.targets(&clusterfile)?;
        Session::open(clusterfile, image, &targets, &AgentBinaries::own()?, &self.ignore, &cmd.ctx).await
    }
}

/// Says that an image is neither in the store nor to be had; why, of which kind and what helps is as the registry client says.
fn not_pulled(error: anyhow::Error, name: &Reference) -> anyhow::Error {
    let message = format!("image {} is not in the store and cannot be pulled", name.familiar());
    let failure = Failure::over(&error, message);
    error.context(failure)
}

/// Brings a site to what it shall be: refuses unfit hosts, plans, carries out. What was planned, and how many things changed.
pub async fn bring_up(site: &Session, store: &Store, break_lease: bool, cmd: &CommandContext) -> Result<(Plan, usize)> {
    for finding in site.findings.iter().filter(|finding| finding.ignored || finding.severity == crate::cluster::preflight::Severity::Warn) {
        cmd.ctx.warn(finding.to_string());
    }
    crate::cluster::preflight::refuse(&site.findings)?;
    let plan = site.plan(&cmd.ctx).await?;
    records()?.keep(&site.desired.clusterfile)?;
    let lease = LeaseOptions { owner: owner(), by_force: break_lease };
    let changed = site.apply(&plan, store, &lease, &cmd.ctx).await?;
    Ok((plan, changed))
}

/// Who this is, for others who want to change the cluster meanwhile.
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
    fn an_image_that_cannot_be_pulled_tells_kind_and_hints_of_the_cause() {
        let name: Reference = "shop:1".parse().unwrap();
        let error = not_pulled(Failure::network("no answer").hint("is it up?").into(), &name);
        assert_eq!((kind_of(&error), hints_of(&error)), (Kind::Network, &["is it up?".to_owned()][..]));
        assert!(format!("{error:#}").contains("shop:1") && format!("{error:#}").contains("no answer"));
    }
}
