//! A session with a cluster: hosts connected and observed, changes planned, and applied under the lease.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;

use super::disk_requirements::{self, PresentContent};
use super::observed_state::wait_for_kubeadm;
use super::plan::Unreachable;
use super::preflight::{self, Finding, HostInput, Input};
use super::runtime::{kubernetes, kubernetes_version, sealer};
use super::stage::Action;
use super::{
    DepartingHost, DesiredState, Hosts, ImageContent, LeaseGuard, Membership, Observed, Plan, execute, executor, gather_facts, membership,
    observe,
};
use crate::clusterfile::{Clusterfile, HostSpec, Networks};
use crate::error::{Failure, Kind};
use crate::events::Context;
use crate::host::facts::Facts;
use crate::host::{AgentBinaries, Target, combine};
use crate::image::RuntimeKind;
use crate::resource::Resource;
use crate::store::Store;

/// A session with a cluster: its hosts are connected and observed, nothing is changed yet.
pub struct Session {
    /// The connected hosts.
    pub hosts: Hosts,
    /// The desired state.
    pub desired: DesiredState,
    /// The findings of the preflight checks.
    pub findings: Vec<Finding>,
    /// The hosts that are not reachable.
    pub unreachable: Vec<Unreachable>,
    inputs: Inputs,
}

/// What a session is opened with.
pub struct Inputs {
    /// The desired Clusterfile.
    pub clusterfile: Clusterfile,
    /// The images: the first brings the cluster, the others more applications. Never empty.
    pub images: Vec<ImageContent>,
    /// The Clusterfile of the last run from this machine, if there was one: its hosts may have left.
    pub known: Option<Clusterfile>,
    /// How it goes about hosts.
    pub options: SessionOptions,
}

/// How a session goes about hosts.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The preflight checks that may fail.
    pub ignore: Vec<String>,
    /// Whether every host must be reachable.
    pub require_all: bool,
    /// Whether hosts that left the Clusterfile are removed from the cluster even if they are not reachable.
    pub forget: bool,
    /// How long the pods of a node that leaves may take, in seconds.
    pub drain_timeout: u64,
    /// How long to wait for an API server of a cluster that exists.
    pub api_timeout: Duration,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { ignore: Vec::new(), require_all: false, forget: false, drain_timeout: 300, api_timeout: membership::API_TIMEOUT }
    }
}

impl Session {
    /// Connects to the hosts, observes them and the members of the cluster, and runs the preflight checks. `target` says how a host is
    /// reached.
    ///
    /// # Errors
    /// `Usage` if the Clusterfile and the image do not make a cluster. Hosts that are not reachable are an error if no cluster exists on
    /// the others, else a result. Findings are no errors: see [`preflight::require_passed`].
    pub async fn open(
        inputs: Inputs,
        target: &(dyn Fn(&HostSpec) -> Result<Target> + Sync),
        agents: &AgentBinaries,
        ctx: &Context,
    ) -> Result<Session> {
        preflight::check_ids(&inputs.options.ignore)?;
        inputs.clusterfile.require_runnable()?;
        let targets = inputs.clusterfile.cluster.hosts.iter().map(target).collect::<Result<Vec<_>>>()?;
        let (mut hosts, failed) = Hosts::connect_reachable(&targets, agents, ctx).await;
        let opened = async {
            ctx.check()?;
            if inputs.options.require_all {
                require_all(&failed, targets.len())?;
            }
            let mut left = departed(inputs.known.as_ref(), &inputs.clusterfile);
            let mut gone = connect_departed(&mut hosts, &left, target, agents, ctx).await?;
            let mut observation = Observation::of(&inputs, &hosts, ctx).await?;
            let recorded = observation.membership.as_ref().and_then(|membership| membership.recorded.as_ref());
            let more =
                departed(recorded, &inputs.clusterfile).into_iter().filter(|host| left.iter().all(|known| known.address != host.address));
            let more: Vec<HostSpec> = more.collect();
            if !more.is_empty() {
                gone.extend(connect_departed(&mut hosts, &more, target, agents, ctx).await?);
                left.extend(more);
                observation = Observation::of(&inputs, &hosts, ctx).await?;
            }
            if observation.membership.is_none() {
                require_all(&failed, targets.len())?;
                require_known(&gone, &inputs)?;
            }
            let departing = departing(left, &observation.facts, &inputs);
            check_addresses(&departing, &observation.facts, &inputs.clusterfile)?;
            let present = disk_requirements::present_content(&hosts, &inputs.images[0], &observation.facts, ctx);
            let present = ctx.or_cancelled(present).await?;
            let findings = preflight::run_checks(&input(&inputs, &observation.facts, &present)?, &inputs.options.ignore);
            let desired = observation.desired(&inputs, departing)?;
            anyhow::Ok((findings, desired, gone))
        };
        let (findings, desired, gone) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                hosts.close().await;
                return Err(error);
            }
        };
        let unreachable = failed.into_iter().map(|(host, error)| Unreachable { host, why: format!("{error:#}") });
        let stays = |host: &IpAddr| desired.departing.iter().any(|departing| departing.address() == *host && !departing.is_removed());
        let gone = gone.into_iter().filter(|(host, _)| stays(host)).map(|(host, error)| Unreachable {
            host,
            why: format!("left the Clusterfile, but is not reachable and stays in the cluster (`--forget` removes it anyway): {error:#}"),
        });
        let unreachable = unreachable.chain(gone).collect();
        Ok(Session { hosts, desired, findings, unreachable, inputs })
    }

    /// Observes the hosts and plans the changes to the desired state.
    pub async fn plan(&self, ctx: &Context) -> Result<Plan> {
        let observed = ctx.or_cancelled(observe(&self.desired, &self.hosts, &self.unreachable)).await?;
        Ok(Plan::new(&self.desired, &observed))
    }

    /// Carries out a plan under the lease, then plans again to verify that nothing is left to change. Returns the identifiers of the steps
    /// in the order in which they were done. `begin` runs once the lease is held, before the first change.
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
    ) -> Result<Vec<String>> {
        if plan.changes() == 0 {
            begin()?;
            return Ok(Vec::new());
        }
        let contact = self.hosts.host(self.desired.contact())?;
        let lease = LeaseGuard::acquire(contact, &lease.owner, lease.force, ctx).await?;
        lease.fence(contact, self.desired.name(), self.hosts.hosts()).await?;
        let mut done = Vec::new();
        let work = async {
            lease.verify_unchanged(self.desired.name(), self.hosts.hosts()).await?;
            begin()?;
            let executed = execute(&self.desired, plan, &self.hosts, store, ctx).await;
            done = executed.done;
            executed.result?;
            self.verify(ctx).await
        };
        let result = lease.hold_during(contact, ctx, work).await;
        // hosts that left are clean, whatever became of the others
        let purged = executor::purge(&self.desired, plan, &done, &self.hosts, store, ctx).await;
        result?;
        purged.result?;
        done.extend(purged.done);
        Ok(done)
    }

    /// Verifies that nothing is left to change. Tries a few times, as pods may still be restarting.
    async fn verify(&self, ctx: &Context) -> Result<()> {
        let mut drift = self.plan_again(ctx).await?;
        for attempt in 1..WORKLOAD_ATTEMPTS {
            if drift.changes() > 0 && (attempt < VERIFY_ATTEMPTS || only_workloads(&drift)) {
                ctx.or_cancelled(async {
                    tokio::time::sleep(VERIFY_INTERVAL).await;
                    Ok(())
                })
                .await?;
                drift = self.plan_again(ctx).await?;
            }
        }
        if drift.changes() == 0 { Ok(()) } else { Err(drift_error(&drift)) }
    }

    /// Plans with the members and facts of now; the hosts that left are gone.
    async fn plan_again(&self, ctx: &Context) -> Result<Plan> {
        let mut desired = Observation::of(&self.inputs, &self.hosts, ctx).await?.desired(&self.inputs, Vec::new())?;
        // the stored Clusterfile still names those that could not be removed
        desired.stored_clusterfile.clone_from(&self.desired.stored_clusterfile);
        let observed = ctx.or_cancelled(observe(&desired, &self.hosts, &self.unreachable)).await?;
        Ok(Plan::new(&desired, &observed))
    }
}

/// What was observed on the connected hosts.
struct Observation {
    facts: BTreeMap<IpAddr, (Facts, i64)>,
    membership: Option<Membership>,
}

impl Observation {
    async fn of(inputs: &Inputs, hosts: &Hosts, ctx: &Context) -> Result<Observation> {
        hosts.on_all(|host| wait_for_kubeadm(host, ctx)).await?;
        let facts = ctx.or_cancelled(gather_facts(hosts, &facts_request(&inputs.clusterfile, &inputs.images[0]))).await?;
        let cluster = &inputs.clusterfile.cluster;
        let plain: BTreeMap<IpAddr, Facts> = facts.iter().map(|(address, (facts, _))| (*address, facts.clone())).collect();
        let kubernetes = inputs.images[0].config().runtime == RuntimeKind::Kubernetes;
        // masters that stay are asked first, those that become workers last
        let masters = cluster.masters().map(|host| host.address);
        let leaving = facts.keys().copied().filter(|address| cluster.host(*address).is_none());
        let preferred: Vec<IpAddr> = masters.chain(leaving).collect();
        let membership = membership::observe(hosts, &plain, &cluster.name, kubernetes, &preferred, inputs.options.api_timeout, ctx).await?;
        Ok(Observation { facts, membership })
    }

    fn desired(self, inputs: &Inputs, departing: Vec<DepartingHost>) -> Result<DesiredState> {
        let facts = self.facts.into_iter().map(|(address, (facts, _))| (address, facts)).collect();
        let observed = Observed { facts, membership: self.membership, departing, drain_timeout: inputs.options.drain_timeout };
        let desired = DesiredState::new(inputs.clusterfile.clone(), inputs.images.clone(), observed)?;
        check_applications(&desired)?;
        for part in &desired.image.parts {
            sealer::check_layout(part).with_context(|| format!("image {}", desired.image.name.familiar()))?;
        }
        kubernetes_version::check_kube_version(&desired)?;
        kubernetes_version::check_running_version(&desired)?;
        check_networks(&desired)?;
        Ok(desired)
    }
}

/// The hosts of an earlier Clusterfile that are not in the desired one.
fn departed(earlier: Option<&Clusterfile>, desired: &Clusterfile) -> Vec<HostSpec> {
    let hosts = earlier.into_iter().flat_map(|earlier| &earlier.cluster.hosts);
    let mut departed: Vec<HostSpec> = Vec::new();
    for host in hosts.filter(|host| desired.cluster.host(host.address).is_none()) {
        if departed.iter().all(|known| known.address != host.address) {
            departed.push(host.clone());
        }
    }
    departed
}

/// Connects to hosts that left the Clusterfile. Returns the errors of those that are not reachable.
async fn connect_departed(
    hosts: &mut Hosts,
    departed: &[HostSpec],
    target: &(dyn Fn(&HostSpec) -> Result<Target> + Sync),
    agents: &AgentBinaries,
    ctx: &Context,
) -> Result<Vec<(IpAddr, anyhow::Error)>> {
    let targets = departed.iter().map(target).collect::<Result<Vec<_>>>()?;
    let (connected, failed) = Hosts::connect_reachable(&targets, agents, ctx).await;
    hosts.extend(connected);
    ctx.check()?;
    Ok(failed)
}

fn departing(left: Vec<HostSpec>, facts: &BTreeMap<IpAddr, (Facts, i64)>, inputs: &Inputs) -> Vec<DepartingHost> {
    let cluster = &inputs.clusterfile.cluster.name;
    let departing = left.into_iter().map(|spec| {
        let installed = facts.get(&spec.address).map(|(facts, _)| &facts.installed);
        // a host that belongs to another cluster by now is none of ours
        let taken = installed.is_some_and(|installed| !installed.clusters.is_empty() && !installed.clusters.contains(cluster));
        DepartingHost {
            reachable: installed.is_some() && !taken,
            changed: installed.is_some_and(|installed| installed.changed) && !taken,
            forget: inputs.options.forget || taken,
            spec,
        }
    });
    departing.collect()
}

/// Refuses a host that is written with another of its addresses: as the one it would join, as the other be cleaned.
fn check_addresses(departing: &[DepartingHost], facts: &BTreeMap<IpAddr, (Facts, i64)>, clusterfile: &Clusterfile) -> Result<()> {
    let machine = |address: IpAddr| facts.get(&address).map(|(facts, _)| facts.machine_id.as_str()).filter(|id| !id.is_empty());
    for host in departing.iter().filter(|host| host.reachable) {
        let same = clusterfile
            .cluster
            .hosts
            .iter()
            .find(|spec| machine(host.address()).is_some() && machine(spec.address) == machine(host.address()));
        if let Some(same) = same {
            return Err(Failure::new(
                Kind::Preflight,
                format!("{} and {} are the same machine, which is a host of the cluster by its address {0}", host.address(), same.address),
            )
            .hint(format!(
                "write {} in the Clusterfile; for another address take the host out first, and add it again then",
                host.address()
            ))
            .into());
        }
    }
    Ok(())
}

fn require_all(failed: &[(IpAddr, anyhow::Error)], hosts: usize) -> Result<()> {
    let errors: Vec<anyhow::Error> = failed.iter().map(|(_, error)| Failure::over(error, format!("{error:#}")).into()).collect();
    combine(&errors, hosts).map_or(Ok(()), Err)
}

/// Refuses to make a new cluster while hosts of the one with this name are not reachable: they may hold it.
fn require_known(gone: &[(IpAddr, anyhow::Error)], inputs: &Inputs) -> Result<()> {
    let Some((_, error)) = gone.first().filter(|_| !inputs.options.forget) else { return Ok(()) };
    let list = gone.iter().map(|(host, _)| host.to_string()).collect::<Vec<_>>().join(", ");
    let name = &inputs.clusterfile.cluster.name;
    let message = format!(
        "cluster {name} was brought up on {list}, which left the Clusterfile and cannot be reached: it may still run there\n  {error:#}"
    );
    Err(Failure::over(error, message)
        .hint("bring one of these hosts back; or, if they are gone for good, make a new cluster with `--forget`")
        .into())
}

/// Refuses other pod and service networks than those of the running cluster.
fn check_networks(desired: &DesiredState) -> Result<()> {
    let Some(membership) = desired.membership.as_ref().filter(|membership| !membership.networks.is_empty()) else { return Ok(()) };
    let networks = kubernetes::networks(&desired.clusterfile, desired.part(desired.leader()))?;
    let wanted: Vec<IpNet> = networks.pods.into_iter().chain(networks.services).collect();
    let text = |networks: &[IpNet]| networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if wanted.iter().all(|network| membership.networks.contains(network)) {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "the pod and service networks of a running cluster cannot be changed: it has {}, the Clusterfile says {}",
        text(&membership.networks),
        text(&wanted)
    ))
    .hint("write the networks that the cluster has; another cluster needs other hosts, or a `sealift reset` of this one")
    .into())
}

/// How often to look for drift after a run, at most.
const VERIFY_ATTEMPTS: usize = 4;
/// How often if only workloads are not ready: after a node left, controllers take their time to count anew.
const WORKLOAD_ATTEMPTS: usize = 24;
const VERIFY_INTERVAL: Duration = Duration::from_secs(5);

/// Whether nothing but the readiness of workloads is not as desired.
fn only_workloads(drift: &Plan) -> bool {
    drift.steps().all(|step| matches!(&step.action, Action::Resource(Resource::KubeApp(_) | Resource::KubeHealth(_))))
}

fn drift_error(drift: &Plan) -> anyhow::Error {
    let text = drift.text();
    let failure =
        Failure::verification(format!("drift after the run: every step succeeded, but these are not as desired:\n{}", text.trim_end()));
    if only_workloads(drift) {
        return failure
            .hint("`kubectl get pods --all-namespaces -o wide` on a control plane node shows the pods that wait, and for what")
            .hint("run the same command again when they are ready")
            .into();
    }
    failure.hint("run the same command again; if the drift stays, find out what changes it on that host").into()
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
    let errors = desired.unsupported_applications();
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

fn input(inputs: &Inputs, facts: &BTreeMap<IpAddr, (Facts, i64)>, present: &BTreeMap<IpAddr, PresentContent>) -> Result<Input> {
    let (clusterfile, image) = (&inputs.clusterfile, &inputs.images[0]);
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
        release: kubernetes_version::release(&image.parts[0]),
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
