//! The cluster that a host belongs to, and the newest run that has changed it: what an agent compares every change with.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::clusterfile;
use crate::error::{Failure, Kind};
use crate::host::lease::MAX_NUMBER as MAX_LEASE_NUMBER;
use crate::paths::{CLAIM, CLUSTERS};
use crate::resource::System;

/// The claim of a cluster on a host: the content of `claim.json`. The first change of a run writes it, `reset` removes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The name of the cluster.
    pub cluster: String,
    /// The highest number of a lease on the cluster that the agent has seen.
    #[serde(default)]
    pub number: u64,
}

/// What a run shows with every change: its cluster, and the number of its lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    /// The name of the cluster.
    pub cluster: String,
    /// The number of the lease; `None` for a run without one, as a reset without a reachable master.
    pub number: Option<u64>,
}

impl Claim {
    /// Reads the claim on this host. Hosts that an older sealift has changed have only a directory with the name of their cluster.
    ///
    /// # Errors
    /// Of kind `Verification` if the file is damaged.
    pub fn read(system: &System) -> Result<Option<Claim>> {
        let text = system.read_text(CLAIM)?;
        if text.is_empty() {
            return Ok(clusters(system).into_iter().next().map(|cluster| Claim { cluster, number: 0 }));
        }
        let damaged = || {
            Failure::verification(format!("{CLAIM} on the host is damaged"))
                .hint("write the name of the host's cluster into it: {\"cluster\": \"NAME\"}")
        };
        let claim: Claim = serde_json::from_str(&text).with_context(damaged)?;
        if claim.number > MAX_LEASE_NUMBER {
            return Err(damaged().into());
        }
        Ok(Some(claim))
    }

    /// Writes the claim.
    pub fn write(&self, system: &System) -> Result<()> {
        atomic_file::write(&system.path(CLAIM), &serde_json::to_vec(self)?, 0o644)
    }

    /// The claim after a change of a run that shows `fence`; `None` if there is none and the run has no cluster. Pure.
    ///
    /// # Errors
    /// Refuses the change: of kind `Preflight` if the host belongs to another cluster; if a newer run has changed the host, or the run
    /// shows nothing although the host belongs to a cluster.
    pub fn admit(current: Option<&Claim>, fence: Option<&Fence>) -> Result<Option<Claim>> {
        match (current, fence) {
            (None, None) => Ok(None),
            (Some(claim), None) => {
                Err(Failure::failed(format!("the host belongs to the cluster {}, and the change to none", claim.cluster)).into())
            }
            (Some(claim), Some(fence)) if claim.cluster != fence.cluster => {
                Err(Failure::new(Kind::Preflight, format!("the host belongs to the cluster {}", claim.cluster))
                    .hint(format!("reset that cluster first (`sealift reset {}`), or choose another host", claim.cluster))
                    .into())
            }
            (Some(Claim { cluster, number: seen }), Some(Fence { number: Some(number), .. })) if number < seen => {
                let message =
                    format!("another run has taken over the cluster {cluster}: its lease has number {seen}, that of this run {number}");
                Err(Failure::failed(message).hint("wait until that run has ended, then run the same command again").into())
            }
            (current, Some(fence)) => {
                let seen = current.map_or(0, |claim| claim.number);
                Ok(Some(Claim { cluster: fence.cluster.clone(), number: fence.number.unwrap_or(0).max(seen) }))
            }
        }
    }
}

/// The clusters whose directories are on the host, sorted. Copies of such directories, and whatever else somebody has put beside them,
/// are none: where there are several, only those count whose Clusterfile has the name of its directory.
pub fn clusters(system: &System) -> Vec<String> {
    let entries = std::fs::read_dir(system.path(CLUSTERS)).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = directories.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_cluster_name(name));
    let (mut named, mut bare) = (Vec::new(), Vec::new());
    for name in names {
        match recorded_name(&system.path(CLUSTERS).join(&name).join("Clusterfile")) {
            Some(recorded) if recorded == name => named.push(name),
            Some(_) => {}
            // workers have no Clusterfile, and neither have hosts of a run that did not finish
            None => bare.push(name),
        }
    }
    let mut clusters = if named.is_empty() { bare } else { named };
    clusters.sort();
    clusters
}

/// Whether a cluster can have this name, which is also the value of a label.
fn is_cluster_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inside = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    name.len() <= 63 && name.chars().all(inside) && edge(name.chars().next()) && edge(name.chars().next_back())
}

/// The name of the cluster in a Clusterfile on the host; `None` if there is none that can be read.
fn recorded_name(file: &Path) -> Option<String> {
    // a FIFO would never end
    std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file)?;
    let text = std::fs::read_to_string(file).ok()?;
    Some(clusterfile::load("Clusterfile", &text).ok()?.cluster.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::kind_of;

    #[test]
    fn a_host_belongs_to_one_cluster_and_obeys_its_newest_run() {
        let claim = |cluster: &str, number| Some(Claim { cluster: cluster.into(), number });
        let fence = |cluster: &str, number| Some(Fence { cluster: cluster.into(), number });
        let cases = [
            ("a free host is claimed", None, fence("a", Some(5)), Ok(claim("a", 5))),
            ("the same run goes on", claim("a", 5), fence("a", Some(5)), Ok(claim("a", 5))),
            ("a newer run takes over", claim("a", 5), fence("a", Some(6)), Ok(claim("a", 6))),
            ("an older run is refused", claim("a", 6), fence("a", Some(5)), Err("another run has taken over the cluster a")),
            ("another cluster is refused", claim("a", 5), fence("b", Some(9)), Err("belongs to the cluster a")),
            ("another cluster without a lease too", claim("a", 5), fence("b", None), Err("belongs to the cluster a")),
            ("a reset without a lease is allowed", claim("a", 5), fence("a", None), Ok(claim("a", 5))),
            ("a host of an older sealift", claim("a", 0), fence("a", Some(5)), Ok(claim("a", 5))),
            ("a free host needs no cluster", None, None, Ok(None)),
            ("a claimed one does", claim("a", 5), None, Err("belongs to the cluster a")),
        ];
        for (name, current, fence, expected) in cases {
            let actual = Claim::admit(current.as_ref(), fence.as_ref());
            match (actual, expected) {
                (Ok(actual), Ok(expected)) => assert_eq!(actual, expected, "{name}"),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{name}: {error}"),
                (actual, expected) => panic!("{name}: {actual:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn claims_are_read_as_written_and_a_damaged_one_is_named() {
        let root = tempfile::tempdir().unwrap();
        let system = System::new(root.path());
        assert_eq!(Claim::read(&system).unwrap(), None);
        std::fs::create_dir_all(system.path(CLUSTERS).join("old")).unwrap();
        assert_eq!(Claim::read(&system).unwrap().unwrap(), Claim { cluster: "old".into(), number: 0 });
        let claim = Claim { cluster: "a".into(), number: 7 };
        claim.write(&system).unwrap();
        assert_eq!(Claim::read(&system).unwrap(), Some(claim));
        for text in ["{", r#"{"cluster":"a","number":18446744073709551615}"#] {
            std::fs::write(system.path(CLAIM), text).unwrap();
            let error = Claim::read(&system).unwrap_err();
            assert!(kind_of(&error) == Kind::Verification && error.to_string().contains("claim.json"), "{error}");
        }
    }

    #[test]
    fn only_directories_of_clusters_count() {
        let clusterfile = |name: &str| format!("apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {{name: {name}}}\n");
        // entries, each with its Clusterfile if it is a directory with one, or with `file`
        type Case<'a> = (&'a str, &'a [(&'a str, Option<&'a str>)], &'a [&'a str]);
        let cases: [Case<'_>; 6] = [
            ("none", &[], &[]),
            ("a cluster", &[("a", Some("a"))], &["a"]),
            ("a worker", &[("a", None)], &["a"]),
            ("a copy, a hidden one and a file", &[("a", Some("a")), ("a.bak", Some("a")), (".x", Some("x")), ("b", Some("file"))], &["a"]),
            ("a copy of a worker's", &[("a", Some("a")), ("a.bak", None)], &["a"]),
            ("two clusters of an older sealift", &[("b", Some("b")), ("a", Some("a"))], &["a", "b"]),
        ];
        for (name, entries, expected) in cases {
            let root = tempfile::tempdir().unwrap();
            let system = System::new(root.path());
            std::fs::create_dir_all(system.path(CLUSTERS)).unwrap();
            for (entry, content) in entries {
                let path = system.path(CLUSTERS).join(entry);
                match content {
                    Some("file") => std::fs::write(path, "x").unwrap(),
                    None => std::fs::create_dir(path).unwrap(),
                    Some(cluster) => {
                        std::fs::create_dir(&path).unwrap();
                        std::fs::write(path.join("Clusterfile"), clusterfile(cluster)).unwrap();
                    }
                }
            }
            assert_eq!(clusters(&system), expected, "{name}");
        }
        for (name, expected) in [("a", true), ("shop-1.b_c", true), ("", false), (".x", false), ("a-", false), (&"a".repeat(64), false)] {
            assert_eq!(is_cluster_name(name), expected, "{name}");
        }
    }
}
