//! The undo ledger: a snapshot of each resource before its first change, so that all changes can be undone.
//!
//! `/var/lib/sealift/undo/ledger.jsonl` is append-only: a line is the CRC-32 of the rest (8 hex digits), a space, and a JSON
//! object. A line is on disk before its change is made. A last line that was cut off by a crash is dropped.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Resource, Snapshot, State, System, interrupted};
use crate::atomic_file;
use crate::error::Failure;
use crate::paths::UNDO_LEDGER;

/// How long to wait for another process that has the ledger locked.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// The undo ledger of this host, locked by this process while it is open.
pub struct Ledger<'a> {
    system: &'a System,
    file: File,
    entries: Vec<Entry>,
}

/// What one line holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Record {
    /// A resource is about to change.
    #[serde(rename = "before")]
    Snapshot(Box<Entry>),
    /// The change with this number, counted from 0, was undone.
    Undone(usize),
}

/// A resource and its snapshot from before its first change.
#[derive(Serialize, Deserialize)]
struct Entry {
    title: String,
    resource: Resource,
    #[serde(rename = "before")]
    snapshot: Snapshot,
    #[serde(skip)]
    undone: bool,
}

impl<'a> Ledger<'a> {
    /// Opens and locks the ledger, and creates it if there is none.
    ///
    /// # Errors
    /// Fails if another process has it locked for 60 seconds; of kind `Verification` if a line is damaged.
    pub fn open(system: &'a System) -> Result<Self> {
        let path = system.path(UNDO_LEDGER);
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs_err::create_dir_all(parent)?;
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&path).context("undo ledger")?;
        atomic_file::sync_dir(parent)?;
        lock(&file)?;
        let bytes = fs_err::read(&path)?;
        let (entries, valid_bytes) = read(&bytes)?;
        file.set_len(valid_bytes as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Ledger { system, file, entries })
    }

    /// Applies a resource: records its snapshot, applies it, checks it again. Returns whether there was anything to do.
    ///
    /// # Errors
    /// Of kind `Verification` if the resource is still not as desired afterwards.
    pub fn apply(&mut self, resource: &Resource, log: &mut dyn FnMut(&str)) -> Result<bool> {
        let reconciler = resource.reconciler();
        if reconciler.check(self.system)? == State::Present {
            return Ok(false);
        }
        self.record(resource)?;
        reconciler.apply(self.system, log)?;
        match reconciler.check(self.system)? {
            State::Present => Ok(true),
            State::Absent => Err(Failure::verification("applied, but still absent").into()),
            State::Differs { actual, desired } => {
                Err(Failure::verification(format!("applied, but still drifted: actual {actual}, desired {desired}")).into())
            }
        }
    }

    /// Undoes all changes, the newest first, and returns how many there were. A change whose undo fails is skipped, named in the
    /// error, and tried again the next time.
    pub fn undo(&mut self, log: &mut dyn FnMut(&str)) -> Result<usize> {
        let (mut count, mut failed) = (0, Vec::new());
        for number in (0..self.entries.len()).rev().filter(|&number| !self.entries[number].undone).collect::<Vec<_>>() {
            if self.system.stop().is_cancelled() {
                return Err(interrupted(format!("interrupted: {count} changes undone, {} left", self.pending())).into());
            }
            let entry = &self.entries[number];
            log(&format!("undo {}", entry.title));
            match entry.resource.reconciler().undo(self.system, &entry.snapshot, log) {
                Ok(()) => {
                    self.append(&Record::Undone(number))?;
                    self.entries[number].undone = true;
                    count += 1;
                }
                Err(error) => failed.push(format!("{}: {error:#}", entry.title)),
            }
        }
        if !failed.is_empty() {
            return Err(Failure::failed(format!("not undone: {}", failed.join("; ")))
                .hint("fix the cause, then run the same command again")
                .into());
        }
        self.entries.clear();
        self.file.set_len(0)?;
        self.file.sync_all()?;
        Ok(count)
    }

    /// The number of changes that are not undone yet.
    pub fn pending(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.undone).count()
    }

    fn record(&mut self, resource: &Resource) -> Result<()> {
        let title = resource.title();
        if self.entries.iter().any(|entry| entry.title == title && !entry.undone) {
            return Ok(());
        }
        let snapshot = resource.reconciler().snapshot(self.system)?;
        let line = Record::Snapshot(Box::new(Entry { title, resource: resource.for_undo(), snapshot, undone: false }));
        self.append(&line)?;
        if let Record::Snapshot(entry) = line {
            self.entries.push(*entry);
        }
        Ok(())
    }

    fn append(&mut self, line: &Record) -> Result<()> {
        let text = serde_json::to_string(line)?;
        self.file.write_all(format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes())).as_bytes()).context("undo ledger")?;
        self.file.sync_data().context("undo ledger")
    }
}

/// The entries in `bytes`, and the length in bytes of its whole lines.
fn read(bytes: &[u8]) -> Result<(Vec<Entry>, usize)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut valid_bytes = 0;
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let Some(parsed) = parse(line) else {
            if valid_bytes + line.len() == bytes.len() {
                break;
            }
            return Err(Failure::verification(format!("undo ledger: line {} is damaged", number + 1))
                .hint(format!("inspect {UNDO_LEDGER} on the host; remove that line to undo the other changes"))
                .into());
        };
        match parsed {
            Record::Snapshot(entry) => entries.push(*entry),
            Record::Undone(number) => entries.get_mut(number).into_iter().for_each(|entry| entry.undone = true),
        }
        valid_bytes += line.len();
    }
    Ok((entries, valid_bytes))
}

fn parse(line: &[u8]) -> Option<Record> {
    let (crc, text) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.trim_end(), 16).ok()?;
    (crc == crc32fast::hash(text)).then(|| serde_json::from_slice(text).ok())?
}

fn lock(file: &File) -> Result<()> {
    let deadline = Instant::now() + LOCK_TIMEOUT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Failure::failed(format!("undo ledger {UNDO_LEDGER}: locked by another sealift that is changing this host"))
                    .hint("wait until it is done, or stop it, then run the same command again")
                    .into());
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(error).context("undo ledger"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::FakeHost;
    use crate::resource::{Content, Sysctl};

    fn sysctl(value: u32) -> Resource {
        Resource::Sysctl(Sysctl::exactly("vm.x", value))
    }

    #[test]
    fn only_the_first_snapshot_counts_and_undo_restores_it() {
        let host = FakeHost::new();
        host.write("/proc/sys/vm/x", "0\n");
        let mut output = Vec::new();
        for value in [1, 2, 1, 1] {
            Ledger::open(&host.system).unwrap().apply(&sysctl(value), &mut |_| ()).unwrap();
        }
        let mut ledger = Ledger::open(&host.system).unwrap();
        assert_eq!((ledger.pending(), host.read("/proc/sys/vm/x").as_str()), (2, "1\n"));
        assert_eq!(ledger.undo(&mut |line| output.push(line.to_owned())).unwrap(), 2);
        assert_eq!(output, ["undo sysctl vm.x=2", "undo sysctl vm.x=1"]);
        assert_eq!(host.read("/proc/sys/vm/x"), "0\n");
        drop(ledger);
        assert_eq!(Ledger::open(&host.system).unwrap().undo(&mut |_| ()).unwrap(), 0);
    }

    #[test]
    fn an_undo_that_is_stopped_ends_between_two_changes() {
        let host = FakeHost::new();
        host.write("/proc/sys/vm/x", "0\n");
        for value in [1, 2, 3] {
            Ledger::open(&host.system).unwrap().apply(&sysctl(value), &mut |_| ()).unwrap();
        }
        let stop = tokio_util::sync::CancellationToken::new();
        let system = host.system.clone().with_stop(stop.clone());
        let error = Ledger::open(&system).unwrap().undo(&mut |_| stop.cancel()).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), crate::error::Kind::Interrupted);
        assert!(error.to_string().contains("1 changes undone, 2 left"), "{error}");
        assert_eq!(Ledger::open(&host.system).unwrap().undo(&mut |_| ()).unwrap(), 2);
    }

    #[test]
    fn a_second_apply_changes_nothing() {
        let host = FakeHost::new();
        host.write("/proc/sys/vm/x", "0\n");
        let mut ledger = Ledger::open(&host.system).unwrap();
        assert!(ledger.apply(&sysctl(1), &mut |_| ()).unwrap());
        assert!(!ledger.apply(&sysctl(1), &mut |_| ()).unwrap());
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_a_damaged_one_is_named() {
        let host = FakeHost::new();
        host.write("/proc/sys/vm/x", "0\n");
        Ledger::open(&host.system).unwrap().apply(&sysctl(1), &mut |_| ()).unwrap();
        let path = "/var/lib/sealift/undo/ledger.jsonl";
        let whole = host.read(path);
        for torn in 1..whole.len() {
            host.write(path, &format!("{whole}{}", &whole[..torn]));
            let mut ledger = Ledger::open(&host.system).unwrap();
            assert_eq!(ledger.pending(), 1, "{torn}");
            ledger.apply(&sysctl(2), &mut |_| ()).unwrap();
            drop(ledger);
            assert_eq!(Ledger::open(&host.system).unwrap().pending(), 2, "{torn}");
            host.write("/proc/sys/vm/x", "1\n");
            host.write("/etc/sysctl.d/95-sealift.conf", "");
        }
        host.write(path, &format!("{}{whole}", whole.replace("vm.x", "vm.y")));
        let error = Ledger::open(&host.system).err().unwrap().to_string();
        assert!(error.contains("line 1 is damaged"), "{error}");
    }

    #[test]
    fn a_failed_undo_is_tried_again() {
        let host = FakeHost::new();
        host.write("/etc/a", "old a");
        host.write("/etc/b", "old b");
        let mut ledger = Ledger::open(&host.system).unwrap();
        for path in ["/etc/a", "/etc/b"] {
            ledger.apply(&Resource::File(host.owned_file(super::super::File::new(path, "new", 0o644))), &mut |_| ()).unwrap();
        }
        std::fs::remove_file(host.system.path("/etc/b")).unwrap();
        std::fs::create_dir(host.system.path("/etc/b")).unwrap();
        host.write("/etc/b/in-the-way", "");
        let error = ledger.undo(&mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("file /etc/b"), "{error}");
        drop(ledger);
        std::fs::remove_file(host.system.path("/etc/b/in-the-way")).unwrap();
        assert_eq!(Ledger::open(&host.system).unwrap().undo(&mut |_| ()).unwrap(), 1);
        assert_eq!((host.read("/etc/a").as_str(), host.read("/etc/b").as_str()), ("old a", "old b"));
    }

    #[test]
    fn a_ledger_of_the_first_version_is_undone() {
        let host = FakeHost::new();
        host.program("systemctl", "echo LoadState=not-found");
        let saved = crate::image::Digest::of(b"old");
        host.write(&format!("{}/{}", crate::paths::UNDO_BACKUPS, saved.hex()), "old");
        host.write("/proc/sys/vm/x", "1\n");
        host.write("/etc/fstab", "#sealift# /swap.img none swap sw 0 0\n");
        host.write("/etc/modules-load.d/sealift.conf", "overlay\n");
        host.write("/etc/cni/net.d/10-new.conflist", "x");
        for path in ["/usr/bin/tool", "/etc/containerd/certs.d/_default/hosts.toml", "/var/lib/containerd/x"] {
            host.write(path, "new");
        }
        let owner = format!("\"uid\":{},\"gid\":{}", rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let entries = [
            r#""resource":"sysctl","key":"vm.x","value":"1","rule":"exactly","optional":false},"before":{"line":null,"live":"0"}"#.to_owned(),
            r#""resource":"module","name":"overlay","optional":false},"before":{"listed":false,"loaded":true}"#.to_owned(),
            r#""resource":"swap-off"},"before":{"active":[],"lines":["/swap.img none swap sw 0 0"]}"#.to_owned(),
            format!(
                r#""resource":"host-tree","manifest":"{saved}","env":{{}},"places":[{{"from":"host","to":"/","programs":false}}]}},"before":{{"/usr/bin/tool":{{"was":"file","saved":"{saved}","mode":493,{owner}}}}}"#
            ),
            r#""resource":"link","path":"/usr/bin/link","target":"tool"},"before":{"was":"link","target":"elsewhere"}"#.to_owned(),
            r#""resource":"mirror","registry":"_default","endpoints":[],"config_path":"/etc/containerd/certs.d"},"before":{"was":"absent","parents":2}"#.to_owned(),
            r#""resource":"owned-tree","path":"/var/lib/containerd"},"before":{"kept":{"was":"absent","parents":0},"empty":true}"#.to_owned(),
            r#""resource":"unit","name":"kubelet.service","enabled":true,"running":false,"inputs":[]},"before":{"enabled":false,"running":false,"drop_in":{"was":"absent","parents":0}}"#.to_owned(),
            r#""resource":"kubeadm-init","node":"h1","config":{"text":""},"skip_phases":[],"ignore":["Mem"]},"before":{"links":[],"routes":[],"cni":[]}"#.to_owned(),
            r#""resource":"kubeadm-join","node":"h1","master":true,"config":{"text":""},"meanwhile":["api","10.0.0.1"],"ignore":["Mem"]},"before":{"links":[],"routes":[],"cni":[]}"#.to_owned(),
            r#""resource":"kube-app","name":"shop","directory":"/app","files":["a.yaml"],"patience":60,"wait":true},"before":{}"#.to_owned(),
            r#""resource":"kube-health","nodes":["h1"],"patience":60},"before":{}"#.to_owned(),
        ];
        let lines = (0..).zip(&entries).map(|(number, entry)| format!(r#"{{"before":{{"title":"{number}","resource":{{{entry}}}}}"#));
        let lines = lines.chain([r#"{"undone":11}"#.to_owned()]).map(|line| format!("{:08x} {line}\n", crc32fast::hash(line.as_bytes())));
        host.write(UNDO_LEDGER, &lines.collect::<String>());
        let mut ledger = Ledger::open(&host.system).unwrap();
        assert_eq!(ledger.undo(&mut |_| ()).unwrap(), entries.len() - 1);
        assert_eq!(host.read("/proc/sys/vm/x"), "0\n");
        assert_eq!(host.read("/etc/fstab"), "/swap.img none swap sw 0 0\n");
        assert_eq!(host.read("/usr/bin/tool"), "old");
        assert_eq!(std::fs::read_link(host.system.path("/usr/bin/link")).unwrap(), Path::new("elsewhere"));
        for path in ["/etc/modules-load.d/sealift.conf", "/etc/cni/net.d/10-new.conflist", "/etc/containerd/certs.d", "/var/lib/containerd"]
        {
            assert!(!host.system.path(path).exists(), "{path}");
        }
    }

    #[test]
    fn contents_do_not_enter_the_ledger() {
        let host = FakeHost::new();
        let file =
            super::super::File { content: Content::from("s3cret"), ..host.owned_file(super::super::File::new("/etc/key", "", 0o600)) };
        Ledger::open(&host.system).unwrap().apply(&Resource::File(file), &mut |_| ()).unwrap();
        assert!(!host.read("/var/lib/sealift/undo/ledger.jsonl").contains("s3cret"));
    }

    #[test]
    fn secrets_in_environments_do_not_enter_the_ledger() {
        use crate::resource::{Command, Script};
        let host = FakeHost::real_programs();
        host.write("/bin/sh", "");
        host.write("/app/install.sh", "test $Password = s3cret");
        host.write("/app/uninstall.sh", "echo $DataDir-$Password >>output");
        let env: std::collections::BTreeMap<_, _> =
            [("Password", "s3cret"), ("DataDir", "/data")].map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (directory, image) = (std::path::PathBuf::from("/app"), crate::image::Digest::of(b"image"));
        let line = "test -n $Password".to_owned();
        let command = Command { name: "app".into(), directory: directory.clone(), line, env: env.clone(), image };
        let script = Script {
            name: "install".into(),
            directory,
            apply: "install.sh".into(),
            check: None,
            undo: Some("uninstall.sh".into()),
            env,
            public: ["DataDir".to_owned()].into(),
        };
        let mut ledger = Ledger::open(&host.system).unwrap();
        for resource in [Resource::Script(script), Resource::Command(command)] {
            assert!(ledger.apply(&resource, &mut |_| ()).unwrap());
        }
        assert!(!host.read("/var/lib/sealift/undo/ledger.jsonl").contains("s3cret"));
        drop(ledger);
        Ledger::open(&host.system).unwrap().undo(&mut |_| ()).unwrap();
        assert_eq!(host.read("/app/output"), "/data-\n");
    }
}
