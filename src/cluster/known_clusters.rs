//! The clusters that the operator's machine has brought up: their Clusterfiles, with secrets sealed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::{Revision, RunLog, RunLogs};
use crate::atomic_file;
use crate::clusterfile::{self, Clusterfile, HostSpec, MASTER, SecretsKey};
use crate::error::Failure;

/// The clusters that this machine has brought up: `<state root>/clusters/<name>/Clusterfile`, and what was done to each.
#[derive(Debug, Clone)]
pub struct KnownClusters {
    root: PathBuf,
    key_file: PathBuf,
}

impl KnownClusters {
    /// The clusters recorded below `state_root`, sealift's directory on this machine. Secrets are sealed with the key in
    /// `secrets.key` there.
    pub fn new(state_root: &Path) -> Self {
        KnownClusters { root: state_root.join("clusters"), key_file: state_root.join("secrets.key") }
    }

    /// The same, with the key for secrets in another file.
    pub fn with_key_file(self, key_file: Option<PathBuf>) -> Self {
        KnownClusters { key_file: key_file.unwrap_or(self.key_file), ..self }
    }

    /// Records a cluster. Call it while holding the lease, before its hosts are changed: `reset` then works after a run that was
    /// killed, and a run that is refused leaves the record as it was.
    pub fn save(&self, clusterfile: &Clusterfile) -> Result<()> {
        let mut kept = clusterfile.clone();
        self.unseal(&mut kept)?;
        atomic_file::write(&self.file(&kept.cluster.name), kept.to_kept_yaml()?.as_bytes(), 0o600)
    }

    /// As [`Self::save`], and records the hosts that are about to leave the cluster, until [`Self::all_left`]: a run that is killed
    /// forgets none of them.
    ///
    /// # Errors
    /// Fails if the records cannot be written.
    pub fn save_with_departing(&self, clusterfile: &Clusterfile, departing: Vec<HostSpec>) -> Result<()> {
        if !departing.is_empty() {
            let mut left = clusterfile.clone();
            self.unseal(&mut left)?;
            let known = self.departing(&left.cluster.name)?;
            left.cluster.hosts = departing;
            let new = |host: &HostSpec| left.cluster.hosts.iter().all(|other| other.address != host.address);
            let earlier: Vec<HostSpec> = known.into_iter().filter(new).collect();
            left.cluster.hosts.extend(earlier);
            // a Clusterfile needs a master
            left.cluster.hosts.iter_mut().for_each(|host| host.roles = vec![MASTER.to_owned()]);
            atomic_file::write(&self.departing_file(&left.cluster.name), left.to_kept_yaml()?.as_bytes(), 0o600)?;
        }
        self.save(clusterfile)
    }

    /// The hosts that were about to leave a cluster when a run was cut off.
    ///
    /// # Errors
    /// Fails if the record is damaged.
    pub fn departing(&self, name: &str) -> Result<Vec<HostSpec>> {
        let file = self.departing_file(name);
        let Ok(text) = std::fs::read_to_string(&file) else { return Ok(Vec::new()) };
        Ok(clusterfile::load(&file.display().to_string(), &text).with_context(|| format!("cluster {name}"))?.cluster.hosts)
    }

    /// Records that no host is about to leave a cluster any more.
    ///
    /// # Errors
    /// Fails if the record cannot be removed.
    pub fn all_left(&self, name: &str) -> Result<()> {
        match fs_err::remove_file(self.departing_file(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Gives a Clusterfile the key of this machine, and opens what is sealed with it. The first one with secrets makes the key.
    ///
    /// # Errors
    /// Fails if the file of the key holds none, or cannot be written.
    pub fn unseal(&self, clusterfile: &mut Clusterfile) -> Result<()> {
        if clusterfile.secrets_key.is_none()
            && clusterfile.has_secrets()
            && let Some(key) = self.key(clusterfile.sealed_places().is_empty())?
        {
            clusterfile.unseal(key);
        }
        Ok(())
    }

    /// The key for secrets. Where there is none, a new one is made only if `create`.
    fn key(&self, create: bool) -> Result<Option<SecretsKey>> {
        let file = self.key_file.display();
        match std::fs::read_to_string(&self.key_file) {
            Ok(text) => Ok(Some(SecretsKey::parse(&text).with_context(|| {
                Failure::usage(format!("{file}: not a key for secrets"))
                    .hint("restore it, or remove it: a new one is made, and secrets must be given again")
            })?)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && create => self.create_key().map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("key for secrets {file}")),
        }
    }

    /// Makes a key; that of another process that was faster counts.
    fn create_key(&self) -> Result<SecretsKey> {
        let key = SecretsKey::generate();
        let draft = self.key_file.with_extension(format!("new-{}", std::process::id()));
        atomic_file::write(&draft, key.to_text().as_bytes(), 0o600)?;
        let linked = std::fs::hard_link(&draft, &self.key_file);
        fs_err::remove_file(&draft)?;
        match linked {
            Ok(()) => Ok(key),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.key(false)?.with_context(|| format!("key for secrets {}", self.key_file.display()))
            }
            Err(error) => Err(error).with_context(|| format!("key for secrets {}", self.key_file.display())),
        }
    }

    /// Removes the record of a cluster, but not the logs of its runs. Returns whether there was one.
    pub fn remove(&self, name: &str) -> Result<bool> {
        let was_known = self.file(name).is_file();
        if was_known {
            fs_err::remove_file(self.file(name))?;
        }
        self.all_left(name)?;
        if self.revisions(name).is_dir() {
            fs_err::remove_dir_all(self.revisions(name))?;
        }
        // only if nothing else is in it
        std::fs::remove_dir(self.root.join(name)).ok();
        Ok(was_known)
    }

    /// Deletes the log of a run that was refused, if its cluster is not known: there may be no such cluster.
    ///
    /// # Errors
    /// Fails if the log cannot be deleted.
    pub fn discard_log(&self, log: &RunLog) -> Result<()> {
        if self.file(log.cluster()).is_file() {
            return Ok(());
        }
        let others = self.logs(log.cluster()).runs().into_iter().filter(|run| run.path != log.path());
        // a cluster that was reset keeps its logs, this one too
        if others.count() > 0 {
            return Ok(());
        }
        fs_err::remove_file(log.path())?;
        // only if nothing else is in them
        log.path().ancestors().skip(1).take(2).try_for_each(std::fs::remove_dir).ok();
        Ok(())
    }

    /// Removes all that is kept of a cluster, the logs of its runs too. Returns whether there was anything.
    pub fn forget(&self, name: &str) -> Result<bool> {
        let directory = self.root.join(name);
        if !is_name(name) || !directory.is_dir() {
            return Ok(false);
        }
        fs_err::remove_dir_all(directory)?;
        Ok(true)
    }

    /// The names of all clusters, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = self.directories();
        names.retain(|name| self.file(name).is_file());
        names
    }

    /// The names of all clusters, also of those that were reset, of which there are only logs; sorted.
    pub fn names_with_logs(&self) -> Vec<String> {
        let mut names = self.directories();
        names.retain(|name| self.file(name).is_file() || !self.logs(name).runs().is_empty());
        names
    }

    fn directories(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.root).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The Clusterfile of the cluster with this name; without a name, of the only cluster.
    ///
    /// # Errors
    /// `Usage` if there is no such cluster, or several and no name.
    pub fn load(&self, name: Option<&str>) -> Result<Clusterfile> {
        let name = self.choose(name, &self.names())?;
        let file = self.file(&name);
        let text = std::fs::read_to_string(&file).map_err(|_| self.unknown(&name, &self.names()))?;
        let mut clusterfile = clusterfile::load(&file.display().to_string(), &text).with_context(|| format!("cluster {name}"))?;
        self.unseal(&mut clusterfile)?;
        Ok(clusterfile)
    }

    /// The cluster with this name among `names`; without a name, the only one.
    ///
    /// # Errors
    /// `Usage` if there is no such cluster, or several and no name.
    pub fn choose(&self, name: Option<&str>, names: &[String]) -> Result<String> {
        match (name, names) {
            (Some(name), _) if names.iter().any(|known| known == name) => Ok(name.to_owned()),
            (Some(name), _) => Err(self.unknown(name, names).into()),
            (None, [only]) => Ok(only.clone()),
            (None, []) => Err(Failure::usage("no cluster is known on this machine").hint("name its Clusterfile: `-f Clusterfile`").into()),
            (None, names) => {
                let names = names.join(", ");
                Err(Failure::usage(format!("several clusters are known on this machine: {names}")).hint("name one of them").into())
            }
        }
    }

    fn unknown(&self, name: &str, names: &[String]) -> Failure {
        let hint = match names {
            [] => "name its Clusterfile: `-f Clusterfile`".to_owned(),
            names => format!("known clusters: {}", names.join(", ")),
        };
        Failure::usage(format!("no such cluster: {name} (not known on this machine)")).hint(hint)
    }

    /// The logs of the runs on a cluster.
    pub fn logs(&self, name: &str) -> RunLogs {
        RunLogs::new(self.root.join(name).join("runs"))
    }

    /// Keeps a revision of a cluster here too, for when none of its hosts can be asked.
    pub fn save_revision(&self, revision: &Revision) -> Result<()> {
        revision.save(&self.revisions(&revision.cluster))
    }

    /// The revisions of a cluster that this machine has made, the newest last.
    pub fn revisions_of(&self, name: &str) -> Vec<Revision> {
        Revision::load_all(&self.revisions(name))
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

    fn departing_file(&self, name: &str) -> PathBuf {
        self.root.join(name).join("departing")
    }

    fn revisions(&self, name: &str) -> PathBuf {
        self.root.join(name).join("revisions")
    }
}

/// Whether it names one directory, and no other place.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const TEXT: &str = "apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {name: shop}\nspec: {image: 'shop:1', env: [A=geheim], hosts: [{ips: [10.0.0.1], roles: [master]}]}\n";

    #[test]
    fn hosts_that_are_about_to_leave_are_kept_until_all_have_left() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = KnownClusters::new(dir.path());
        let clusterfile = clusterfile::load("Clusterfile", TEXT).unwrap();
        let host = |last: u8| HostSpec { address: [10, 0, 0, last].into(), ..clusterfile.cluster.hosts[0].clone() };
        let departing = || clusters.departing("shop").unwrap().iter().map(|host| host.address.to_string()).collect::<Vec<_>>();
        assert!(departing().is_empty());
        clusters.save_with_departing(&clusterfile, vec![host(2)]).unwrap();
        clusters.save_with_departing(&clusterfile, vec![host(3)]).unwrap();
        clusters.save_with_departing(&clusterfile, Vec::new()).unwrap();
        assert_eq!(departing(), ["10.0.0.3", "10.0.0.2"]);
        assert_eq!(clusters.load(None).unwrap().cluster.hosts.len(), 1);
        clusters.all_left("shop").unwrap();
        clusters.all_left("shop").unwrap();
        assert!(departing().is_empty());
    }

    #[test]
    fn the_only_cluster_needs_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = KnownClusters::new(dir.path());
        assert!(clusters.load(None).unwrap_err().to_string().contains("no cluster is known"));
        let mut clusterfile = clusterfile::load("Clusterfile", TEXT).unwrap();
        clusters.save(&clusterfile).unwrap();
        assert_eq!(clusters.load(None).unwrap().cluster.name, "shop");
        clusterfile.cluster.name = "other".into();
        clusters.save(&clusterfile).unwrap();
        assert!(clusters.load(None).unwrap_err().to_string().contains("other, shop"));
        assert!(clusters.load(Some("nope")).unwrap_err().to_string().contains("no such cluster: nope"));
        assert!(clusters.remove("other").unwrap() && !clusters.remove("other").unwrap());
        assert_eq!(clusters.load(Some("shop")).unwrap().cluster.hosts.len(), 1);
    }

    #[test]
    fn secrets_are_kept_sealed_and_read_with_the_key_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = KnownClusters::new(dir.path());
        clusters.save(&clusterfile::load("Clusterfile", TEXT).unwrap()).unwrap();
        let kept = std::fs::read_to_string(clusters.file("shop")).unwrap();
        assert!(!kept.contains("geheim"), "{kept}");
        assert_eq!(clusters.load(None).unwrap().cluster.env["A"], "geheim");
        let key = dir.path().join("secrets.key");
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        // elsewhere the cluster is known, but not its secrets
        std::fs::rename(&key, dir.path().join("moved")).unwrap();
        let unknown = clusters.load(None).unwrap();
        assert_eq!(unknown.sealed_places(), ["env `A`"]);
        assert!(!key.exists(), "a key that opens nothing is not made");
        let moved = clusters.with_key_file(Some(dir.path().join("moved")));
        assert_eq!(moved.load(None).unwrap().cluster.env["A"], "geheim");
    }

    #[test]
    fn records_of_older_versions_with_values_in_clear_are_read_and_sealed_by_the_next_run() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = KnownClusters::new(dir.path());
        std::fs::create_dir_all(dir.path().join("clusters/shop")).unwrap();
        std::fs::write(clusters.file("shop"), TEXT).unwrap();
        let loaded = clusters.load(None).unwrap();
        assert_eq!(loaded.cluster.env["A"], "geheim");
        clusters.save(&loaded).unwrap();
        assert!(!std::fs::read_to_string(clusters.file("shop")).unwrap().contains("geheim"));
    }

    #[test]
    fn a_refused_run_leaves_no_log_of_a_cluster_that_is_not_known() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = KnownClusters::new(dir.path());
        let clusterfile = clusterfile::load("Clusterfile", TEXT).unwrap();
        let begin = |name: &str| {
            let begun = super::super::Begun { command: "run".into(), cluster: name.into(), ..Default::default() };
            clusters.logs(name).begin(begun, super::super::Redactor::new(&clusterfile)).unwrap()
        };
        clusters.discard_log(&begin("invented")).unwrap();
        assert!(!dir.path().join("clusters/invented").exists());
        clusters.save(&clusterfile).unwrap();
        clusters.discard_log(&begin("shop")).unwrap();
        assert_eq!(clusters.logs("shop").runs().len(), 1);
        clusters.remove("shop").unwrap();
        clusters.discard_log(&begin("shop")).unwrap();
        assert_eq!(clusters.logs("shop").runs().len(), 2, "a cluster that was reset keeps its logs");
    }

    #[test]
    fn removing_keeps_the_logs_and_forgetting_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let clusters = KnownClusters::new(dir.path());
        clusters.save(&clusterfile::load("Clusterfile", TEXT).unwrap()).unwrap();
        let runs = dir.path().join("clusters/shop/runs");
        std::fs::create_dir(&runs).unwrap();
        std::fs::write(runs.join("20261201T000000.000Z-run.jsonl"), "").unwrap();
        assert!(clusters.remove("shop").unwrap());
        assert_eq!((clusters.names().len(), clusters.names_with_logs()), (0, vec!["shop".to_owned()]));
        assert!(clusters.forget("shop").unwrap() && !clusters.forget("shop").unwrap());
        assert!(!clusters.forget("..").unwrap() && !clusters.forget("").unwrap() && dir.path().join("clusters").is_dir());
    }
}
