//! The report of a run, made of its log: one HTML file that needs no network, in English and Chinese.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::run_log::{Entry, Record, Run, Step};

/// The stylesheet. The language is a matter of two radio buttons, so that the switch needs no script.
const STYLE: &str = include_str!("report.css");
/// Chooses the reader's language in the beginning; without scripts it is English.
const SCRIPT: &str = "if((navigator.language||'').startsWith('zh'))document.getElementById('zh').checked=true";
/// So many colours of stages the stylesheet has.
const COLORS: usize = 10;

/// Writes the report of a run whose log has these lines.
pub fn html(run: &Run, records: &[Record]) -> String {
    let page = Page::new(run, records);
    let title = format!("sealift {} · {}", run.begun.command, run.begun.cluster);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
        <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
        <input type=\"radio\" name=\"language\" id=\"en\" checked><input type=\"radio\" name=\"language\" id=\"zh\">\n\
        <nav><label for=\"en\">English</label><label for=\"zh\">中文</label></nav>\n<main>\n",
        escaped(&title)
    );
    for part in [
        page.head(),
        page.summary(),
        page.failure(),
        page.warnings(),
        page.timeline(),
        page.changes(),
        page.versions(),
        page.steps(),
        page.output(),
    ] {
        html += &part;
    }
    html + &format!("</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n")
}

/// What the report shows.
struct Page<'a> {
    run: &'a Run,
    begin: Timestamp,
    end: Timestamp,
    stages: Vec<&'a str>,
    steps: Vec<Done<'a>>,
    warnings: Vec<&'a str>,
    output: Vec<(&'a str, &'a str)>,
    plan: Option<&'a Value>,
    versions: BTreeMap<&'a str, &'a str>,
    /// The names of hosts, by address.
    names: BTreeMap<&'a str, &'a str>,
}

/// A step that ended.
struct Done<'a> {
    step: &'a Step,
    outcome: &'a str,
    detail: &'a str,
    end: Timestamp,
    seconds: f64,
    bytes: u64,
}

impl<'a> Page<'a> {
    fn new(run: &'a Run, records: &'a [Record]) -> Self {
        let (begin, end) = (run.time, records.last().map_or(run.time, |record| record.time));
        let versions = BTreeMap::from([("sealift", run.begun.sealift.as_str())]);
        let (stages, steps, warnings, output) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut page = Page { run, begin, end, stages, steps, warnings, output, plan: None, versions, names: BTreeMap::new() };
        for record in records {
            match &record.entry {
                Entry::Stage { name, .. } if !page.stages.contains(&name.as_str()) => page.stages.push(name),
                Entry::Finished { step, outcome, detail, seconds, bytes } => {
                    page.steps.push(Done { step, outcome, detail, end: record.time, seconds: *seconds, bytes: bytes.unwrap_or(0) })
                }
                Entry::Warning { text } => page.warnings.push(text),
                Entry::Output { host, line } => page.output.push((host, line)),
                Entry::Plan { plan } => page.plan = Some(plan),
                Entry::Versions { versions, hosts } => {
                    page.names.extend(hosts.iter().map(|(address, name)| (address.as_str(), name.as_str())));
                    page.versions.extend(versions.iter().map(|(what, version)| (what.as_str(), version.as_str())));
                }
                _ => {}
            }
        }
        page
    }

    fn head(&self) -> String {
        let begun = &self.run.begun;
        let (en, zh) = match self.run.result() {
            "done" => ("done", "完成"),
            "interrupted" => ("interrupted", "已中断"),
            "refused" => ("refused", "已拒绝"),
            "some hosts" => ("some hosts", "部分主机"),
            "running" => ("running", "进行中"),
            "killed" => ("killed", "被终止"),
            _ => ("failed", "失败"),
        };
        let class = en.replace(' ', "-");
        format!(
            "<header>\n<h1>{} <code>{}</code> <span class=\"result {class}\">{}</span></h1>\n<p>{} · sealift {} · {} · {}</p>\n</header>\n",
            both("Cluster", "集群"),
            escaped(&begun.cluster),
            both(en, zh),
            escaped(&begun.images.join(", ")),
            escaped(&begun.command),
            self.begin.strftime("%Y-%m-%d %H:%M:%S UTC"),
            escaped(&begun.by)
        )
    }

    /// The name of a host that is known by its address, with that address.
    fn host(&self, host: &str) -> String {
        match self.names.iter().find(|(address, name)| **address == host || **name == host) {
            Some((address, name)) => format!("{} <small>{}</small>", escaped(name), escaped(address)),
            None => escaped(host),
        }
    }

    fn host_of(&self, step: &Step) -> String {
        step.host.as_deref().map_or_else(|| both("this machine", "本机"), |host| self.host(host))
    }

    fn summary(&self) -> String {
        let seconds = self.run.ended.as_ref().map_or_else(|| seconds_between(self.begin, self.end), |ended| ended.seconds);
        let changes = self.run.ended.as_ref().and_then(|ended| ended.changes).map_or_else(|| "–".to_owned(), |changes| changes.to_string());
        // what was read on this machine, to verify it, did not move
        let bytes: u64 = self.steps.iter().filter(|done| done.step.host.is_some()).map(|done| done.bytes).sum();
        let failed = self.steps.iter().filter(|step| step.outcome == "failed").count();
        let cards = [
            (both("hosts", "主机"), self.run.begun.hosts.len().to_string()),
            (both("changes", "变更"), changes),
            (both("steps", "步骤"), self.steps.len().to_string()),
            (both("failed", "失败"), failed.to_string()),
            (both("moved", "传输"), indicatif::BinaryBytes(bytes).to_string()),
            (both("warnings", "警告"), self.warnings.len().to_string()),
            (both("time", "用时"), duration(seconds)),
        ];
        let cards = cards.iter().map(|(name, value)| format!("<div><b>{value}</b>{name}</div>")).collect::<String>();
        format!("<section class=\"cards\">{cards}</section>\n")
    }

    fn failure(&self) -> String {
        let Some(ended) = self.run.ended.as_ref().filter(|ended| ended.error.is_some()) else { return String::new() };
        let mut html = format!("<section class=\"failure\">\n<h2>{}</h2>\n", both("What failed", "失败原因"));
        if let Some(step) = &ended.failed {
            let _ = writeln!(html, "<p>{} · {}</p>", self.host_of(step), escaped(&step.step));
        }
        let _ = writeln!(html, "<pre>{}</pre>", escaped(ended.error.as_deref().unwrap_or_default()));
        if !ended.output.is_empty() {
            let _ = writeln!(html, "<p>{}</p>\n<pre>{}</pre>", both("Its last output", "最后的输出"), escaped(&ended.output.join("\n")));
        }
        for hint in &ended.hints {
            let _ = writeln!(html, "<p class=\"hint\">{} {}</p>", both("hint:", "提示："), escaped(hint));
        }
        html + "</section>\n"
    }

    fn warnings(&self) -> String {
        section(&both("Warnings", "警告"), self.warnings.iter().map(|text| format!("<li>{}</li>\n", escaped(text))).collect(), "ul")
    }

    /// A lane for each host, with a bar for each step.
    fn timeline(&self) -> String {
        let mut lanes: Vec<(String, Vec<&Done<'_>>)> = Vec::new();
        for done in &self.steps {
            let host = self.host_of(done.step);
            match lanes.iter_mut().find(|(name, _)| *name == host) {
                Some((_, steps)) => steps.push(done),
                None => lanes.push((host, vec![done])),
            }
        }
        if lanes.is_empty() {
            return String::new();
        }
        let whole = seconds_between(self.begin, self.end).max(0.001);
        let lane = |(host, steps): &(String, Vec<&Done<'_>>)| {
            let bars: String = steps.iter().map(|done| self.bar(done, whole)).collect();
            format!("<div class=\"lane\"><span>{host}</span><div class=\"track\">{bars}</div></div>\n")
        };
        let legend: String = self
            .stages
            .iter()
            .enumerate()
            .map(|(number, name)| format!("<span><i class=\"s{}\"></i>{}</span> ", number % COLORS, escaped(name)))
            .collect();
        let failed = self.steps.iter().any(|step| step.outcome == "failed");
        let failed = if failed { format!("<span><i class=\"failed\"></i>{}</span>", both("failed", "失败")) } else { String::new() };
        format!(
            "<section>\n<h2>{}</h2>\n{}<div class=\"axis\"><span>0 s</span><span>{}</span></div>\n<p class=\"legend\">{legend}{failed}</p>\n</section>\n",
            both("Timeline", "时间线"),
            lanes.iter().map(lane).collect::<String>(),
            duration(whole)
        )
    }

    fn bar(&self, done: &Done<'_>, whole: f64) -> String {
        let end = seconds_between(self.begin, done.end).clamp(0.0, whole);
        let begin = (end - done.seconds).max(0.0);
        let stage = done.step.stage.as_deref().and_then(|stage| self.stages.iter().position(|name| *name == stage));
        let class = match (done.outcome, stage) {
            ("failed", _) => "failed".to_owned(),
            (_, Some(number)) => format!("s{}", number % COLORS),
            (_, None) => "none".to_owned(),
        };
        format!(
            "<i class=\"{class}\" style=\"left:{:.2}%;width:{:.2}%\" title=\"{} ({})\"></i>",
            begin / whole * 100.0,
            ((end - begin) / whole * 100.0).max(0.2),
            escaped(&done.step.step),
            duration(done.seconds)
        )
    }

    fn changes(&self) -> String {
        let stages = self.plan.and_then(|plan| plan["stages"].as_array()).into_iter().flatten();
        let mut rows = String::new();
        for stage in stages {
            let name = stage["stage"].as_str().unwrap_or_default();
            for step in stage["steps"].as_array().into_iter().flatten() {
                let text = |field: &str| escaped(step[field].as_str().unwrap_or_default());
                let how = match (step["is"].as_str(), step["shall"].as_str(), step["bytes"].as_u64()) {
                    (Some(is), Some(shall), _) => format!("{} → {}", escaped(is), escaped(shall)),
                    (_, _, Some(bytes)) => indicatif::BinaryBytes(bytes).to_string(),
                    _ => String::new(),
                };
                let _ = writeln!(
                    rows,
                    "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{how}</td></tr>",
                    escaped(if name == "ship" { "distribute" } else { name }),
                    self.host(step["host"].as_str().unwrap_or_default()),
                    text("what"),
                    change_name(step["change"].as_str().unwrap_or_default()),
                );
            }
        }
        let head = [both("stage", "阶段"), both("host", "主机"), both("what", "内容"), both("change", "变更"), both("how", "细节")];
        section(&both("Planned changes", "计划的变更"), table(&head, rows), "div")
    }

    fn versions(&self) -> String {
        let rows = self.versions.iter().filter(|(_, version)| !version.is_empty());
        let rows = rows.map(|(what, version)| format!("<tr><td>{}</td><td><code>{}</code></td></tr>\n", escaped(what), escaped(version)));
        section(&both("Versions", "版本"), table(&[both("what", "内容"), both("version", "版本")], rows.collect()), "div")
    }

    fn steps(&self) -> String {
        let row = |done: &Done<'_>| {
            let outcome = match done.outcome {
                "failed" => both("failed", "失败"),
                "unchanged" => both("unchanged", "未变"),
                _ => both("done", "完成"),
            };
            let at = seconds_between(self.begin, done.end) - done.seconds;
            let bytes = if done.bytes > 0 { indicatif::BinaryBytes(done.bytes).to_string() } else { String::new() };
            format!(
                "<tr class=\"{}\"><td>{:.1} s</td><td>{}</td><td>{}</td><td>{}</td><td>{outcome} {}</td><td>{}</td><td>{bytes}</td></tr>\n",
                escaped(done.outcome),
                at.max(0.0),
                self.host_of(done.step),
                escaped(done.step.stage.as_deref().unwrap_or_default()),
                escaped(&done.step.step),
                escaped(done.detail),
                duration(done.seconds)
            )
        };
        let head = [
            both("at", "开始"),
            both("host", "主机"),
            both("stage", "阶段"),
            both("step", "步骤"),
            both("result", "结果"),
            both("time", "用时"),
            both("moved", "传输"),
        ];
        folded(&both("Steps", "步骤"), &table(&head, self.steps.iter().map(row).collect()))
    }

    fn output(&self) -> String {
        if self.output.is_empty() {
            return String::new();
        }
        let lines: String = self.output.iter().map(|(host, line)| format!("{} | {}\n", escaped(host), escaped(line))).collect();
        folded(&both("Output of commands", "命令输出"), &format!("<pre>{lines}</pre>"))
    }
}

/// A text in both languages, of which one is shown.
fn both(en: &str, zh: &str) -> String {
    format!("<span lang=\"en\">{en}</span><span lang=\"zh\">{zh}</span>")
}

/// What the plan calls a change, in both languages.
fn change_name(change: &str) -> String {
    match change {
        "create" => both("create", "新建"),
        "update" => both("update", "更新"),
        "remove" => both("remove", "删除"),
        "ship" => both("send", "传输"),
        "verify" => both("verify", "验证"),
        "unknown" => both("unknown", "未知"),
        other => escaped(other),
    }
}

/// A section with a heading; nothing if it has no content.
fn section(title: &str, content: String, tag: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{title}</h2>\n<{tag}>\n{content}</{tag}>\n</section>\n")
}

fn folded(title: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section>\n<details><summary><h2>{title}</h2></summary>\n{content}</details>\n</section>\n")
}

fn table(head: &[String], rows: String) -> String {
    if rows.is_empty() {
        return rows;
    }
    let head: String = head.iter().map(|name| format!("<th>{name}</th>")).collect();
    format!("<table>\n<tr>{head}</tr>\n{rows}</table>\n")
}

fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            '\'' => html += "&#39;",
            letter => html.push(letter),
        }
    }
    html
}

fn seconds_between(begin: Timestamp, end: Timestamp) -> f64 {
    end.duration_since(begin).as_secs_f64()
}

/// `12.3 s`, `3 min 5 s`.
fn duration(seconds: f64) -> String {
    if seconds < 60.0 { format!("{seconds:.1} s") } else { format!("{} min {:.0} s", (seconds / 60.0) as u64, (seconds % 60.0).floor()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::run_log::{Begun, Ended};
    use serde_json::json;

    fn report() -> String {
        let time = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let step = |host: Option<&str>, step: &str, stage: Option<&str>| Step {
            host: host.map(str::to_owned),
            step: step.to_owned(),
            stage: stage.map(str::to_owned),
        };
        let finished = |step: Step, outcome: &str, seconds: f64, bytes: Option<u64>| Entry::Finished {
            step,
            outcome: outcome.to_owned(),
            detail: String::new(),
            seconds,
            bytes,
        };
        let begun = Begun {
            command: "run".into(),
            cluster: "shop".into(),
            images: vec!["shop:1".into()],
            hosts: vec!["10.0.0.1".into(), "10.0.0.2".into()],
            by: "me@desk".into(),
            sealift: "9.8.7".into(),
        };
        let ended = Ended {
            result: "failed".into(),
            seconds: 100.0,
            error: Some("h2: <broken>".into()),
            hints: vec!["run it again".into()],
            failed: Some(step(Some("h2"), "unit app", Some("apps"))),
            output: vec!["fatal: no".into()],
            changes: None,
        };
        let plan = json!({"stages": [{"stage": "prepare", "steps": [
            {"host": "10.0.0.1", "what": "sysctl a=1", "change": "update", "is": "0", "shall": "1"},
            {"host": "10.0.0.2", "what": "blobs of the image", "change": "ship", "blobs": 2, "bytes": 3 << 20}]}]});
        let entries = [
            (0, Entry::Begun(begun.clone())),
            (5, Entry::Warning { text: "swap is on".into() }),
            (6, Entry::Plan { plan }),
            (
                6,
                Entry::Versions {
                    versions: BTreeMap::from([("kubernetes".to_owned(), "v1.31.0".to_owned())]),
                    hosts: BTreeMap::from([("10.0.0.1".to_owned(), "h1".to_owned()), ("10.0.0.2".to_owned(), "h2".to_owned())]),
                },
            ),
            (10, Entry::Stage { name: "prepare".into(), number: 1, total: 2 }),
            (12, finished(step(Some("10.0.0.1"), "agent", None), "done", 1.0, Some(1 << 20))),
            (20, finished(step(None, "verify 3 layers", None), "done", 4.0, Some(5 << 20))),
            (30, finished(step(Some("h1"), "distribute blobs", Some("prepare")), "done", 10.0, Some(3 << 20))),
            (40, Entry::Output { host: "h2".into(), line: "<script>".into() }),
            (90, finished(step(Some("h2"), "unit app", Some("apps")), "failed", 50.0, None)),
            (100, Entry::Ended(ended.clone())),
        ];
        let records: Vec<Record> = entries.into_iter().map(|(second, entry)| Record { time: time(second), entry }).collect();
        let run = Run { id: "r".into(), path: "r.jsonl".into(), time: time(0), begun, ended: Some(ended), is_running: false };
        html(&run, &records)
    }

    #[test]
    fn a_report_has_timeline_changes_bytes_versions_warnings_and_what_failed() {
        let html = report();
        for part in [
            "left:20.00%;width:10.00%\" title=\"distribute blobs (10.0 s)\"",
            "class=\"failed\" style=\"left:40.00%;width:50.00%\"",
            "0 → 1",
            "3.00 MiB",
            "<b>4.00 MiB</b>",
            "h1 <small>10.0.0.1</small>",
            "v1.31.0",
            "9.8.7",
            "swap is on",
            "h2: &lt;broken&gt;",
            "fatal: no",
            "run it again",
            "1 min 40 s",
        ] {
            assert!(html.contains(part), "want `{part}` in:\n{html}");
        }
        assert_eq!(html.matches("class=\"lane\"").count(), 3, "a host has one lane, by its name and its address");
    }

    #[test]
    fn a_report_is_one_file_in_two_languages_and_nothing_in_it_is_markup_of_others() {
        let html = report();
        for reference in ["src=", "href=", "http://", "https://", "url(", "@import", "<script>\n", "| <script>"] {
            assert!(!html.contains(reference), "`{reference}` in:\n{html}");
        }
        assert_eq!(html.matches("<span lang=\"en\">").count(), html.matches("<span lang=\"zh\">").count());
        for text in ["时间线", "警告", "失败原因", "Timeline"] {
            assert!(html.contains(text), "{text}");
        }
        assert_eq!(html.matches("<script>").count(), 1);
    }
}
