//! Connections to all hosts of a cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::error::Failure;
use crate::events::Context;
use crate::host::{AgentBinaries, Host, Target, combine};

/// How many hosts to work with in parallel. The operator's machine holds one connection to each.
const PARALLEL_HOSTS: usize = 64;

/// Connections to the hosts of a cluster, by address.
pub struct Hosts {
    hosts: BTreeMap<IpAddr, Host>,
}

impl Hosts {
    /// Connects to all hosts in parallel.
    ///
    /// # Errors
    /// Fails if a host is unreachable; the error names every one.
    pub async fn connect(targets: &[Target], agents: &AgentBinaries, ctx: &Context) -> Result<Hosts> {
        let (hosts, failed) = Hosts::connect_reachable(targets, agents, ctx).await;
        ctx.check()?;
        let errors: Vec<anyhow::Error> = failed.into_iter().map(|(_, error)| error).collect();
        match combine(&errors, targets.len()) {
            None => Ok(hosts),
            Some(error) => {
                hosts.close().await;
                Err(error)
            }
        }
    }

    /// Connects to all hosts in parallel. Returns the connected ones, and an error for each of the others, sorted by address.
    pub async fn connect_reachable(targets: &[Target], agents: &AgentBinaries, ctx: &Context) -> (Hosts, Vec<(IpAddr, anyhow::Error)>) {
        let connects =
            targets.iter().map(|target| async move { (target.address, ctx.or_cancelled(Host::connect(target, agents, ctx)).await) });
        let (mut hosts, mut failed) = (BTreeMap::new(), Vec::new());
        for (address, result) in stream::iter(connects).buffer_unordered(PARALLEL_HOSTS).collect::<Vec<_>>().await {
            match result {
                Ok(host) => drop(hosts.insert(address, host)),
                Err(error) => failed.push((address, error)),
            }
        }
        failed.sort_by_key(|(address, _)| *address);
        (Hosts { hosts }, failed)
    }

    /// Adds the connections to other hosts.
    pub fn extend(&mut self, others: Hosts) {
        self.hosts.extend(others.hosts);
    }

    /// The host with this address.
    ///
    /// # Errors
    /// Fails if it is not connected.
    pub fn host(&self, address: IpAddr) -> Result<&Host> {
        self.hosts.get(&address).ok_or_else(|| Failure::failed(format!("host {address}: not connected")).into())
    }

    /// All connected hosts, sorted by address.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Runs `work` on all hosts in parallel. Returns the result of each host, sorted by address.
    pub async fn on_each<'a, T, F>(&'a self, work: impl Fn(&'a Host) -> F) -> Vec<(IpAddr, Result<T>)>
    where
        F: Future<Output = Result<T>> + 'a,
    {
        let work = &work;
        let runs = self.hosts.values().map(|host| {
            let future = work(host);
            async move { (host.address(), future.await) }
        });
        let mut results = stream::iter(runs).buffer_unordered(PARALLEL_HOSTS).collect::<Vec<_>>().await;
        results.sort_by_key(|(address, _)| *address);
        results
    }

    /// Runs `work` on all hosts in parallel. Returns the values by address.
    ///
    /// # Errors
    /// Fails if it fails on a host; the error names every one.
    pub async fn on_all<'a, T, F>(&'a self, work: impl Fn(&'a Host) -> F) -> Result<BTreeMap<IpAddr, T>>
    where
        F: Future<Output = Result<T>> + 'a,
    {
        gather(self.on_each(work).await)
    }

    /// Closes all connections.
    pub async fn close(self) {
        futures_util::future::join_all(self.hosts.into_values().map(Host::close)).await;
    }
}

/// The values by address, or one error that names every host that failed.
pub fn gather<T>(results: Vec<(IpAddr, Result<T>)>) -> Result<BTreeMap<IpAddr, T>> {
    let (mut done, mut failed) = (BTreeMap::new(), Vec::new());
    for (address, result) in results {
        match result {
            Ok(value) => drop(done.insert(address, value)),
            Err(error) => failed.push(error),
        }
    }
    match combine(&failed, done.len() + failed.len()) {
        None => Ok(done),
        Some(error) => Err(error),
    }
}
