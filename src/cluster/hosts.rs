//! All hosts of a cluster, connected.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::error::Failure;
use crate::events::Context;
use crate::host::{AgentBinaries, Host, Target, combine};

/// So many hosts at once; the operator's machine has one connection to each.
const AT_ONCE: usize = 64;

/// All hosts of a cluster, connected.
pub struct Hosts {
    hosts: BTreeMap<IpAddr, Host>,
}

impl Hosts {
    /// Connects to all hosts at once. All must answer; the error names every one that does not.
    pub async fn connect(targets: &[Target], agents: &AgentBinaries, ctx: &Context) -> Result<Hosts> {
        let (fleet, failed) = Hosts::connect_some(targets, agents, ctx).await;
        ctx.check()?;
        let errors: Vec<anyhow::Error> = failed.into_iter().map(|(_, error)| error).collect();
        match combine(&errors, targets.len()) {
            None => Ok(fleet),
            Some(error) => {
                fleet.close().await;
                Err(error)
            }
        }
    }

    /// Connects to all hosts at once, and tells which did not answer.
    pub async fn connect_some(targets: &[Target], agents: &AgentBinaries, ctx: &Context) -> (Hosts, Vec<(IpAddr, anyhow::Error)>) {
        let connects =
            targets.iter().map(|target| async move { (target.address, ctx.or_cancelled(Host::connect(target, agents, ctx)).await) });
        let (mut hosts, mut failed) = (BTreeMap::new(), Vec::new());
        for (address, result) in stream::iter(connects).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await {
            match result {
                Ok(host) => drop(hosts.insert(address, host)),
                Err(error) => failed.push((address, error)),
            }
        }
        failed.sort_by_key(|(address, _)| *address);
        (Hosts { hosts }, failed)
    }

    /// The host with this address.
    pub fn host(&self, address: IpAddr) -> Result<&Host> {
        self.hosts.get(&address).ok_or_else(|| Failure::failed(format!("host {address} is not connected")).into())
    }

    /// All hosts.
    pub fn hosts(&self) -> impl Iterator<Item = &Host> {
        self.hosts.values()
    }

    /// Does something on all hosts at once, and tells for each how it went.
    pub async fn each<'a, T, F>(&'a self, work: impl Fn(&'a Host) -> F) -> Vec<(IpAddr, Result<T>)>
    where
        F: Future<Output = Result<T>> + 'a,
    {
        let work = &work;
        let runs = self.hosts.values().map(|host| {
            let future = work(host);
            async move { (host.address(), future.await) }
        });
        let mut results = stream::iter(runs).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
        results.sort_by_key(|(address, _)| *address);
        results
    }

    /// Does something on all hosts at once. The error names every host where it failed.
    pub async fn all<'a, T, F>(&'a self, work: impl Fn(&'a Host) -> F) -> Result<BTreeMap<IpAddr, T>>
    where
        F: Future<Output = Result<T>> + 'a,
    {
        gather(self.each(work).await)
    }

    /// Ends all connections.
    pub async fn close(self) {
        futures_util::future::join_all(self.hosts.into_values().map(Host::close)).await;
    }
}

/// All results, or one error that names every host where it failed.
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
