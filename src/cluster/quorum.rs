//! Guards etcd's quorum: what a plan removes from and adds to the control plane must leave more than half of the voters alive, always.

use std::net::IpAddr;

use anyhow::Result;

use super::membership::Membership;
use crate::error::{Failure, Kind};

/// What a plan does to the members of etcd, in this order.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MemberChanges {
    /// Hosts whose member is removed before others join: it is dead, or its host leaves and joins again.
    pub first_out: Vec<IpAddr>,
    /// Hosts that join the control plane.
    pub joining: Vec<IpAddr>,
    /// Hosts whose member is removed after the others have joined.
    pub out: Vec<IpAddr>,
}

/// Refuses changes that would cost etcd its quorum.
///
/// # Errors
/// Of kind `Preflight`: it says which removal would lose the quorum.
pub fn check(membership: &Membership, changes: &MemberChanges) -> Result<()> {
    let voters: Vec<(Option<IpAddr>, bool)> = membership
        .etcd
        .iter()
        .filter(|member| !member.learner)
        .map(|member| {
            let addresses = changes.first_out.iter().chain(&changes.out);
            let peer = |address: &&IpAddr| membership.etcd_member(**address) == Some(member);
            (addresses.copied().find(|address| peer(&address)), member.healthy)
        })
        .collect();
    if voters.is_empty() {
        return Ok(());
    }
    let leaving_alive = voters.iter().filter(|(leaving, healthy)| leaving.is_some() && *healthy).count();
    let count = voters.len();
    let mut state = Voters { count, healthy: voters.iter().filter(|(_, healthy)| *healthy).count() };
    let refusal = |removed: usize, state: Voters| {
        let dead = state.count - state.healthy;
        let note = if dead > 0 { format!(" ({dead} of them dead)") } else { String::new() };
        Failure::new(Kind::Preflight, format!("removing {removed} of {count} etcd members{note} would lose quorum"))
            .hint("remove one master at a time, and first replace or remove those that are dead")
            .hint("nothing was changed")
    };
    if !state.has_quorum() {
        return Err(refusal(leaving_alive.max(1), state).into());
    }
    // a run that is cut off between two removals must leave a cluster that works
    if leaving_alive > 1 && state.healthy - leaving_alive < state.quorum() {
        return Err(refusal(leaving_alive, state).into());
    }
    let remove = |state: Voters, hosts: &[IpAddr]| -> Result<Voters> {
        let mut state = state;
        // the dead first: without them more votes count
        let mut leaving: Vec<bool> =
            voters.iter().filter(|(host, _)| host.is_some_and(|host| hosts.contains(&host))).map(|(_, healthy)| *healthy).collect();
        leaving.sort_unstable();
        for healthy in leaving {
            let next = Voters { count: state.count - 1, healthy: state.healthy - usize::from(healthy) };
            if !state.has_quorum() || !next.has_quorum() {
                return Err(refusal(1, state).into());
            }
            state = next;
        }
        Ok(state)
    };
    state = remove(state, &changes.first_out)?;
    state = Voters { count: state.count + changes.joining.len(), healthy: state.healthy + changes.joining.len() };
    remove(state, &changes.out).map(drop)
}

#[derive(Debug, Clone, Copy)]
struct Voters {
    count: usize,
    healthy: usize,
}

impl Voters {
    fn quorum(self) -> usize {
        self.count / 2 + 1
    }

    fn has_quorum(self) -> bool {
        self.count > 0 && self.healthy >= self.quorum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::membership::EtcdMember;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn hosts(list: &[u8]) -> Vec<IpAddr> {
        list.iter().map(|last| address(*last)).collect()
    }

    #[test]
    fn removals_that_lose_the_quorum_are_refused() {
        // members by host, those that are dead, out first, joining, out; what the refusal says
        for (members, dead, first_out, joining, out, refused) in [
            (3, &[][..], &[][..], &[][..], &[3][..], None),
            (3, &[], &[], &[], &[2, 3], Some("removing 2 of 3 etcd members would lose quorum")),
            (3, &[3], &[], &[], &[3], None),
            (3, &[3], &[], &[], &[2], Some("removing 1 of 3 etcd members (1 of them dead) would lose quorum")),
            (3, &[3], &[3], &[3], &[], None),
            (3, &[3], &[3], &[4], &[2], None),
            (3, &[2, 3], &[], &[], &[3], Some("removing 1 of 3 etcd members (2 of them dead) would lose quorum")),
            (2, &[], &[], &[], &[2], None),
            (1, &[], &[], &[2], &[1], None),
            (1, &[], &[], &[], &[1], Some("removing 1 of 1 etcd members would lose quorum")),
            (5, &[], &[], &[], &[4, 5], None),
            (5, &[], &[], &[], &[3, 4, 5], Some("removing 3 of 5 etcd members would lose quorum")),
            (5, &[4, 5], &[4, 5], &[4, 5], &[], None),
            (5, &[4, 5], &[], &[], &[3], Some("removing 1 of 5 etcd members (2 of them dead) would lose quorum")),
            (3, &[], &[3], &[], &[], None),
            (0, &[], &[], &[1], &[], None),
        ] {
            let etcd = (1..=members).map(|last| EtcdMember {
                name: format!("h{last}"),
                peers: vec![format!("https://10.0.0.{last}:2380")],
                healthy: !dead.contains(&last),
                learner: false,
            });
            let membership = Membership { etcd: etcd.collect(), ..Membership::default() };
            let changes = MemberChanges { first_out: hosts(first_out), joining: hosts(joining), out: hosts(out) };
            let error = check(&membership, &changes).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), refused, "{members} members, dead {dead:?}, {changes:?}");
        }
    }
}
