//! The log of a run: every event with its time, host and step, without secrets, one JSON object a line.
//!
//! `<state root>/clusters/<name>/runs/<time>-<command>.jsonl`. The newest 50 logs of a cluster are kept, and no more than 50 MiB. The log
//! of a run that goes on is locked, so that a reader can tell it from the log of one that was killed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::redactor::Redactor;
use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::events::{Event, Events, Level, Outcome, TaskId, Unit};

/// How many logs of a cluster are kept.
const MAX_RUNS: usize = 50;
/// How many bytes all logs of a cluster may have.
const MAX_BYTES: u64 = 50 << 20;
/// How many bytes one log may have: then lines of output are left out.
const MAX_RUN_BYTES: u64 = 16 << 20;
/// How many bytes the first and the last line of a log have, at most.
const MAX_ENDED: u64 = 1 << 20;
/// How many lines of output of a host are remembered for when it fails.
const REMEMBERED: usize = 40;
/// How many lines of output of the step that failed are shown.
const SHOWN: usize = 5;

/// One line of a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What a line of a log says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", tag = "event")]
pub enum Entry {
    /// The run began: the first line.
    Begun(Begun),
    /// A stage began.
    Stage {
        /// Its name.
        name: String,
        /// Which one it is, from 1.
        number: usize,
        /// How many there are.
        total: usize,
    },
    /// A step began.
    Started {
        /// The step.
        #[serde(flatten)]
        step: Step,
    },
    /// A step ended.
    Finished {
        /// The step.
        #[serde(flatten)]
        step: Step,
        /// `done`, `unchanged` or `failed`.
        outcome: String,
        /// What came of it.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
        /// How long it took.
        seconds: f64,
        /// How many bytes it moved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
    },
    /// A warning.
    Warning {
        /// Its text.
        text: String,
    },
    /// A line for the user.
    Note {
        /// Its text.
        text: String,
    },
    /// A line that a command wrote on a host.
    Output {
        /// The host's name.
        host: String,
        /// The line.
        line: String,
    },
    /// The plan that the run carries out, as `sealift plan -o json` prints it.
    Plan {
        /// The plan.
        plan: Value,
    },
    /// The versions of what the run brings, by name.
    Versions {
        /// The versions.
        versions: BTreeMap<String, String>,
        /// The names of the hosts, by address.
        #[serde(default)]
        hosts: BTreeMap<String, String>,
    },
    /// The run ended: the last line.
    Ended(Ended),
    /// What a newer version wrote.
    #[serde(other)]
    Other,
}

/// What a run is: the first line of its log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Begun {
    /// The command: `run`, `apply`, `scale`, `reset`.
    pub command: String,
    /// The cluster's name.
    pub cluster: String,
    /// The images, by name.
    pub images: Vec<String>,
    /// The addresses of the hosts.
    pub hosts: Vec<String>,
    /// Who ran it: user, machine, process.
    pub by: String,
    /// The version of sealift.
    pub sealift: String,
}

/// A step on a host, or on this machine.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Step {
    /// The host's name or address; none for what is done on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What is done: `sysctl net.ipv4.ip_forward=1`.
    pub step: String,
    /// The stage that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
}

/// How a run ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ended {
    /// As [`result_of`] names it.
    pub result: String,
    /// How many things it changed, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changes: Option<usize>,
    /// How long it took.
    pub seconds: f64,
    /// The error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What to do next.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hints: Vec<String>,
    /// The step that failed first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Step>,
    /// The last lines of output on its host that matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

/// The log of a run that goes on. An event sink.
#[derive(Debug)]
pub struct RunLog {
    path: PathBuf,
    begun: Begun,
    redactor: Redactor,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    bytes: u64,
    tasks: HashMap<TaskId, Running>,
    /// The last lines of output of each host.
    output: HashMap<String, VecDeque<String>>,
    failed: Option<Step>,
    changes: Option<usize>,
}

#[derive(Debug)]
struct Running {
    step: Step,
    parent: Option<TaskId>,
    unit: Unit,
    done: u64,
    began: Instant,
}

impl RunLog {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name among the logs of the cluster.
    pub fn id(&self) -> String {
        id_of(&self.path)
    }

    /// Writes the plan that the run carries out.
    pub fn plan(&self, plan: &impl Serialize) {
        let plan = redacted(serde_json::to_value(plan).unwrap_or_default(), &self.redactor);
        self.write(&mut self.state(), Entry::Plan { plan });
    }

    /// Writes the versions of what the run brings, and the names of the hosts by address.
    pub fn versions(&self, versions: BTreeMap<String, String>, hosts: BTreeMap<String, String>) {
        self.write(&mut self.state(), Entry::Versions { versions, hosts });
    }

    /// The command that is logged.
    pub fn command(&self) -> &str {
        &self.begun.command
    }

    /// The name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.begun.cluster
    }

    /// Says how many things the run changed.
    pub fn changed(&self, changes: usize) {
        self.state().changes = Some(changes);
    }

    /// Ends the log, and says how the run ended.
    pub fn end<T>(&self, result: &Result<T>) -> Ended {
        let mut state = self.state();
        let seconds = self.began.elapsed().as_secs_f64();
        let mut ended = Ended { result: "done".to_owned(), changes: state.changes, seconds, ..Ended::default() };
        if let Err(error) = result {
            ended.result = result_of(Some(kind_of(error))).to_owned();
            ended.error = Some(self.redactor.redact(&format!("{error:#}")));
            ended.hints = hints_of(error).iter().map(|hint| self.redactor.redact(hint)).collect();
            ended.failed = state.failed.take();
            let host = ended.failed.as_ref().and_then(|step| step.host.as_ref());
            let lines = host.and_then(|host| state.output.remove(host)).unwrap_or_default();
            ended.output = telling(lines.iter().map(String::as_str), SHOWN);
        }
        self.write(&mut state, Entry::Ended(ended.clone()));
        ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line. A log that cannot be written does not stop the run.
    fn write(&self, state: &mut State, entry: Entry) {
        let record = Record { time: Timestamp::now(), entry };
        let Ok(mut line) = serde_json::to_vec(&record) else { return };
        line.push(b'\n');
        state.bytes += line.len() as u64;
        if let Err(error) = state.file.write_all(&line) {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }

    fn start(&self, state: &mut State, task: TaskId, step: Step, parent: Option<TaskId>, unit: Unit) {
        if parent.is_none() {
            self.write(state, Entry::Started { step: step.clone() });
        }
        state.tasks.insert(task, Running { step, parent, unit, done: 0, began: Instant::now() });
    }

    fn finish(&self, state: &mut State, task: TaskId, outcome: &Outcome) {
        let Some(ended) = state.tasks.remove(&task) else { return };
        // what parts of a task moved, the whole moved
        if let Some(whole) = ended.parent.and_then(|parent| state.tasks.get_mut(&parent)) {
            whole.done += ended.done;
            return;
        }
        let (outcome, detail) = match outcome {
            Outcome::Done(detail) => ("done", self.redactor.redact(detail)),
            Outcome::Unchanged => ("unchanged", String::new()),
            Outcome::Failed => ("failed", String::new()),
        };
        if outcome == "failed" && state.failed.is_none() {
            state.failed = Some(ended.step.clone());
        }
        let bytes = (ended.unit == Unit::Bytes).then_some(ended.done);
        let seconds = ended.began.elapsed().as_secs_f64();
        self.write(state, Entry::Finished { step: ended.step, outcome: outcome.to_owned(), detail, seconds, bytes });
    }

    fn output(&self, state: &mut State, host: String, line: &str) {
        let line = self.redactor.redact(line);
        let lines = state.output.entry(host.clone()).or_default();
        lines.push_back(line.clone());
        if lines.len() > REMEMBERED {
            lines.pop_front();
        }
        if state.bytes < MAX_RUN_BYTES {
            self.write(state, Entry::Output { host, line });
        }
    }
}

impl Events for RunLog {
    fn emit(&self, event: Event) {
        let mut guard = self.state();
        let state = &mut *guard;
        match event {
            Event::Stage { name, number, total } => self.write(state, Entry::Stage { name, number, total }),
            Event::Started { task, parent, stage, label, unit, .. } => {
                let step = Step { stage: stage.map(str::to_owned), ..step_of(&self.redactor.redact(&label)) };
                self.start(state, task, step, parent, unit);
            }
            Event::Advanced { task, by } => {
                if let Some(running) = state.tasks.get_mut(&task) {
                    running.done += by;
                }
            }
            Event::Finished { task, outcome } => self.finish(state, task, &outcome),
            Event::Note { level: Level::Warning, text } => self.write(state, Entry::Warning { text: self.redactor.redact(&text) }),
            Event::Note { text, .. } => self.write(state, Entry::Note { text: self.redactor.redact(&text) }),
            Event::Output { source, line } => self.output(state, source, &line),
        }
    }
}

/// The logs of the runs on a cluster.
#[derive(Debug, Clone)]
pub struct RunLogs {
    directory: PathBuf,
}

/// A run as its log tells it.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name: `<time>-<command>`.
    pub id: String,
    /// The file.
    pub path: PathBuf,
    /// When it began.
    pub time: Timestamp,
    /// What it was.
    pub begun: Begun,
    /// How it ended; `None` if it goes on or was killed.
    pub ended: Option<Ended>,
    /// Whether it goes on.
    pub is_running: bool,
}

/// What logs, lists and revisions call the result of a run with an error of this kind: `done`, `interrupted`, `refused` (nothing was
/// changed: wrong input, or a question that was not answered with yes), `some hosts` (others were not reached or failed), else `failed`.
pub fn result_of(error: Option<Kind>) -> &'static str {
    match error {
        None => "done",
        Some(Kind::Interrupted) => "interrupted",
        Some(Kind::Usage) => "refused",
        Some(Kind::SomeHosts) => "some hosts",
        Some(_) => "failed",
    }
}

impl Run {
    /// As [`result_of`] names it, or `running` or `killed`.
    pub fn result(&self) -> &str {
        match &self.ended {
            Some(ended) => &ended.result,
            None if self.is_running => "running",
            None => "killed",
        }
    }

    /// Whether it goes on now.
    pub fn is_going_on(&self) -> bool {
        self.ended.is_none() && is_locked(&self.path)
    }

    /// Its lines; those that cannot be read are left out.
    pub fn records(&self) -> Result<Vec<Record>> {
        let file = BufReader::new(fs_err::File::open(&self.path)?);
        Ok(file.split(b'\n').map_while(Result::ok).filter_map(|line| serde_json::from_slice(&line).ok()).collect())
    }
}

impl RunLogs {
    /// The logs in a directory, which need not exist.
    pub fn new(directory: PathBuf) -> Self {
        RunLogs { directory }
    }

    /// Begins the log of a run, and deletes the oldest logs if there are too many.
    pub fn begin(&self, begun: Begun, redactor: Redactor) -> Result<Arc<RunLog>> {
        fs_err::create_dir_all(&self.directory)?;
        self.delete_oldest();
        let (path, file) = self.create(&begun.command)?;
        // not all filesystems have locks
        file.try_lock().ok();
        let state = State { file, bytes: 0, tasks: HashMap::new(), output: HashMap::new(), failed: None, changes: None };
        let log = RunLog { path, begun: begun.clone(), redactor, began: Instant::now(), state: Mutex::new(state) };
        log.write(&mut log.state(), Entry::Begun(begun));
        Ok(Arc::new(log))
    }

    fn create(&self, command: &str) -> Result<(PathBuf, File)> {
        use std::os::unix::fs::OpenOptionsExt as _;
        loop {
            let path = self.directory.join(format!("{}-{command}.jsonl", Timestamp::now().strftime("%Y%m%dT%H%M%S%.3fZ")));
            match File::options().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => std::thread::sleep(std::time::Duration::from_millis(1)),
                Err(error) => return Err(error).with_context(|| format!("log {}", path.display())),
            }
        }
    }

    fn delete_oldest(&self) {
        let sizes = self.files().into_iter().map(|path| (path.metadata().map_or(0, |meta| meta.len()), path));
        let (mut count, mut bytes) = (0, 0);
        for (size, path) in sizes.collect::<Vec<_>>().into_iter().rev() {
            (count, bytes) = (count + 1, bytes + size);
            if (count >= MAX_RUNS || bytes > MAX_BYTES) && !is_locked(&path) {
                std::fs::remove_file(path).ok();
            }
        }
    }

    /// The files, the oldest first.
    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        files
    }

    /// The runs, the newest first.
    pub fn runs(&self) -> Vec<Run> {
        self.files().iter().rev().map(|path| read_run(path)).collect()
    }

    /// The newest run that goes on now.
    pub fn running(&self) -> Option<Run> {
        self.runs().into_iter().find(|run| run.is_running)
    }

    /// The newest run.
    pub fn last(&self) -> Option<Run> {
        self.files().last().map(|path| read_run(path))
    }

    /// The run with this name, or the only one whose name begins so; `last` is the newest.
    ///
    /// # Errors
    /// `Usage` if there is none, or several.
    pub fn find(&self, id: &str) -> Result<Run> {
        let files = self.files();
        let found: Vec<&PathBuf> = match id {
            "last" => files.last().into_iter().collect(),
            id => {
                let exact = files.iter().find(|path| id_of(path) == id);
                exact.map_or_else(|| files.iter().filter(|path| id_of(path).starts_with(id)).collect(), |path| vec![path])
            }
        };
        match found.as_slice() {
            [path] => Ok(read_run(path)),
            [] if files.is_empty() => {
                let cluster = self.directory.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
                Err(Failure::usage(format!("no run on the cluster {cluster} was made from this machine"))
                    .hint(format!("`sealift history {cluster}` lists what was applied to it, from wherever"))
                    .into())
            }
            [] => Err(Failure::usage(format!("no such run: {id}")).hint("`sealift logs CLUSTER` lists the runs").into()),
            several => {
                let names = several.iter().map(|path| id_of(path)).collect::<Vec<_>>().join(", ");
                Err(Failure::usage(format!("run `{id}` is ambiguous: {names}")).hint("type more of its name").into())
            }
        }
    }
}

fn id_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Reads the first and the last line of a log.
fn read_run(path: &Path) -> Run {
    let parse = |line: &[u8]| serde_json::from_slice::<Record>(line).ok();
    let (first, last) = first_and_last_line(path).unwrap_or_default();
    let (time, begun) = match parse(&first) {
        Some(Record { time, entry: Entry::Begun(begun) }) => (time, begun),
        other => (other.map(|record| record.time).unwrap_or_default(), Begun::default()),
    };
    let ended = match parse(&last) {
        Some(Record { entry: Entry::Ended(ended), .. }) => Some(ended),
        _ => None,
    };
    Run { id: id_of(path), path: path.to_owned(), time, begun, is_running: ended.is_none() && is_locked(path), ended }
}

/// The first and the last line of a file, without reading all of it.
fn first_and_last_line(path: &Path) -> std::io::Result<(Vec<u8>, Vec<u8>)> {
    let mut file = File::open(path)?;
    let mut first = Vec::new();
    BufReader::new(&file).take(MAX_ENDED).read_until(b'\n', &mut first)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_ENDED)))?;
    let mut end = Vec::new();
    file.take(MAX_ENDED).read_to_end(&mut end)?;
    let last = end.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
    Ok((first, last))
}

/// Host and step of a task: labels are `host: step`, or `distribute to host`.
fn step_of(label: &str) -> Step {
    let (host, step) = match (label.split_once(": "), label.strip_prefix("distribute to ")) {
        (_, Some(host)) => (Some(host), "distribute blobs"),
        (Some((host, step)), None) if !host.is_empty() && !host.contains(' ') => (Some(host), step),
        _ => (None, label),
    };
    Step { host: host.map(str::to_owned), step: step.to_owned(), stage: None }
}

fn redacted(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) => Value::String(redactor.redact(&text)),
        Value::Array(items) => items.into_iter().map(|item| redacted(item, redactor)).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, redacted(value, redactor))).collect(),
        other => other,
    }
}

/// The last lines that tell why something failed: fatal lines and errors before others, each once, in their order.
pub fn telling<'a>(lines: impl Iterator<Item = &'a str>, most: usize) -> Vec<String> {
    let mut unique: Vec<&str> = Vec::new();
    for line in lines.map(str::trim_end).filter(|line| !line.trim().is_empty()) {
        unique.retain(|known| *known != line);
        unique.push(line);
    }
    let tells = |line: &str| {
        let line = line.to_lowercase();
        ["error", "fatal", "fail", "panic", "refused", "denied", "cannot", "no such", "not found", "timed out"]
            .iter()
            .any(|word| line.contains(word))
    };
    let telling: Vec<&str> = unique.iter().copied().filter(|line| tells(line)).collect();
    let chosen = if telling.is_empty() { unique } else { telling };
    chosen[chosen.len().saturating_sub(most)..].iter().map(|line| (*line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusterfile::Clusterfile;
    use crate::events::Context;

    fn begun(command: &str) -> Begun {
        Begun { command: command.to_owned(), cluster: "shop".to_owned(), ..Begun::default() }
    }

    fn logs() -> (tempfile::TempDir, RunLogs, Clusterfile) {
        let dir = tempfile::tempdir().unwrap();
        let logs = RunLogs::new(dir.path().join("runs"));
        let mut clusterfile = Clusterfile::default();
        clusterfile.cluster.env.insert("PASSWORD".into(), "geheim".into());
        (dir, logs, clusterfile)
    }

    #[test]
    fn a_log_tells_host_step_stage_output_and_result_without_secrets() {
        let (_dir, logs, clusterfile) = logs();
        let log = logs.begin(begun("run"), Redactor::new(&clusterfile)).unwrap();
        let ctx = Context::silent().logged_to(log.clone()).in_stage("prepare");
        ctx.emit(Event::Stage { name: "prepare".into(), number: 1, total: 2 });
        ctx.emit(Event::Stage { name: "begun beside it".into(), number: 2, total: 2 });
        let whole = ctx.task("distribute to h1", Some(10), Unit::Bytes);
        let part = ctx.within(&whole).task("send sha256:12", Some(7), Unit::Bytes);
        part.advance(7);
        part.done("");
        whole.done("");
        ctx.warn("with geheim");
        let step = ctx.task("h1: command geheim", None, Unit::Items);
        for line in ["starting", "error: geheim is wrong", "bye"] {
            ctx.emit(Event::Output { source: "h1".into(), line: line.into() });
        }
        drop(step);
        log.plan(&serde_json::json!({"stages": ["geheim"]}));
        let ended = log.end::<()>(&Err(Failure::network("no geheim").hint("do this").into()));
        assert_eq!((ended.result.as_str(), ended.output.as_slice()), ("failed", &["error: … is wrong".to_owned()][..]));
        let failed = Step { host: Some("h1".into()), step: "command …".into(), stage: Some("prepare".into()) };
        assert_eq!(ended.failed, Some(failed));

        let run = logs.find("last").unwrap();
        assert!(!std::fs::read_to_string(&run.path).unwrap().contains("geheim"));
        assert_eq!((run.result(), run.begun.command.as_str()), ("failed", "run"));
        let records = run.records().unwrap();
        let bytes: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.entry {
                Entry::Finished { step, bytes: Some(bytes), .. } => Some((step.host.clone().unwrap(), *bytes)),
                _ => None,
            })
            .collect();
        assert_eq!(bytes, [("h1".to_owned(), 7)]);
        assert_eq!(records.len(), 13, "{records:#?}");
        assert_eq!(records.last().unwrap().entry, Entry::Ended(ended));
    }

    #[test]
    fn a_run_that_goes_on_is_told_from_one_that_was_killed() {
        let (_dir, logs, clusterfile) = logs();
        let log = logs.begin(begun("apply"), Redactor::new(&clusterfile)).unwrap();
        assert_eq!(logs.find("last").unwrap().result(), "running");
        drop(log);
        assert_eq!(logs.find("last").unwrap().result(), "killed");
        let id = logs.runs()[0].id.clone();
        assert_eq!(logs.find(&id[..10]).unwrap().id, id);
        assert!(logs.find("1999").unwrap_err().to_string().contains("no such run"));
    }

    #[test]
    fn the_newest_fifty_logs_are_kept() {
        let (dir, logs, clusterfile) = logs();
        std::fs::create_dir_all(dir.path().join("runs")).unwrap();
        for number in 0..60 {
            std::fs::write(dir.path().join(format!("runs/20200101T0000{number:02}.000Z-run.jsonl")), "{}\n").unwrap();
        }
        let log = logs.begin(begun("run"), Redactor::new(&clusterfile)).unwrap();
        log.changed(3);
        log.end(&Ok(()));
        let runs = logs.runs();
        assert_eq!((runs.len(), runs[0].ended.as_ref().unwrap().changes), (MAX_RUNS, Some(3)));
        assert!(runs[MAX_RUNS - 1].id.starts_with("20200101T000011"), "{}", runs[MAX_RUNS - 1].id);
    }

    #[test]
    fn lines_of_newer_versions_and_torn_lines_do_not_keep_a_log_from_being_read() {
        let (dir, logs, _) = logs();
        std::fs::create_dir_all(dir.path().join("runs")).unwrap();
        let time = "2026-12-01T00:00:00Z";
        let text = format!(
            "{{\"time\":\"{time}\",\"event\":\"begun\",\"command\":\"run\"}}\n{{\"time\":\"{time}\",\"event\":\"what\"}}\n{{\"time\":"
        );
        std::fs::write(dir.path().join("runs/x.jsonl"), text).unwrap();
        let records = logs.find("x").unwrap().records().unwrap();
        assert_eq!((records.len(), &records[1].entry), (2, &Entry::Other));
    }

    #[test]
    fn what_failed_is_told_by_its_errors_once_each() {
        let lines = ["I1 ok", "E1 failed: a", "I2 ok", "E1 failed: a", "", "fatal: b", "I3 ok"];
        assert_eq!(telling(lines.into_iter(), 5), ["E1 failed: a", "fatal: b"]);
        assert_eq!(telling(["one", "two"].into_iter(), 1), ["two"]);
    }
}
