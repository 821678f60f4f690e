//! `sealift version`

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use crate::image::{host_platform, platform_string};

/// The version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The git commit it is built from; empty in builds for development and where the sources were not in git.
const COMMIT: &str = env!("SEALIFT_COMMIT");
/// The day of that commit, or of `SOURCE_DATE_EPOCH`; may be empty.
const DATE: &str = env!("SEALIFT_DATE");

/// Print the version, the commit and the platform
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sealift version\n  sealift version -o json")]
pub struct Args {}

/// Prints the version.
pub fn run(_: Args, cmd: &CommandContext) -> Result<()> {
    let platform = platform_string(&host_platform());
    let known = |text: &'static str| Some(text).filter(|text| !text.is_empty());
    let answer = json!({"version": VERSION, "commit": known(COMMIT), "date": known(DATE), "platform": platform});
    cmd.console.answer(&answer, || text(COMMIT, DATE, &platform))
}

fn text(commit: &str, date: &str, platform: &str) -> String {
    let short = commit.get(..12).unwrap_or(commit);
    let built = [short, date].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    let built = if built.is_empty() { String::new() } else { format!(" ({built})") };
    format!("sealift {VERSION}{built} {platform}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_and_its_day_stand_behind_the_version_if_they_are_known() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(text(commit, "2026-11-30", "linux/amd64"), format!("sealift {VERSION} (0123456789ab, 2026-11-30) linux/amd64\n"));
        assert_eq!(text("", "", "linux/arm64"), format!("sealift {VERSION} linux/arm64\n"));
    }
}
