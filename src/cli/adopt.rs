//! `sealift adopt`

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::cluster_args::{AccessArgs, records};
use super::{CommandContext, count};
use crate::clusterfile::{self, Clusterfile, HostSpec, Ssh};
use crate::error::Failure;
use crate::host::facts::FactsRequest;
use crate::host::{AgentBinaries, Host};
use crate::paths::CLUSTERS;

/// Take over a cluster that another machine brought up
///
/// Reads the Clusterfile that the control plane hosts of a cluster store, and records it on this machine: then `apply`, `status`, `scale`
/// and `reset` work from here. `apply`, `plan` and `scale` need the images that the cluster runs in the local store: those that are
/// missing there are named. Nothing is changed on the hosts. Passwords are stored nowhere: give them again.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift adopt --host 10.0.0.2\n  sealift adopt shop --host 10.0.0.2 --user ops --pk ~/.ssh/id_ed25519"
)]
pub struct Args {
    /// The cluster, by name; needed where the host belongs to several
    #[arg(value_name = "CLUSTER")]
    cluster: Option<String>,
    /// The address of any of its control plane hosts
    #[arg(long, value_name = "ADDRESS")]
    host: IpAddr,
    #[command(flatten)]
    access: AccessArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let spec = HostSpec::at(args.host, Ssh::default());
    let mut seed = Clusterfile::default();
    seed.cluster.hosts.push(spec);
    let seed = args.access.applied(seed)?;
    let target = args.access.targets(&seed)?.remove(0);
    let host = Host::connect(&target, &AgentBinaries::current_exe()?, &cmd.ctx).await?;
    let read = read(&host, args.cluster.as_deref()).await;
    host.close().await;
    let clusterfile = args.access.applied(read?)?;
    let (name, hosts) = (clusterfile.cluster.name.clone(), clusterfile.cluster.hosts.len());
    records()?.save(&clusterfile)?;
    let unknown = records()?.load(Some(&name))?.sealed_places();
    if !unknown.is_empty() {
        cmd.ctx.note(format!(
            "not known on this machine: {}\n`apply` needs them: give them with the Clusterfile or `--env`, or bring `secrets.key`",
            unknown.join(", ")
        ));
    }
    let missing = missing_images(&clusterfile, cmd)?;
    if let Some(first) = missing.first() {
        cmd.ctx.note(format!(
            "not in the local store: {}\n`apply`, `plan` and `scale` need them: `sealift load -i ARCHIVE`, or `sealift pull {first}`",
            missing.join(", ")
        ));
    }
    let addresses: Vec<IpAddr> = clusterfile.cluster.hosts.iter().map(|host| host.address).collect();
    cmd.console.answer(
        &json!({ "cluster": name, "image": clusterfile.cluster.images, "missingImages": missing, "hosts": addresses }),
        || {
            let images = clusterfile.cluster.images.join(", ");
            format!(
                "cluster {name} ({}, image {images}) is known on this machine now; `sealift status {name}` shows it\n",
                count(hosts, "host")
            )
        },
    )
}

/// The images of a cluster that are not in the local store.
fn missing_images(clusterfile: &Clusterfile, cmd: &CommandContext) -> Result<Vec<String>> {
    let store = cmd.store()?;
    let mut missing = Vec::new();
    for text in &clusterfile.cluster.images {
        if store.resolve(&text.parse()?)?.is_none() {
            missing.push(text.clone());
        }
    }
    Ok(missing)
}

/// The Clusterfile of the cluster that a host belongs to.
async fn read(host: &Host, name: Option<&str>) -> Result<Clusterfile> {
    let facts = host.facts(&FactsRequest::default()).await?;
    let clusters = facts.installed.clusters;
    let name = match (name, clusters.as_slice()) {
        (Some(name), clusters) if clusters.iter().any(|known| known == name) => name.to_owned(),
        (Some(name), _) => {
            return Err(Failure::usage(format!("{} does not belong to the cluster {name}", host.address()))
                .hint(if clusters.is_empty() {
                    "name a host of the cluster".to_owned()
                } else {
                    format!("it belongs to {}", clusters.join(", "))
                })
                .into());
        }
        (None, [only]) => only.clone(),
        (None, []) => {
            return Err(Failure::usage(format!("{} belongs to no cluster of sealift", host.address()))
                .hint("name a control plane host of the cluster: `--host ADDRESS`")
                .into());
        }
        (None, several) => {
            return Err(Failure::usage(format!("{} belongs to several clusters: {}", host.address(), several.join(", ")))
                .hint("name one of them: `sealift adopt CLUSTER --host ADDRESS`")
                .into());
        }
    };
    let path = format!("{CLUSTERS}/{name}/Clusterfile");
    let bytes = host.read_file(&path).await?.ok_or_else(|| {
        Failure::usage(format!("{} ({}) has no Clusterfile of the cluster {name}", host.name(), host.address()))
            .hint("name a control plane host; workers, and hosts of a run that did not finish, have none")
    })?;
    clusterfile::load(&path, &String::from_utf8_lossy(&bytes)).with_context(|| format!("{} on {}", path, host.address()))
}
