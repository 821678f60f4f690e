//! Tells the program which commit it is built from: `SEALIFT_COMMIT` and `SEALIFT_DATE`, empty where nothing says so.
//!
//! Builds for development do not ask git, or every commit would compile everything again.

use std::path::Path;
use std::process::Command;

fn main() {
    for name in ["SEALIFT_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    let git = Git::of(Path::new(env!("CARGO_MANIFEST_DIR"))).filter(|_| variable("PROFILE").as_deref() == Some("release"));
    let commit = variable("SEALIFT_COMMIT").or_else(|| git.as_ref()?.run(&["rev-parse", "HEAD"]));
    let seconds = variable("SOURCE_DATE_EPOCH").or_else(|| git.as_ref()?.run(&["log", "-1", "--format=%ct"]));
    let date = seconds.and_then(|text| text.parse().ok()).map(date).unwrap_or_default();
    if let Some(log) = git.as_ref().and_then(|git| git.run(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]))
        && Path::new(&log).exists()
    {
        println!("cargo::rerun-if-changed={log}");
    }
    println!("cargo::rustc-env=SEALIFT_COMMIT={}", commit.unwrap_or_default());
    println!("cargo::rustc-env=SEALIFT_DATE={date}");
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The working tree whose root is this package's directory.
struct Git<'a>(&'a Path);

impl<'a> Git<'a> {
    /// None where the sources are a tarball, even one unpacked inside another repository.
    fn of(directory: &'a Path) -> Option<Self> {
        let git = Git(directory);
        let root = git.run(&["rev-parse", "--show-toplevel"])?;
        (Path::new(&root).canonicalize().ok()? == directory.canonicalize().ok()?).then_some(git)
    }

    fn run(&self, args: &[&str]) -> Option<String> {
        let output = Command::new("git").arg("-C").arg(self.0).args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    }
}

/// The day of a time in seconds since 1970, UTC: `2026-11-30`. By Howard Hinnant's `civil_from_days`.
fn date(seconds: i64) -> String {
    let days = seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
