//! All hosts of a cluster, connected.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use futures_util::StreamExt as _;
use futures_util::stream;

use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::events::Context;
use crate::host::{AgentBinaries, Host, Target};

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
        match together(failed, fleet.hosts.len()) {
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
            Err(error) => failed.push((address, error)),
        }
    }
    match together(failed, done.len()) {
        None => Ok(done),
        Some(error) => Err(error),
    }
}

/// One error for the failures of several hosts. Where all of them failed alike it is of their kind, else of
/// [`Kind::SomeHosts`].
pub fn together(failed: Vec<(IpAddr, anyhow::Error)>, others: usize) -> Option<anyhow::Error> {
    let (_, first) = failed.first()?;
    let kind = kind_of(first);
    let alike = failed.iter().all(|(_, error)| kind_of(error) == kind);
    let kind = if kind == Kind::Interrupted || (alike && others == 0) { kind } else { Kind::SomeHosts };
    let lines: Vec<String> = failed.iter().map(|(_, error)| format!("{error:#}")).collect(); // they name their hosts
    let message = match lines.as_slice() {
        [only] => only.clone(),
        _ => format!("{} of {} hosts failed:\n  {}", failed.len(), failed.len() + others, lines.join("\n  ")),
    };
    let mut hints: Vec<&String> = Vec::new();
    for hint in failed.iter().flat_map(|(_, error)| hints_of(error)) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    Some(hints.into_iter().fold(Failure::new(kind, message), |failure, hint| failure.hint(hint)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_of_hosts_are_told_together() {
        let error = |last: u8, kind| (IpAddr::from([10, 0, 0, last]), Failure::new(kind, format!("h{last}: no")).hint("try").into());
        let cases = [
            (vec![], 3, None),
            (vec![error(1, Kind::Network)], 0, Some((Kind::Network, "h1: no"))),
            (vec![error(1, Kind::Network)], 2, Some((Kind::SomeHosts, "h1: no"))),
            (vec![error(1, Kind::Network), error(2, Kind::Failed)], 0, Some((Kind::SomeHosts, "2 of 2 hosts failed:\n  h1: no\n  h2: no"))),
        ];
        for (failed, others, expected) in cases {
            let error = together(failed, others);
            assert_eq!(
                error.as_ref().map(|error| (kind_of(error), error.to_string())),
                expected.map(|(kind, text)| (kind, text.to_owned()))
            );
            assert!(error.is_none_or(|error| hints_of(&error) == ["try"]));
        }
    }
}
