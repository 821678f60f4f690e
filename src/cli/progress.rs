//! Running tasks on the terminal: a bar for each, or a line now and then where stderr is no terminal.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::events::{Outcome, TaskId, Unit};

/// Steps of a stage that end sooner are counted; slower ones get a line each.
const QUICK: Duration = Duration::from_millis(500);
/// Where stderr is no terminal, a task reports this often.
const PLAIN_INTERVAL: Duration = Duration::from_secs(10);

/// The tasks that run, and the stage that they belong to.
pub struct Progress {
    bars: Option<MultiProgress>,
    tasks: HashMap<TaskId, Running>,
    stage: Option<Stage>,
}

/// A task that runs.
struct Running {
    label: String,
    unit: Unit,
    total: Option<u64>,
    done: u64,
    parent: Option<TaskId>,
    has_children: bool,
    began: Instant,
    reported: Instant,
    bar: Option<ProgressBar>,
}

/// A stage of a run.
struct Stage {
    bar: Option<ProgressBar>,
    /// Steps that ended quickly and have no line.
    quick: u64,
}

/// A task that ended, in a line of text.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It ended well: what was done, what came of it, how long it took.
    Done(String),
    /// It failed.
    Failed(String),
}

impl Progress {
    /// With `bars` on a terminal.
    pub fn new(bars: bool) -> Self {
        Progress { bars: bars.then(MultiProgress::new), tasks: HashMap::new(), stage: None }
    }

    /// The bars, if there are any: whoever prints suspends them.
    pub fn bars(&self) -> Option<MultiProgress> {
        self.bars.clone()
    }

    /// Begins a stage: its title, and a line about the stage before, if that has one.
    pub fn stage(&mut self, name: &str, number: usize, total: usize) -> (Option<String>, String) {
        let before = self.end_stage();
        let title = format!("[{number}/{total}] {name}");
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("  stage {msg} {spinner} {elapsed}").expect("the template is valid");
            let bar = bars.add(ProgressBar::new_spinner().with_style(style).with_message(title.clone()));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        self.stage = Some(Stage { bar, quick: 0 });
        (before, title)
    }

    /// Ends the stage; how many of its steps had no line of their own.
    pub fn end_stage(&mut self) -> Option<String> {
        let stage = self.stage.take()?;
        if let Some(bar) = stage.bar {
            bar.finish_and_clear();
        }
        match stage.quick {
            0 => None,
            1 => Some("1 quick step".to_owned()),
            count => Some(format!("{count} quick steps")),
        }
    }

    /// Begins a task.
    pub fn start(&mut self, task: TaskId, parent: Option<TaskId>, label: String, total: Option<u64>, unit: Unit) {
        if let Some(parent) = parent.and_then(|parent| self.tasks.get_mut(&parent)) {
            parent.has_children = true;
        }
        let bar = self.bars.as_ref().map(|bars| {
            let bar = ProgressBar::new(total.unwrap_or(0)).with_style(style(unit, total.is_some())).with_message(label.clone());
            // a whole stands below its parts
            let parents_bar = parent.and_then(|parent| self.tasks.get(&parent)?.bar.clone());
            let bar = match parents_bar {
                Some(below) => bars.insert_before(&below, bar),
                None => bars.add(bar),
            };
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let now = Instant::now();
        self.tasks.insert(task, Running { label, unit, total, done: 0, parent, has_children: false, began: now, reported: now, bar });
    }

    /// Counts progress, for the task and the one that it is a part of; a line to print, if it is time for one.
    pub fn advance(&mut self, task: TaskId, by: u64) -> Option<String> {
        let running = self.tasks.get_mut(&task)?;
        running.done += by;
        if let Some(bar) = &running.bar {
            bar.inc(by);
        }
        match running.parent.filter(|parent| self.tasks.contains_key(parent)) {
            Some(parent) => self.advance(parent, by),
            None => self.tasks.get_mut(&task)?.report(),
        }
    }

    /// Ends a task; a line to print, unless it is a part of another, was quick or changed nothing.
    pub fn finish(&mut self, task: TaskId, outcome: &Outcome) -> Option<Ended> {
        let running = self.tasks.remove(&task)?;
        if let Some(bar) = &running.bar {
            bar.finish_and_clear();
        }
        if let Some(whole) = running.parent.and_then(|parent| self.tasks.get_mut(&parent)) {
            whole.shrink(running.total.unwrap_or(0).saturating_sub(running.done));
            return None;
        }
        let time = running.began.elapsed();
        match outcome {
            Outcome::Unchanged => None,
            Outcome::Failed => Some(Ended::Failed(running.label)),
            Outcome::Done(detail) if detail.is_empty() && (running.has_children || time < QUICK) => {
                if let Some(stage) = &mut self.stage {
                    stage.quick += u64::from(!running.has_children);
                }
                None
            }
            Outcome::Done(detail) => {
                let separator = if detail.is_empty() { "" } else { ": " };
                Some(Ended::Done(format!("{}{separator}{detail} ({:.1} s)", running.label, time.as_secs_f64())))
            }
        }
    }
}

impl Running {
    /// Takes off its total what a part of it did not need to do.
    fn shrink(&mut self, by: u64) {
        self.total = self.total.map(|total| total.saturating_sub(by));
        if let (Some(bar), Some(total)) = (&self.bar, self.total) {
            bar.set_length(total);
        }
    }

    /// How far it is, if it has no bar and was not reported lately.
    fn report(&mut self) -> Option<String> {
        if self.bar.is_some() || self.reported.elapsed() < PLAIN_INTERVAL {
            return None;
        }
        self.reported = Instant::now();
        Some(format!("{}: {}", self.label, amount(self.unit, self.done, self.total, self.began.elapsed())))
    }
}

/// How much of a task is done, how quickly, and how long the rest takes at that rate.
fn amount(unit: Unit, done: u64, total: Option<u64>, time: Duration) -> String {
    let show = |count: u64| if unit == Unit::Bytes { size(count) } else { count.to_string() };
    let Some(total) = total else { return show(done) };
    let mut text = format!("{} of {}", show(done), show(total));
    let rate = done as f64 / time.as_secs_f64().max(0.001);
    if unit == Unit::Bytes && done > 0 {
        let rest = Duration::from_secs_f64((total.saturating_sub(done) as f64 / rate).min(1e6));
        let _ = write!(text, ", {}/s, {} left", size(rate as u64), duration(rest));
    }
    text
}

/// The bars: what, how much of how much, how quickly, how long the rest takes. They fit 80 columns.
fn style(unit: Unit, known: bool) -> ProgressStyle {
    let template = match (unit, known) {
        (Unit::Bytes, true) => "  {wide_msg} [{bar:16}] {amount:>13} {rate:>10} {left:>6}",
        (Unit::Bytes, false) => "  {wide_msg} {spinner} {amount} {rate:>10}",
        (Unit::Items, true) => "  {wide_msg} [{bar:16}] {pos} of {len}",
        (Unit::Items, false) => "  {wide_msg} {spinner} {elapsed}",
    };
    let amount = |state: &ProgressState, out: &mut dyn Write| {
        let _ = match state.len() {
            Some(total) if total > 0 => out.write_str(&part(state.pos(), total)),
            _ => out.write_str(&size(state.pos())),
        };
    };
    let rate = |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{}/s", size(state.per_sec() as u64));
    };
    let left = |state: &ProgressState, out: &mut dyn Write| {
        let _ = out.write_str(&duration(state.eta()));
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid");
    style.with_key("amount", amount).with_key("rate", rate).with_key("left", left).progress_chars("=> ")
}

const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];

/// A number of bytes in three digits: `2.87 MiB`, `182 MiB`.
fn size(count: u64) -> String {
    let exponent = exponent(count);
    format!("{} {}", digits(count, exponent), UNITS[exponent])
}

/// A part of a whole, both in the whole's unit: `61.2/182 MiB`.
fn part(done: u64, total: u64) -> String {
    let exponent = exponent(total);
    format!("{}/{} {}", digits(done.min(total), exponent), digits(total, exponent), UNITS[exponent])
}

/// The unit in which a number has at most three digits before the point.
fn exponent(count: u64) -> usize {
    let (mut exponent, mut value) = (0, count as f64);
    while value >= 999.5 && exponent + 1 < UNITS.len() {
        value /= 1024.0;
        exponent += 1;
    }
    exponent
}

fn digits(count: u64, exponent: usize) -> String {
    let value = count as f64 / 1024_f64.powi(exponent as i32);
    match value {
        _ if exponent == 0 => count.to_string(),
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// A time in at most two units: `7s`, `3m12s`, `2h05m`.
fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        seconds => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(detail: &str) -> Outcome {
        Outcome::Done(detail.to_owned())
    }

    #[test]
    fn parts_count_for_the_whole_and_have_no_line_of_their_own() {
        let mut progress = Progress::new(false);
        progress.start(1, None, "pull shop:1".to_owned(), Some(300), Unit::Bytes);
        progress.start(2, Some(1), "pull sha256:0123".to_owned(), Some(100), Unit::Bytes);
        assert_eq!(progress.advance(2, 100), None);
        assert_eq!(progress.tasks[&1].done, 100);
        assert_eq!(progress.finish(2, &done("resumed")), None);
        progress.start(3, Some(1), "pull sha256:4567".to_owned(), Some(150), Unit::Bytes);
        assert_eq!(progress.finish(3, &Outcome::Unchanged), None);
        assert_eq!(progress.tasks[&1].total, Some(150), "what is there already is not waited for");
        assert_eq!(progress.finish(1, &done("")), None);
        assert!(progress.tasks.is_empty());
    }

    #[test]
    fn quick_steps_are_counted_within_their_stage_only() {
        let mut progress = Progress::new(false);
        let step = |progress: &mut Progress, detail: &str| {
            progress.start(7, None, "h1: sysctl".to_owned(), None, Unit::Items);
            progress.finish(7, &done(detail))
        };
        assert_eq!(step(&mut progress, ""), None);
        assert_eq!(progress.stage("prepare", 1, 2), (None, "[1/2] prepare".to_owned()));
        assert_eq!(step(&mut progress, ""), None);
        assert_eq!(step(&mut progress, ""), None);
        assert!(matches!(step(&mut progress, "50 changes undone"), Some(Ended::Done(line)) if line.starts_with("h1: sysctl: 50 changes")));
        assert_eq!(progress.stage("ship", 2, 2).0, Some("2 quick steps".to_owned()));
        assert_eq!(progress.end_stage(), None);
    }

    #[test]
    fn a_report_says_how_much_how_quickly_and_how_long_still() {
        let ten = Duration::from_secs(10);
        assert_eq!(amount(Unit::Bytes, 20 << 20, Some(60 << 20), ten), "20.0 MiB of 60.0 MiB, 2.00 MiB/s, 20s left");
        assert_eq!(amount(Unit::Items, 3, Some(9), ten), "3 of 9");
        assert_eq!(amount(Unit::Bytes, 1500, None, ten), "1.46 KiB");
    }

    #[test]
    fn sizes_have_three_digits_and_times_two_units() {
        for (count, expected) in [(0, "0 B"), (999, "999 B"), (1023, "1.00 KiB"), (95_360_000, "90.9 MiB"), (190_700_000, "182 MiB")] {
            assert_eq!(size(count), expected);
        }
        assert_eq!(part(1 << 20, 182 << 20), "1.00/182 MiB");
        for (seconds, expected) in [(7, "7s"), (192, "3m12s"), (7500, "2h05m")] {
            assert_eq!(duration(Duration::from_secs(seconds)), expected);
        }
    }
}
