//! A cluster with its hosts connected: checked, planned, brought up, held while it is changed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::preflight::{self, Finding, HostInput, Input, Need};
use super::runtime::{kubernetes, sealer};
use super::{DesiredState, Hosts, ImageContent, LeaseGuard, ObservedState, Plan, execute, facts_of, observe};
use crate::clusterfile::Clusterfile;
use crate::error::Failure;
use crate::events::Context;
use crate::host::facts::Facts;
use crate::host::{AgentBinaries, Target};
use crate::image::RuntimeKind;
use crate::paths::HOME;
use crate::store::Store;

/// A cluster with its hosts connected and looked at. Nothing is changed yet.
pub struct Session {
    /// Its hosts.
    pub fleet: Hosts,
    /// What it shall be.
    pub desired: DesiredState,
    /// What the checks of the hosts found.
    pub findings: Vec<Finding>,
}

impl Session {
    /// Connects to all hosts of a Clusterfile, gathers facts and judges them.
    pub async fn open(
        clusterfile: Clusterfile,
        image: ImageContent,
        targets: &[Target],
        agents: &AgentBinaries,
        ignore: &[String],
        ctx: &Context,
    ) -> Result<Session> {
        preflight::known(ignore)?;
        clusterfile.require_runnable()?;
        let fleet = Hosts::connect(targets, agents, ctx).await?;
        let facts = ctx.or_cancelled(facts_of(&fleet, &request(&clusterfile, &image))).await?;
        let findings = preflight::judge(&input(&clusterfile, &image, &facts)?, ignore);
        let facts: BTreeMap<IpAddr, Facts> = facts.into_iter().map(|(address, (facts, _))| (address, facts)).collect();
        let desired = DesiredState::new(clusterfile, image, &facts)?;
        refuse_unsupported(&desired)?;
        for part in &desired.image.parts {
            sealer::refuse_unfit(part).with_context(|| format!("image {}", desired.image.name.familiar()))?;
        }
        kubernetes::refuse_version(&desired)?;
        Ok(Session { fleet, desired, findings })
    }

    /// What is, and what it takes to what shall be.
    pub async fn plan(&self, ctx: &Context) -> Result<Plan> {
        let observed: ObservedState = observe(&self.desired, &self.fleet, ctx).await?;
        Ok(Plan::new(&self.desired, &observed))
    }

    /// Carries out a plan while holding the cluster, and looks again: afterwards nothing is left to change.
    ///
    /// # Errors
    /// `Verification` if something is not as it shall be although every step ended well.
    pub async fn apply(&self, plan: &Plan, store: &Store, lease: &LeaseOptions, ctx: &Context) -> Result<usize> {
        if plan.changes() == 0 {
            return Ok(0);
        }
        let master = self.fleet.host(self.desired.first_master().address())?;
        let held = LeaseGuard::take(master, &lease.owner, lease.by_force, ctx).await?;
        let work = async {
            let changed = execute(&self.desired, plan, &self.fleet, store, ctx).await?;
            self.verify(ctx).await?;
            Ok(changed)
        };
        held.during(master, ctx, work).await
    }

    /// Makes sure that nothing is left to change. Pods may start once more just now, so it looks a few times.
    async fn verify(&self, ctx: &Context) -> Result<()> {
        let mut left = self.plan(ctx).await?;
        for _ in 1..LOOKS {
            if left.changes() > 0 {
                ctx.or_cancelled(async {
                    tokio::time::sleep(PAUSE).await;
                    Ok(())
                })
                .await?;
                left = self.plan(ctx).await?;
            }
        }
        if left.changes() == 0 { Ok(()) } else { Err(not_done(&left)) }
    }
}

/// How often a cluster is looked at after it was changed, if it is not as it shall be.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_secs(5);

fn not_done(left: &Plan) -> anyhow::Error {
    let text = left.text();
    Failure::verification(format!("every step ended well, but something is not as it shall be:\n{}", text.trim_end()))
        .hint("run the same command again; if it stays, look on that host why it does not keep what it was given")
        .into()
}

/// Who changes the cluster.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// User and machine, for people.
    pub owner: String,
    /// Whether to take the cluster from another who holds it.
    pub by_force: bool,
}

fn refuse_unsupported(desired: &DesiredState) -> Result<()> {
    let wrong = desired.applications().unsupported();
    if wrong.is_empty() { Ok(()) } else { Err(Failure::usage(wrong.join("\n")).into()) }
}

fn request(clusterfile: &Clusterfile, image: &ImageContent) -> crate::host::facts::FactsRequest {
    let mut ports = Vec::new();
    for master in [true, false] {
        ports.extend(preflight::ports_needed(image.config().runtime, master, registry_port(clusterfile)));
    }
    ports.sort_unstable();
    ports.dedup();
    preflight::facts_request(&ports, &needs(image, true))
}

fn registry_port(clusterfile: &Clusterfile) -> Option<u16> {
    clusterfile.cluster.registry.local.as_ref().map(|local| local.port)
}

/// What is written on a host: blobs and the root file system unpacked; on registry hosts the container images, which every
/// host unpacks once more.
fn needs(image: &ImageContent, registry: bool) -> Vec<Need> {
    let (rootfs, workloads) = image.parts.iter().map(super::ImagePart::bytes).max().unwrap_or_default();
    let mut needs = vec![Need { path: HOME.to_owned(), bytes: rootfs * 4 + if registry { workloads } else { 0 } }];
    if image.config().runtime == RuntimeKind::Kubernetes {
        needs.push(Need { path: "/var/lib/containerd".to_owned(), bytes: workloads * 4 });
    }
    needs
}

fn input(clusterfile: &Clusterfile, image: &ImageContent, facts: &BTreeMap<IpAddr, (Facts, i64)>) -> Result<Input> {
    let middle = median(facts.values().map(|(_, offset)| *offset).collect());
    let hosts = clusterfile.cluster.hosts.iter().filter_map(|host| {
        let (facts, offset) = facts.get(&host.address)?;
        let registry = registry_port(clusterfile).filter(|_| host.is_master());
        let mut facts = facts.clone();
        let is_member = facts.installed.clusters.contains(&clusterfile.cluster.name);
        facts.foreign.retain(|foreign| !image.parts.iter().any(|part| sealer::is_brought(part, is_member, foreign)));
        Some(HostInput {
            address: host.address,
            master: host.is_master(),
            ports: preflight::ports_needed(image.config().runtime, host.is_master(), registry),
            needs: needs(image, host.is_master()),
            clock_offset: Some(offset.saturating_sub(middle)),
            facts,
        })
    });
    Ok(Input {
        cluster: clusterfile.cluster.name.clone(),
        runtime: image.config().runtime,
        platforms: image.parts.iter().map(|part| part.platform.clone()).collect(),
        networks: networks(clusterfile, image)?,
        hosts: hosts.collect(),
    })
}

fn networks(clusterfile: &Clusterfile, image: &ImageContent) -> Result<Vec<IpNet>> {
    if image.config().runtime != RuntimeKind::Kubernetes {
        return Ok(Vec::new());
    }
    let networks = kubernetes::networks(clusterfile, &image.parts[0])?;
    Ok(networks.pods.into_iter().chain(networks.services).collect())
}

fn median(mut offsets: Vec<i64>) -> i64 {
    offsets.sort_unstable();
    offsets.get(offsets.len() / 2).copied().unwrap_or_default()
}
