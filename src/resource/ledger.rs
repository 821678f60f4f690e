//! The undo ledger: what each resource found before its first change, so that all can be taken back.
//!
//! `/var/lib/sealift/undo/ledger.jsonl` only grows: a line is the CRC-32 of the rest (8 hex digits), a blank, and a JSON
//! object. A line is on disk before its change is made. A last line that was cut off by a crash is dropped.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Resource, Snapshot, State, System};
use crate::atomic_file;
use crate::error::Failure;
use crate::paths::UNDO_LEDGER;

/// A change of another process is awaited this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The undo ledger of this host, held by this process alone while it is open.
pub struct Ledger<'a> {
    system: &'a System,
    file: File,
    entries: Vec<Entry>,
}

/// A line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Before(Box<Entry>),
    Undone(usize),
}

/// What a resource found.
#[derive(Serialize, Deserialize)]
struct Entry {
    title: String,
    resource: Resource,
    before: Snapshot,
    #[serde(skip)]
    undone: bool,
}

impl<'a> Ledger<'a> {
    /// Opens the ledger, waiting for another process that has it open.
    pub fn open(system: &'a System) -> Result<Self> {
        let path = system.path(UNDO_LEDGER);
        let parent = path.parent().unwrap_or(Path::new("/"));
        fs_err::create_dir_all(parent)?;
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&path).context("undo ledger")?;
        atomic_file::sync_dir(parent)?;
        lock(&file)?;
        let bytes = fs_err::read(&path)?;
        let (entries, good) = read(&bytes)?;
        file.set_len(good as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Ledger { system, file, entries })
    }

    /// Makes a resource so: what was before is remembered, then it is applied, then checked. Whether there was anything to do.
    pub fn apply(&mut self, resource: &Resource, say: &mut dyn FnMut(&str)) -> Result<bool> {
        let act = resource.reconciler();
        if act.check(self.system)? == State::Present {
            return Ok(false);
        }
        self.remember(resource)?;
        act.apply(self.system, say)?;
        match act.check(self.system)? {
            State::Present => Ok(true),
            State::Absent => Err(Failure::verification("applied, but it is still not there").into()),
            State::Differs { actual: is, desired: shall } => {
                Err(Failure::verification(format!("applied, but it is {is}; it shall be {shall}")).into())
            }
        }
    }

    /// Takes everything back, the newest first, and tells how many it were. What cannot be taken back is skipped, told in the
    /// error, and tried again the next time.
    pub fn undo(&mut self, say: &mut dyn FnMut(&str)) -> Result<usize> {
        let (mut count, mut failed) = (0, Vec::new());
        for number in (0..self.entries.len()).rev().filter(|&number| !self.entries[number].undone).collect::<Vec<_>>() {
            let entry = &self.entries[number];
            say(&format!("undo {}", entry.title));
            match entry.resource.reconciler().undo(self.system, &entry.before, say) {
                Ok(()) => {
                    self.append(&Line::Undone(number))?;
                    self.entries[number].undone = true;
                    count += 1;
                }
                Err(error) => failed.push(format!("{}: {error:#}", entry.title)),
            }
        }
        if !failed.is_empty() {
            return Err(Failure::failed(format!("not taken back: {}", failed.join("; "))).hint("run the same command again").into());
        }
        self.entries.clear();
        self.file.set_len(0)?;
        self.file.sync_all()?;
        Ok(count)
    }

    /// How many changes can be taken back.
    pub fn pending(&self) -> usize {
        self.entries.iter().filter(|entry| !entry.undone).count()
    }

    fn remember(&mut self, resource: &Resource) -> Result<()> {
        let title = resource.title();
        if self.entries.iter().any(|entry| entry.title == title && !entry.undone) {
            return Ok(());
        }
        let before = resource.reconciler().snapshot(self.system)?;
        let line = Line::Before(Box::new(Entry { title, resource: resource.for_undo(), before, undone: false }));
        self.append(&line)?;
        if let Line::Before(entry) = line {
            self.entries.push(*entry);
        }
        Ok(())
    }

    fn append(&mut self, line: &Line) -> Result<()> {
        let text = serde_json::to_string(line)?;
        self.file.write_all(format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes())).as_bytes()).context("undo ledger")?;
        self.file.sync_data().context("undo ledger")
    }
}

/// The entries in `bytes`, and how many bytes are whole lines.
fn read(bytes: &[u8]) -> Result<(Vec<Entry>, usize)> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut good = 0;
    for (number, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        let Some(parsed) = parse(line) else {
            if good + line.len() == bytes.len() {
                break;
            }
            return Err(Failure::verification(format!("undo ledger: line {} is damaged", number + 1))
                .hint(format!("look at {UNDO_LEDGER} on the host; without that line the rest can be undone"))
                .into());
        };
        match parsed {
            Line::Before(entry) => entries.push(*entry),
            Line::Undone(number) => entries.get_mut(number).into_iter().for_each(|entry| entry.undone = true),
        }
        good += line.len();
    }
    Ok((entries, good))
}

fn parse(line: &[u8]) -> Option<Line> {
    let (crc, text) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
    let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.trim_end(), 16).ok()?;
    (crc == crc32fast::hash(text)).then(|| serde_json::from_slice(text).ok())?
}

fn lock(file: &File) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(100)),
            Err(std::fs::TryLockError::WouldBlock) => {
                return Err(Failure::failed("another sealift is changing this host").hint("wait until it is done, or end it").into());
            }
            Err(std::fs::TryLockError::Error(error)) => return Err(error).context("undo ledger"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::Lab;
    use crate::resource::{Content, Sysctl};

    fn sysctl(value: u32) -> Resource {
        Resource::Sysctl(Sysctl::exactly("vm.x", value))
    }

    #[test]
    fn only_the_first_before_counts_and_undo_takes_all_back() {
        let lab = Lab::new();
        lab.write("/proc/sys/vm/x", "0\n");
        let mut said = Vec::new();
        for value in [1, 2, 1, 1] {
            Ledger::open(&lab.system).unwrap().apply(&sysctl(value), &mut |_| ()).unwrap();
        }
        let mut ledger = Ledger::open(&lab.system).unwrap();
        assert_eq!((ledger.pending(), lab.read("/proc/sys/vm/x").as_str()), (2, "1\n"));
        assert_eq!(ledger.undo(&mut |line| said.push(line.to_owned())).unwrap(), 2);
        assert_eq!(said, ["undo sysctl vm.x=2", "undo sysctl vm.x=1"]);
        assert_eq!(lab.read("/proc/sys/vm/x"), "0\n");
        drop(ledger);
        assert_eq!(Ledger::open(&lab.system).unwrap().undo(&mut |_| ()).unwrap(), 0);
    }

    #[test]
    fn a_second_apply_changes_nothing() {
        let lab = Lab::new();
        lab.write("/proc/sys/vm/x", "0\n");
        let mut ledger = Ledger::open(&lab.system).unwrap();
        assert!(ledger.apply(&sysctl(1), &mut |_| ()).unwrap());
        assert!(!ledger.apply(&sysctl(1), &mut |_| ()).unwrap());
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_a_damaged_one_is_named() {
        let lab = Lab::new();
        lab.write("/proc/sys/vm/x", "0\n");
        Ledger::open(&lab.system).unwrap().apply(&sysctl(1), &mut |_| ()).unwrap();
        let path = "/var/lib/sealift/undo/ledger.jsonl";
        let whole = lab.read(path);
        for torn in 1..whole.len() {
            lab.write(path, &format!("{whole}{}", &whole[..torn]));
            let mut ledger = Ledger::open(&lab.system).unwrap();
            assert_eq!(ledger.pending(), 1, "{torn}");
            ledger.apply(&sysctl(2), &mut |_| ()).unwrap();
            drop(ledger);
            assert_eq!(Ledger::open(&lab.system).unwrap().pending(), 2, "{torn}");
            lab.write("/proc/sys/vm/x", "1\n");
            lab.write("/etc/sysctl.d/95-sealift.conf", "");
        }
        lab.write(path, &format!("{}{whole}", whole.replace("vm.x", "vm.y")));
        let error = Ledger::open(&lab.system).err().unwrap().to_string();
        assert!(error.contains("line 1 is damaged"), "{error}");
    }

    #[test]
    fn what_cannot_be_taken_back_is_tried_again() {
        let lab = Lab::new();
        lab.write("/etc/a", "old a");
        lab.write("/etc/b", "old b");
        let mut ledger = Ledger::open(&lab.system).unwrap();
        for path in ["/etc/a", "/etc/b"] {
            ledger.apply(&Resource::File(lab.owned_file(super::super::File::new(path, "new", 0o644))), &mut |_| ()).unwrap();
        }
        std::fs::remove_file(lab.system.path("/etc/b")).unwrap();
        std::fs::create_dir(lab.system.path("/etc/b")).unwrap();
        lab.write("/etc/b/in-the-way", "");
        let error = ledger.undo(&mut |_| ()).unwrap_err().to_string();
        assert!(error.contains("file /etc/b"), "{error}");
        drop(ledger);
        std::fs::remove_file(lab.system.path("/etc/b/in-the-way")).unwrap();
        assert_eq!(Ledger::open(&lab.system).unwrap().undo(&mut |_| ()).unwrap(), 1);
        assert_eq!((lab.read("/etc/a").as_str(), lab.read("/etc/b").as_str()), ("old a", "old b"));
    }

    #[test]
    fn contents_do_not_enter_the_ledger() {
        let lab = Lab::new();
        let file =
            super::super::File { content: Content::from("s3cret"), ..lab.owned_file(super::super::File::new("/etc/key", "", 0o600)) };
        Ledger::open(&lab.system).unwrap().apply(&Resource::File(file), &mut |_| ()).unwrap();
        assert!(!lab.read("/var/lib/sealift/undo/ledger.jsonl").contains("s3cret"));
    }

    #[test]
    fn secrets_in_environments_do_not_enter_the_ledger() {
        use crate::resource::{Command, Script};
        let lab = Lab::real_programs();
        lab.write("/bin/sh", "");
        lab.write("/app/install.sh", "test $Password = s3cret");
        lab.write("/app/uninstall.sh", "echo $DataDir-$Password >>said");
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
        let mut ledger = Ledger::open(&lab.system).unwrap();
        for resource in [Resource::Script(script), Resource::Command(command)] {
            assert!(ledger.apply(&resource, &mut |_| ()).unwrap());
        }
        assert!(!lab.read("/var/lib/sealift/undo/ledger.jsonl").contains("s3cret"));
        drop(ledger);
        Ledger::open(&lab.system).unwrap().undo(&mut |_| ()).unwrap();
        assert_eq!(lab.read("/app/said"), "/data-\n");
    }
}
