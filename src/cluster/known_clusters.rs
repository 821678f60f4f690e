//! The clusters that the operator's machine has brought up: their Clusterfiles, without secrets.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::atomic_file;
use crate::clusterfile::{self, Clusterfile};
use crate::error::Failure;

/// The clusters that this machine has brought up: `<state root>/clusters/<name>/Clusterfile`.
#[derive(Debug, Clone)]
pub struct KnownClusters {
    root: PathBuf,
}

impl KnownClusters {
    /// The clusters recorded below `state_root`, sealift's directory on this machine.
    pub fn new(state_root: &Path) -> Self {
        KnownClusters { root: state_root.join("clusters") }
    }

    /// Records a cluster. Call it before its hosts are changed, so that `reset` works after a run that was killed.
    pub fn save(&self, clusterfile: &Clusterfile) -> Result<()> {
        atomic_file::write(&self.file(&clusterfile.cluster.name), clusterfile.to_yaml()?.as_bytes(), 0o600)
    }

    /// Removes the record of a cluster. Returns whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let directory = self.root.join(name);
        if !directory.is_dir() {
            return Ok(false);
        }
        fs_err::remove_dir_all(directory)?;
        Ok(true)
    }

    /// The names of all clusters, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| self.file(name).is_file());
        names.sort();
        names
    }

    /// The Clusterfile of the cluster with this name; without a name, of the only cluster.
    ///
    /// # Errors
    /// `Usage` if there is no such cluster, or several and no name.
    pub fn load(&self, name: Option<&str>) -> Result<Clusterfile> {
        let name = match (name, self.names().as_slice()) {
            (Some(name), _) => name.to_owned(),
            (None, [only]) => only.clone(),
            (None, []) => {
                return Err(Failure::usage("no cluster is known on this machine").hint("name its Clusterfile: `-f Clusterfile`").into());
            }
            (None, names) => {
                let names = names.join(", ");
                return Err(Failure::usage(format!("several clusters are known on this machine: {names}")).hint("name one of them").into());
            }
        };
        let file = self.file(&name);
        let text = std::fs::read_to_string(&file).map_err(|_| {
            let hint = match self.names().as_slice() {
                [] => "name its Clusterfile: `-f Clusterfile`".to_owned(),
                names => format!("known clusters: {}", names.join(", ")),
            };
            Failure::usage(format!("no such cluster: {name} (not known on this machine)")).hint(hint)
        })?;
        clusterfile::load(&file.display().to_string(), &text).with_context(|| format!("cluster {name}"))
    }

    /// The Clusterfile of the cluster with this name; `None` if this machine does not know it.
    ///
    /// # Errors
    /// Fails if its record is damaged.
    pub fn find(&self, name: &str) -> Result<Option<Clusterfile>> {
        if self.file(name).is_file() { self.load(Some(name)).map(Some) } else { Ok(None) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join(name).join("Clusterfile")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_cluster_needs_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = KnownClusters::new(dir.path());
        assert!(clusters.load(None).unwrap_err().to_string().contains("no cluster is known"));
        let text = "apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {name: shop}\nspec: {image: 'shop:1', hosts: [{ips: [10.0.0.1], roles: [master]}]}\n";
        let mut clusterfile = clusterfile::load("Clusterfile", text).unwrap();
        clusters.save(&clusterfile).unwrap();
        assert_eq!(clusters.load(None).unwrap().cluster.name, "shop");
        clusterfile.cluster.name = "other".into();
        clusters.save(&clusterfile).unwrap();
        assert!(clusters.load(None).unwrap_err().to_string().contains("other, shop"));
        assert!(clusters.remove("other").unwrap() && !clusters.remove("other").unwrap());
        assert_eq!(clusters.load(Some("shop")).unwrap().cluster.hosts.len(), 1);
    }
}
