//! A session with a cluster: hosts connected and checked, changes planned, and applied under the lease.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::disk_requirements::{self, PresentContent};
use super::preflight::{self, Finding, HostInput, Input};
use super::runtime::{kubernetes, sealer};
use super::{DesiredState, Hosts, ImageContent, LeaseGuard, ObservedState, Plan, execute, gather_facts, observe};
use crate::clusterfile::{Clusterfile, Networks};
use crate::error::Failure;
use crate::events::Context;
use crate::host::facts::Facts;
use crate::host::{AgentBinaries, Target};
use crate::image::RuntimeKind;
use crate::store::Store;

/// A session with a cluster: its hosts are connected and checked, nothing is changed yet.
pub struct Session {
    /// The connected hosts.
    pub hosts: Hosts,
    /// The desired state.
    pub desired: DesiredState,
    /// The findings of the preflight checks.
    pub findings: Vec<Finding>,
}

impl Session {
    /// Connects to all hosts of a Clusterfile, gathers facts and runs the preflight checks. `ignore` lists checks that may fail.
    ///
    /// # Errors
    /// `Usage` if the Clusterfile and the image do not make a cluster; fails if a host is unreachable. Findings are no errors: see
    /// [`preflight::require_passed`].
    pub async fn open(
        clusterfile: Clusterfile,
        image: ImageContent,
        targets: &[Target],
        agents: &AgentBinaries,
        ignore: &[String],
        ctx: &Context,
    ) -> Result<Session> {
        preflight::check_ids(ignore)?;
        clusterfile.require_runnable()?;
        let hosts = Hosts::connect(targets, agents, ctx).await?;
        let facts = ctx.or_cancelled(gather_facts(&hosts, &facts_request(&clusterfile, &image))).await?;
        let present = ctx.or_cancelled(disk_requirements::present_content(&hosts, &image, &facts, ctx)).await?;
        let findings = preflight::run_checks(&input(&clusterfile, &image, &facts, &present)?, ignore);
        let facts: BTreeMap<IpAddr, Facts> = facts.into_iter().map(|(address, (facts, _))| (address, facts)).collect();
        let desired = DesiredState::new(clusterfile, image, &facts)?;
        check_applications(&desired)?;
        for part in &desired.image.parts {
            sealer::check_layout(part).with_context(|| format!("image {}", desired.image.name.familiar()))?;
        }
        kubernetes::check_kube_version(&desired)?;
        Ok(Session { hosts, desired, findings })
    }

    /// Observes the hosts and plans the changes to the desired state.
    pub async fn plan(&self, ctx: &Context) -> Result<Plan> {
        let observed: ObservedState = observe(&self.desired, &self.hosts, ctx).await?;
        Ok(Plan::new(&self.desired, &observed))
    }

    /// Carries out a plan under the lease, then plans again to verify that nothing is left to change. Returns the number of changes.
    ///
    /// # Errors
    /// `Verification` if there is drift although every step succeeded.
    pub async fn apply(
        &self,
        plan: &Plan,
        store: &Store,
        lease: &LeaseOptions,
        begin: impl FnOnce() -> Result<()>,
        ctx: &Context,
    ) -> Result<usize> {
        if plan.changes() == 0 {
            begin()?;
            return Ok(0);
        }
        let master = self.hosts.host(self.desired.first_master().address())?;
        let lease = LeaseGuard::acquire(master, &lease.owner, lease.force, ctx).await?;
        lease.fence(master, self.desired.name(), self.hosts.hosts()).await?;
        let work = async {
            begin()?;
            let changed = execute(&self.desired, plan, &self.hosts, store, ctx).await?;
            self.verify(ctx).await?;
            Ok(changed)
        };
        lease.hold_during(master, ctx, work).await
    }

    /// Verifies that nothing is left to change. Tries a few times, as pods may still be restarting.
    async fn verify(&self, ctx: &Context) -> Result<()> {
        let mut drift = self.plan(ctx).await?;
        for _ in 1..VERIFY_ATTEMPTS {
            if drift.changes() > 0 {
                ctx.or_cancelled(async {
                    tokio::time::sleep(VERIFY_INTERVAL).await;
                    Ok(())
                })
                .await?;
                drift = self.plan(ctx).await?;
            }
        }
        if drift.changes() == 0 { Ok(()) } else { Err(drift_error(&drift)) }
    }
}

/// How often to look for drift after a run, at most.
const VERIFY_ATTEMPTS: usize = 4;
const VERIFY_INTERVAL: Duration = Duration::from_secs(5);

fn drift_error(drift: &Plan) -> anyhow::Error {
    let text = drift.text();
    Failure::verification(format!("drift after the run: every step succeeded, but these are not as desired:\n{}", text.trim_end()))
        .hint("run the same command again; if the drift stays, find out what changes it on that host")
        .into()
}

/// How to acquire the lease.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// Who runs sealift, for other operators: user, machine, process.
    pub owner: String,
    /// Whether to break the lease of another run.
    pub force: bool,
}

fn check_applications(desired: &DesiredState) -> Result<()> {
    let errors = desired.applications().unsupported();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Failure::usage(errors.join("\n"))
        .hint("correct `launchApps` of the Clusterfile, or give the app commands: `configs: [{name: APP, launch: {cmds: […]}}]`")
        .into())
}

fn facts_request(clusterfile: &Clusterfile, image: &ImageContent) -> crate::host::facts::FactsRequest {
    let mut ports = Vec::new();
    for master in [true, false] {
        ports.extend(preflight::required_ports(image.config().runtime, master, registry_port(clusterfile)));
    }
    ports.sort_unstable();
    ports.dedup();
    preflight::facts_request(&ports, disk_requirements::directories(image))
}

fn registry_port(clusterfile: &Clusterfile) -> Option<u16> {
    clusterfile.cluster.registry.local.as_ref().map(|local| local.port)
}

fn input(
    clusterfile: &Clusterfile,
    image: &ImageContent,
    facts: &BTreeMap<IpAddr, (Facts, i64)>,
    present: &BTreeMap<IpAddr, PresentContent>,
) -> Result<Input> {
    let median_offset = median(facts.values().map(|(_, offset)| *offset).collect());
    let hosts = clusterfile.cluster.hosts.iter().filter_map(|host| {
        let (facts, offset) = facts.get(&host.address)?;
        let registry = registry_port(clusterfile).filter(|_| host.is_master());
        let mut facts = facts.clone();
        let is_member = facts.installed.clusters.contains(&clusterfile.cluster.name);
        facts.conflicting_runtimes.retain(|runtime| !image.parts.iter().any(|part| sealer::is_from_image(part, is_member, runtime)));
        Some(HostInput {
            address: host.address,
            master: host.is_master(),
            ports: preflight::required_ports(image.config().runtime, host.is_master(), registry),
            disk_requirements: match image.part(&facts.machine) {
                Ok(part) => {
                    let has_registry = registry.is_some() && !part.workloads.is_empty();
                    disk_requirements::of_host(part, image.config().runtime, has_registry, present.get(&host.address)?)
                }
                Err(_) => Vec::new(), // the check of architectures refuses the host
            },
            clock_offset: Some(offset.saturating_sub(median_offset)),
            facts,
        })
    });
    let networks = networks(clusterfile, image)?;
    Ok(Input {
        cluster: clusterfile.cluster.name.clone(),
        runtime: image.config().runtime,
        platforms: image.parts.iter().map(|part| part.platform.clone()).collect(),
        networks: networks.pods.into_iter().chain(networks.services.iter().copied()).collect(),
        services: networks.services,
        services_have_link: image.config().runtime == RuntimeKind::Kubernetes && kubernetes::uses_ipvs(clusterfile, &image.parts[0])?,
        hosts: hosts.collect(),
    })
}

fn networks(clusterfile: &Clusterfile, image: &ImageContent) -> Result<Networks> {
    if image.config().runtime != RuntimeKind::Kubernetes {
        return Ok(Networks::default());
    }
    kubernetes::networks(clusterfile, &image.parts[0])
}

fn median(mut offsets: Vec<i64>) -> i64 {
    offsets.sort_unstable();
    offsets.get(offsets.len() / 2).copied().unwrap_or_default()
}
