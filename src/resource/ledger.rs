//! The undo ledger: a snapshot of each resource before its first change, so that all changes can be undone.
//!
//! `/var/lib/sealift/undo/ledger.jsonl` is append-only: a line is the CRC-32 of the rest (8 hex digits), a space, and a JSON
//! object. A line is on disk before its change is made. A last line without its end was cut off by a crash and is dropped; any other
//! one whose CRC does not match is damaged, and the ledger is refused until an operator puts a `#` before it. A whole line that this
//! version cannot read was written by a newer one: it is kept, and the ledger is refused.
//!
//! The first line says that the ledger was begun. A host that a cluster has claimed has it, so that a ledger which is empty or missing
//! there is known to be lost. What is undone stays in the ledger, marked, until `reset` removes all files of sealift.

use std::fs::{File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::{Resource, Snapshot, State, System, interrupted};
use crate::atomic_file;
use crate::error::{Failure, Kind};
use crate::paths::{HOME, UNDO_LEDGER};

/// How long to wait for another process that has the ledger locked.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// The version of the entries that this sealift writes, and the newest that it reads. Entries of the first releases have none: 0.
const VERSION: u32 = 1;

/// The undo ledger of this host, locked by this process while it is open.
pub struct Ledger<'a> {
    system: &'a System,
    file: File,
    content: Records,
}

/// What the lines of a ledger say.
#[derive(Default)]
struct Records {
    entries: Vec<Entry>,
    /// Whether there is any whole line.
    begun: bool,
    /// The numbers of the lines, from 1, that an operator has excluded.
    excluded: Vec<usize>,
}

/// A resource that was applied on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedResource {
    /// Its identity, see [`Resource::id`].
    pub id: String,
    /// Its title.
    pub title: String,
    /// Whether it can be undone by itself, while later changes stay.
    pub revertible: bool,
}

/// What one line holds.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Record {
    /// A resource is about to change.
    #[serde(rename = "before")]
    Snapshot(Box<Entry>),
    /// The change with this number was undone.
    Undone(usize),
    /// The ledger was begun: from here on, one without lines is lost.
    Begun,
}

/// A resource and its snapshot from before its first change.
#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(default)]
    version: u32,
    /// Names it in lines of what was undone. Entries of earlier versions have none: their number is their position, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<usize>,
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
    /// Fails if another process has it locked for 60 seconds, or if a line was written by a newer sealift; of kind `Verification` if a
    /// line is damaged.
    pub fn open(system: &'a System) -> Result<Self> {
        let path = system.path(UNDO_LEDGER);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let mut file = loop {
            fs_err::create_dir_all(parent)?;
            let file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&path).context("undo ledger")?;
            lock(&file)?;
            if is_at(&file, &path) {
                break file;
            }
            // the process that had it locked removed it
        };
        atomic_file::sync_dir(parent)?;
        let bytes = fs_err::read(&path)?;
        let (content, valid_bytes) = read(&bytes)?;
        file.set_len(valid_bytes as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Ledger { system, file, content })
    }

    /// Opens it, and writes its first line if it has none: before a cluster claims the host.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn begin(system: &'a System) -> Result<Self> {
        let mut ledger = Ledger::open(system)?;
        if !ledger.content.begun {
            ledger.append(&Record::Begun)?;
            ledger.content.begun = true;
        }
        Ok(ledger)
    }

    /// Whether this host has changes that are not undone, by a ledger that is not locked for that. One that cannot be read counts as
    /// such: nothing says that there are none.
    pub fn has_changes(system: &System) -> bool {
        match std::fs::read(system.path(UNDO_LEDGER)) {
            Ok(bytes) => read(&bytes).map_or(true, |(content, _)| content.entries.iter().any(|entry| !entry.undone)),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    /// What is wrong with the ledger of a host that a cluster has claimed; `None` if it is whole.
    pub fn problem(system: &System) -> Option<anyhow::Error> {
        match std::fs::read(system.path(UNDO_LEDGER)) {
            Ok(bytes) => read(&bytes).map_or_else(Some, |(content, _)| (!content.begun).then(|| lost(true).into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(lost(false).into()),
            Err(error) => Some(anyhow::Error::from(error).context("undo ledger")),
        }
    }

    /// Applies a resource: records its snapshot, applies it, checks it again. Returns whether there was anything to do.
    ///
    /// # Errors
    /// Of kind `Verification` if the resource is still not as desired afterwards.
    pub fn apply(&mut self, resource: &Resource, log: &mut dyn FnMut(&str)) -> Result<bool> {
        if resource.reconciler().check(self.system)? == State::Present {
            return Ok(false);
        }
        self.apply_anyway(resource, log)?;
        Ok(true)
    }

    /// As [`Self::apply`], but applies the resource even if the first check finds no drift.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_anyway(&mut self, resource: &Resource, log: &mut dyn FnMut(&str)) -> Result<()> {
        let reconciler = resource.reconciler();
        self.record(resource)?;
        reconciler.apply(self.system, log)?;
        match reconciler.check(self.system)? {
            State::Present => Ok(()),
            State::Absent => Err(Failure::verification("applied, but still absent").into()),
            State::Differs { actual, desired } => {
                Err(Failure::verification(format!("applied, but still drifted: actual {actual}, desired {desired}")).into())
            }
        }
    }

    /// Undoes all changes, the newest first, and returns how many there were. It stops at the first one whose undo fails, since older
    /// changes are what newer ones build on; the next time it goes on there.
    ///
    /// # Errors
    /// Names that change.
    pub fn undo(&mut self, log: &mut dyn FnMut(&str)) -> Result<usize> {
        let mut count = 0;
        for line in &self.content.excluded {
            log(&format!("line {line} of the undo ledger is excluded: its change is not undone"));
        }
        for number in undo_order(&self.content.entries) {
            if self.content.entries[number].undone {
                continue;
            }
            if self.system.stop().is_cancelled() {
                return Err(interrupted(format!("interrupted: {count} changes undone, {} left", self.pending())).into());
            }
            let entry = &self.content.entries[number];
            log(&format!("undo {}", entry.title));
            entry.resource.reconciler().undo(self.system, &entry.snapshot, log).map_err(|error| self.not_undone(number, error))?;
            count += 1;
            for number in self.replaced_by(number) {
                self.mark_undone(number)?;
            }
        }
        Ok(count)
    }

    /// Records that an entry was undone. On a full disk it is not recorded, and undone once more the next time: what is undone frees space.
    fn mark_undone(&mut self, index: usize) -> Result<()> {
        let number = self.content.entries[index].number.unwrap_or(index);
        match self.append(&Record::Undone(number)) {
            Err(error) if !is_disk_full(&error) => return Err(error),
            _ => self.content.entries[index].undone = true,
        }
        Ok(())
    }

    /// The resources that were applied here and not undone, each once: identity and title.
    pub fn applied(&self) -> Vec<AppliedResource> {
        let mut applied: Vec<AppliedResource> = Vec::new();
        for entry in self.content.entries.iter().filter(|entry| !entry.undone) {
            let id = entry.resource.id();
            match applied.iter_mut().find(|known| known.id == id) {
                Some(known) => known.title.clone_from(&entry.title),
                None => applied.push(AppliedResource { id, title: entry.title.clone(), revertible: entry.resource.is_revertible() }),
            }
        }
        applied
    }

    /// Undoes the changes of one resource, the newest first: nobody wants it any more.
    ///
    /// # Errors
    /// Fails if it cannot be undone; the next attempt tries again.
    pub fn revert(&mut self, id: &str, log: &mut dyn FnMut(&str)) -> Result<()> {
        for number in (0..self.content.entries.len()).rev() {
            let entry = &self.content.entries[number];
            if entry.undone || entry.resource.id() != id {
                continue;
            }
            entry.resource.reconciler().undo(self.system, &entry.snapshot, log).with_context(|| entry.title.clone())?;
            self.mark_undone(number)?;
        }
        Ok(())
    }

    fn not_undone(&self, number: usize, error: anyhow::Error) -> anyhow::Error {
        let title = &self.content.entries[number].title;
        let others = match self.pending() - 1 {
            0 => String::new(),
            1 => ", and an older change waits for it".to_owned(),
            count => format!(", and {count} older changes wait for it"),
        };
        let failure = Failure::over(&error, format!("not undone: {title}{others}"));
        if failure.kind == Kind::Interrupted {
            return error.context(failure);
        }
        error.context(failure.hint("fix the cause, then run the same command again: it goes on there"))
    }

    /// An entry, and those of the same script in its earlier forms: one run of the newest undo script counts for all.
    fn replaced_by(&self, number: usize) -> Vec<usize> {
        let of = &self.content.entries[number];
        let is_replaced = |entry: &Entry| matches!(entry.resource, Resource::Script(_)) && entry.title == of.title && !entry.undone;
        (0..=number).rev().filter(|&other| other == number || is_replaced(&self.content.entries[other])).collect()
    }

    /// The number of changes that are not undone yet.
    pub fn pending(&self) -> usize {
        self.content.entries.iter().filter(|entry| !entry.undone).count()
    }

    fn record(&mut self, resource: &Resource) -> Result<()> {
        let (title, resource_for_undo) = (resource.title(), resource.for_undo());
        let known = self.content.entries.iter().rev().find(|entry| entry.title == title && !entry.undone);
        match known.map(|entry| &entry.resource) {
            // of a script the newest form is undone: an older undo script may be gone with its image
            Some(Resource::Script(known)) if matches!(&resource_for_undo, Resource::Script(new) if new != known) => {}
            Some(_) => return Ok(()),
            None => {}
        }
        let snapshot = resource.reconciler().snapshot(self.system)?;
        let next = self.content.entries.iter().filter_map(|entry| entry.number).max().map_or(0, |number| number.saturating_add(1));
        let entry = Entry { version: VERSION, number: Some(next), title, resource: resource_for_undo, snapshot, undone: false };
        let line = Record::Snapshot(Box::new(entry));
        self.append(&line)?;
        if let Record::Snapshot(entry) = line {
            self.content.entries.push(*entry);
        }
        Ok(())
    }

    fn append(&mut self, line: &Record) -> Result<()> {
        let text = serde_json::to_string(line)?;
        let line = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
        let length = self.file.metadata().context("undo ledger")?.len();
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            self.file.set_len(length).ok(); // half a line before others would be a damaged one
        }
        written.context("undo ledger")
    }
}

/// The numbers of the entries that are not undone, in the order to undo them: the newest first. What belongs to an unpacked image comes
/// after everything that was set up with it, also where a newer image was unpacked since.
fn undo_order(entries: &[Entry]) -> Vec<usize> {
    let pending: Vec<usize> = (0..entries.len()).rev().filter(|&number| !entries[number].undone).collect();
    let Some(oldest_user) = pending.iter().rev().copied().find(|&number| entries[number].resource.uses_image()) else { return pending };
    let is_deferred = |number: usize| number > oldest_user && entries[number].resource.belongs_to_image();
    let (newer, older): (Vec<usize>, Vec<usize>) = pending.into_iter().partition(|&number| number >= oldest_user);
    let (deferred, first): (Vec<usize>, Vec<usize>) = newer.into_iter().partition(|&number| is_deferred(number));
    [first, deferred, older].concat()
}

/// What a line turned out to be.
enum Line {
    Record(Record),
    /// Its CRC does not match.
    Damaged,
    /// An operator has put a `#` before it.
    Excluded {
        /// Whether it was about a change, not about an undone one: then it keeps its number.
        is_entry: bool,
    },
    /// Written by a newer sealift: why it cannot be read.
    Newer(String),
}

/// What the lines in `bytes` say, and the length in bytes of its whole lines.
fn read(bytes: &[u8]) -> Result<(Records, usize)> {
    let mut content = Records::default();
    let (mut valid_bytes, mut position) = (0, 0);
    for (number, line) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
        if !line.ends_with(b"\n") {
            break; // cut off while it was written
        }
        content.begun = true;
        match parse(line) {
            Line::Record(Record::Snapshot(entry)) => {
                content.entries.push(Entry { number: entry.number.or(Some(position)), ..*entry });
                position += 1;
            }
            Line::Record(Record::Undone(number)) => {
                let of_number = content.entries.iter_mut().filter(|entry| entry.number == Some(number));
                of_number.for_each(|entry| entry.undone = true);
            }
            Line::Record(Record::Begun) => {}
            Line::Excluded { is_entry } => {
                position += usize::from(is_entry);
                content.excluded.push(number);
            }
            Line::Damaged => {
                return Err(Failure::verification(format!("undo ledger: line {number} is damaged"))
                    .hint(format!("inspect {UNDO_LEDGER} on the host, and undo by hand what that line is about"))
                    .hint(format!("then exclude the line and run the same command again: `sed -i '{number}s/^/#/' {UNDO_LEDGER}`"))
                    .into());
            }
            Line::Newer(why) => {
                return Err(Failure::failed(format!(
                    "undo ledger: line {number} was written by a newer sealift ({why}): nothing was changed"
                ))
                .hint("use the sealift that changed this host last, or a newer one")
                .into());
            }
        }
        valid_bytes += line.len();
    }
    Ok((content, valid_bytes))
}

/// The ledger of a host that a cluster has claimed is there without a line, or missing.
fn lost(is_there: bool) -> Failure {
    let how = if is_there { "empty" } else { "missing" };
    Failure::verification(format!("the undo ledger is {how}, although a cluster has changed this host: nothing can be undone"))
        .hint(format!("restore {UNDO_LEDGER} on the host from a backup, if there is one"))
        .hint(format!("or undo by hand what was changed there, remove {HOME}, and run the same command again"))
}

/// Whether a disk without free space is the cause of an error.
pub fn is_disk_full(error: &anyhow::Error) -> bool {
    let full = [std::io::ErrorKind::StorageFull, std::io::ErrorKind::QuotaExceeded];
    error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|error| full.contains(&error.kind()))
}

fn parse(line: &[u8]) -> Line {
    if let Some(excluded) = line.strip_prefix(b"#") {
        let start = &excluded[..excluded.len().min(64)];
        return Line::Excluded { is_entry: !start.windows(8).any(|window| window == b"\"undone\"") };
    }
    let checked = || {
        let (crc, text) = line.strip_suffix(b"\n")?.split_at_checked(9)?;
        let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?.trim_end(), 16).ok()?;
        (crc == crc32fast::hash(text)).then_some(text)
    };
    let Some(text) = checked() else { return Line::Damaged };
    match serde_json::from_slice::<Record>(text) {
        Ok(Record::Snapshot(entry)) if entry.version > VERSION => Line::Newer(format!("version {}", entry.version)),
        Ok(record) => Line::Record(record),
        Err(error) => Line::Newer(newer_version(text).unwrap_or_else(|| error.to_string())),
    }
}

/// The version of an entry that cannot be read otherwise, if it is newer.
fn newer_version(text: &[u8]) -> Option<String> {
    let entry: serde_json::Value = serde_json::from_slice(text).ok()?;
    entry["before"]["version"].as_u64().filter(|version| *version > u64::from(VERSION)).map(|version| format!("version {version}"))
}

/// Whether `path` still names this open file.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let same = |a: std::fs::Metadata, b: std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    file.metadata().is_ok_and(|own| std::fs::metadata(path).is_ok_and(|there| same(own, there)))
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
        for key in ["x", "y", "z"] {
            host.write(&format!("/proc/sys/vm/{key}"), "0\n");
            let sysctl = Resource::Sysctl(Sysctl::exactly(format!("vm.{key}"), 1));
            Ledger::open(&host.system).unwrap().apply(&sysctl, &mut |_| ()).unwrap();
        }
        let stop = tokio_util::sync::CancellationToken::new();
        let system = host.system.clone().with_stop(stop.clone());
        let error = Ledger::open(&system).unwrap().undo(&mut |_| stop.cancel()).unwrap_err();
        assert_eq!(crate::error::kind_of(&error), crate::error::Kind::Interrupted);
        assert!(error.to_string().contains("1 changes undone, 2 left"), "{error}");
        assert_eq!(Ledger::open(&host.system).unwrap().undo(&mut |_| ()).unwrap(), 2);
    }

    #[test]
    fn one_resource_is_reverted_and_the_others_stay() {
        let host = FakeHost::new();
        for key in ["x", "y"] {
            host.write(&format!("/proc/sys/vm/{key}"), "0\n");
        }
        let mut ledger = Ledger::open(&host.system).unwrap();
        for (key, value) in [("vm.x", 1), ("vm.y", 1), ("vm.x", 2)] {
            ledger.apply(&Resource::Sysctl(Sysctl::exactly(key, value)), &mut |_| ()).unwrap();
        }
        let ids = |ledger: &Ledger<'_>| ledger.applied().into_iter().map(|applied| applied.id).collect::<Vec<_>>();
        assert_eq!(ids(&ledger), ["sysctl/vm.x", "sysctl/vm.y"]);
        ledger.revert("sysctl/vm.x", &mut |_| ()).unwrap();
        ledger.revert("sysctl/vm.x", &mut |_| ()).unwrap();
        drop(ledger);
        let ledger = Ledger::open(&host.system).unwrap();
        assert_eq!(ids(&ledger), ["sysctl/vm.y"]);
        assert_eq!((host.read("/proc/sys/vm/x").as_str(), host.read("/proc/sys/vm/y").as_str()), ("0\n", "1\n"));
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
            host.write("/etc/sysctl.d/99-zz-sealift.conf", "");
        }
        let damaged = whole.replace("vm.x", "vm.y");
        for (text, line) in [(format!("{damaged}{whole}"), 1), (format!("{whole}{damaged}"), 2), (damaged.clone(), 1)] {
            host.write(path, &text);
            let error = Ledger::open(&host.system).err().unwrap().to_string();
            assert!(error.contains(&format!("line {line} is damaged")), "{error}");
            assert!(Ledger::has_changes(&host.system) && Ledger::problem(&host.system).is_some());
            assert_eq!(host.read(path), text, "nothing is cut off");
        }
    }

    #[test]
    fn a_line_that_is_excluded_or_removed_changes_nothing_about_the_others() {
        let applied = |host: &FakeHost| {
            for key in ["a", "b", "c"] {
                host.write(&format!("/proc/sys/vm/{key}"), "0\n");
                let sysctl = Resource::Sysctl(Sysctl::exactly(format!("vm.{key}"), 1));
                Ledger::begin(&host.system).unwrap().apply(&sysctl, &mut |_| ()).unwrap();
            }
            Ledger::open(&host.system).unwrap().revert("sysctl/vm.c", &mut |_| ()).unwrap();
        };
        type Change = fn(&str) -> String;
        let exclude: Change = |line| format!("#{}", line.replace("vm.a", "vm.z"));
        for (name, with_numbers, change) in [
            ("excluded", true, exclude),
            ("excluded in a ledger without numbers", false, exclude),
            ("removed", true, (|_| String::new()) as Change),
        ] {
            let host = FakeHost::new();
            applied(&host);
            let text = host.read(UNDO_LEDGER);
            let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
            assert_eq!(lines.len(), 5, "{text}");
            if !with_numbers {
                lines.remove(0);
                for line in &mut lines {
                    let text = (0..3).fold(line[9..].trim_end().to_owned(), |text, at| text.replace(&format!("\"number\":{at},"), ""));
                    *line = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
                }
            }
            let of_a = lines.iter().position(|line| line.contains("vm.a")).unwrap();
            lines[of_a] = change(&lines[of_a]);
            host.write(UNDO_LEDGER, &lines.concat());
            let mut ledger = Ledger::open(&host.system).unwrap();
            let mut said = Vec::new();
            assert_eq!(ledger.undo(&mut |line| said.push(line.to_owned())).unwrap(), 1, "{name}");
            assert_eq!(said.last().map(String::as_str), Some("undo sysctl vm.b=1"), "{name}");
            assert_eq!(said.len() == 2, name.starts_with("excluded"), "{name}: {said:?}");
            assert_eq!(host.read("/proc/sys/vm/b"), "0\n", "{name}");
            // what is applied afterwards has a number of its own
            ledger.apply(&Resource::Sysctl(Sysctl::exactly("vm.c", 1)), &mut |_| ()).unwrap();
            drop(ledger);
            assert_eq!(Ledger::open(&host.system).unwrap().pending(), 1, "{name}");
        }
    }

    #[test]
    fn a_ledger_that_was_begun_and_has_no_line_is_lost() {
        let host = FakeHost::new();
        assert!(!Ledger::has_changes(&host.system));
        Ledger::begin(&host.system).unwrap();
        let begun = host.read(UNDO_LEDGER);
        assert!(Ledger::problem(&host.system).is_none() && !Ledger::has_changes(&host.system));
        Ledger::begin(&host.system).unwrap();
        assert_eq!(host.read(UNDO_LEDGER), begun, "it is begun once");
        host.write("/proc/sys/vm/x", "0\n");
        Ledger::open(&host.system).unwrap().apply(&sysctl(1), &mut |_| ()).unwrap();
        assert!(Ledger::problem(&host.system).is_none() && Ledger::has_changes(&host.system));
        Ledger::open(&host.system).unwrap().undo(&mut |_| ()).unwrap();
        assert!(Ledger::problem(&host.system).is_none() && !Ledger::has_changes(&host.system), "a reset that is cut off goes on");
        host.write(UNDO_LEDGER, "");
        assert!(Ledger::problem(&host.system).unwrap().to_string().contains("is empty"));
        std::fs::remove_file(host.system.path(UNDO_LEDGER)).unwrap();
        assert!(Ledger::problem(&host.system).unwrap().to_string().contains("is missing"));
    }

    #[test]
    fn lines_of_a_newer_version_are_kept_and_refused() {
        let host = FakeHost::new();
        host.write("/proc/sys/vm/x", "0\n");
        Ledger::open(&host.system).unwrap().apply(&sysctl(1), &mut |_| ()).unwrap();
        let whole = host.read(UNDO_LEDGER);
        assert!(whole.contains(&format!(r#""version":{VERSION}"#)), "{whole}");
        for (newer, why) in [
            (r#"{"before":{"version":9,"title":"x","resource":{"resource":"swap-off"},"before":{}}}"#, "version 9"),
            (r#"{"before":{"version":9,"title":"x","resource":{"resource":"quantum"},"snapshot":{}}}"#, "version 9"),
            (r#"{"before":{"title":"x","resource":{"resource":"quantum"},"before":{}}}"#, "unknown variant `quantum`"),
            (r#"{"after":{}}"#, "unknown variant `after`"),
        ] {
            let line = format!("{:08x} {newer}\n", crc32fast::hash(newer.as_bytes()));
            for text in [format!("{whole}{line}"), format!("{line}{whole}"), line.clone()] {
                host.write(UNDO_LEDGER, &text);
                let error = Ledger::open(&host.system).err().unwrap();
                assert!(error.to_string().contains("newer sealift") && error.to_string().contains(why), "{error}");
                assert!(crate::error::hints_of(&error)[0].contains("use the sealift"), "{error}");
                assert_eq!(host.read(UNDO_LEDGER), text, "nothing is cut off");
            }
        }
    }

    #[test]
    fn a_ledger_that_was_removed_while_waiting_for_it_is_opened_anew() {
        let host = FakeHost::new();
        let ledger = Ledger::open(&host.system).unwrap();
        let system = host.system.clone();
        let waiting = std::thread::spawn(move || {
            let mut ledger = Ledger::open(&system).unwrap();
            std::fs::create_dir_all(system.path("/proc/sys/vm")).unwrap();
            std::fs::write(system.path("/proc/sys/vm/x"), "0\n").unwrap();
            ledger.apply(&sysctl(1), &mut |_| ()).unwrap();
        });
        std::thread::sleep(Duration::from_millis(300));
        std::fs::remove_file(host.system.path(UNDO_LEDGER)).unwrap();
        drop(ledger);
        waiting.join().unwrap();
        assert_eq!(Ledger::open(&host.system).unwrap().pending(), 1);
    }

    #[test]
    fn undo_stops_at_the_first_failure_and_goes_on_there() {
        let host = FakeHost::new();
        let files = ["/etc/a", "/etc/b", "/etc/c"];
        let mut ledger = Ledger::open(&host.system).unwrap();
        for path in files {
            host.write(path, &format!("old {path}"));
            ledger.apply(&Resource::File(host.owned_file(super::super::File::new(path, "new", 0o644))), &mut |_| ()).unwrap();
        }
        std::fs::remove_file(host.system.path("/etc/b")).unwrap();
        host.write("/etc/b/in-the-way", "");
        for undone in [files[2], "nothing"] {
            let mut output = Vec::new();
            let error = Ledger::undo(&mut ledger, &mut |line| output.push(line.to_owned())).unwrap_err();
            assert!(error.to_string().contains("file /etc/b, and an older change waits"), "{error}");
            assert_eq!(output.iter().any(|line| line.contains(files[2])), undone == files[2], "{output:?}");
            assert_eq!((host.read("/etc/a").as_str(), host.read("/etc/c").as_str()), ("new", "old /etc/c"));
            drop(ledger);
            ledger = Ledger::open(&host.system).unwrap();
        }
        std::fs::remove_file(host.system.path("/etc/b/in-the-way")).unwrap();
        assert_eq!(ledger.undo(&mut |_| ()).unwrap(), 2);
        assert_eq!(files.map(|path| host.read(path)), files.map(|path| format!("old {path}")));
    }

    fn script(image: &str, env: &str) -> Resource {
        Resource::Script(crate::resource::Script {
            name: "install".into(),
            directory: format!("/var/lib/sealift/rootfs/{image}").into(),
            apply: "install.sh".into(),
            check: None,
            undo: Some("uninstall.sh".into()),
            env: [("IMAGE".to_owned(), env.to_owned())].into(),
            public: ["IMAGE".to_owned()].into(),
        })
    }

    fn scripts(host: &FakeHost, image: &str, uninstall: &str) {
        host.write(&format!("/var/lib/sealift/rootfs/{image}/install.sh"), &format!("touch ../../installed # by {image}"));
        host.write(&format!("/var/lib/sealift/rootfs/{image}/uninstall.sh"), uninstall);
    }

    #[test]
    fn an_undo_script_that_fails_or_is_missing_is_run_again_until_it_succeeds() {
        let host = FakeHost::real_programs();
        scripts(&host, "a", "test -e ../../repaired; rm -f ../../installed");
        host.write("/etc/a", "old");
        let mut ledger = Ledger::open(&host.system).unwrap();
        let file = Resource::File(host.owned_file(super::super::File::new("/etc/a", "new", 0o644)));
        for resource in [file, script("a", "1")] {
            ledger.apply(&resource, &mut |_| ()).unwrap();
        }
        let path = "/var/lib/sealift/rootfs/a/uninstall.sh";
        for (uninstall, says) in
            [(Some("echo busy; exit 1"), "busy"), (None, "uninstall.sh: not on the host"), (Some("exit 7"), "exit status: 7")]
        {
            match uninstall {
                Some(text) => host.write(path, text),
                None => std::fs::remove_file(host.system.path(path)).unwrap(),
            }
            let error = format!("{:#}", ledger.undo(&mut |_| ()).unwrap_err());
            assert!(error.contains("not undone: script install") && error.contains(says), "{error}");
            assert_eq!((host.read("/etc/a").as_str(), ledger.pending()), ("new", 2), "what is older waits");
        }
        host.write(path, "rm -f ../../installed");
        assert_eq!(ledger.undo(&mut |_| ()).unwrap(), 2);
        assert!(!host.system.path("/var/lib/sealift/installed").exists() && host.read("/etc/a") == "old");
    }

    #[test]
    fn the_newest_form_of_an_undo_script_runs_and_once() {
        let host = FakeHost::real_programs();
        scripts(&host, "a", "echo a $IMAGE >>../../output");
        scripts(&host, "b", "echo b $IMAGE >>../../output");
        let mut ledger = Ledger::open(&host.system).unwrap();
        for (image, env) in [("a", "1"), ("a", "1"), ("a", "2"), ("b", "2")] {
            ledger.apply(&script(image, env), &mut |_| ()).unwrap();
        }
        drop(ledger);
        std::fs::remove_dir_all(host.system.path("/var/lib/sealift/rootfs/a")).unwrap();
        let mut ledger = Ledger::open(&host.system).unwrap();
        ledger.undo(&mut |_| ()).unwrap();
        assert_eq!((host.read("/var/lib/sealift/output").as_str(), ledger.pending()), ("b 2\n", 0));
    }

    #[test]
    fn what_belongs_to_an_image_is_undone_after_all_that_uses_it() {
        let rootfs = |name: &str| {
            let manifest = crate::image::Blob { digest: crate::image::Digest::of(name.as_bytes()), size: 1 };
            Resource::Rootfs(crate::resource::Rootfs { manifest, current: true })
        };
        let file = |path: &str| Resource::File(super::super::File::new(path, "", 0o600));
        let inside = file("/var/lib/sealift/rootfs/b/scripts/x");
        let entry = |resource: Resource| Entry {
            version: VERSION,
            number: None,
            title: resource.title(),
            resource,
            snapshot: Snapshot::Null,
            undone: false,
        };
        let order = |resources: &[&Resource]| undo_order(&resources.iter().map(|it| entry((*it).clone())).collect::<Vec<_>>());
        let (first, second, other, user) = (rootfs("a"), rootfs("b"), file("/etc/x"), script("current", "1"));
        for (name, resources, expected) in [
            ("as installed", &[&other, &first, &user, &other][..], &[3, 2, 1, 0][..]),
            ("after an upgrade", &[&other, &first, &user, &second, &inside, &other], &[5, 2, 4, 3, 1, 0]),
            ("after a reset that was interrupted", &[&user, &first], &[0, 1]),
            ("no script", &[&first, &other, &second], &[2, 1, 0]),
        ] {
            assert_eq!(order(resources), expected, "{name}");
        }
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
