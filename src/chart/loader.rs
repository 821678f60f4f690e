//! The files of a chart: a directory or an archive, and the charts inside it.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use fs_err as fs;

use crate::error::Failure;

/// The files of a chart by their paths inside it.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The files of one chart together are not larger than this many bytes.
const LARGEST: u64 = 100 << 20;

/// Reads the chart at a path: a directory or a `.tgz`.
///
/// # Errors
/// Fails where there is none, or one that is too large.
pub fn load(path: &Path) -> Result<Files> {
    let mut files = Files::new();
    if path.is_dir() {
        let mut left = LARGEST;
        directory(path, "", &mut files, &mut left)?;
        ignore(&mut files)?;
    } else {
        let bytes = fs::read(path).context(Failure::usage(format!("no such chart: {}", path.display())))?;
        files = archive(&bytes).with_context(|| format!("chart {}", path.display()))?;
    }
    if !files.contains_key("Chart.yaml") {
        return Err(Failure::usage(format!("no chart: {} has no Chart.yaml, or its .helmignore leaves it out", path.display())).into());
    }
    Ok(files)
}

fn directory(dir: &Path, prefix: &str, files: &mut Files, left: &mut u64) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = fs::metadata(entry.path())?;
        if kind.is_dir() {
            if prefix.matches('/').count() > 50 {
                return Err(Failure::usage(format!("{}: nested too deep", dir.display())).into());
            }
            directory(&entry.path(), &format!("{name}/"), files, left)?;
        } else if kind.is_file() {
            *left = left.checked_sub(kind.len()).ok_or_else(too_large)?;
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn too_large() -> Failure {
    Failure::usage(format!("the chart's files are larger than {} MiB", LARGEST >> 20))
}

/// The files of a packed chart, without the folder that holds them all.
///
/// # Errors
/// Fails where it is no gzipped tar.
pub fn archive(bytes: &[u8]) -> Result<Files> {
    let mut files = Files::new();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(bytes).take(LARGEST));
    for entry in tar.entries().context("not a gzipped tar")? {
        let mut entry = entry.context("not a gzipped tar")?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let inside = path.trim_start_matches("./").split_once('/').map(|(_, inside)| inside.to_owned());
        if let Some(inside) = inside.filter(|inside| !inside.is_empty() && entry.header().entry_type().is_file()) {
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(inside, content);
        }
    }
    Ok(files)
}

/// Leaves out what `.helmignore` names, and hidden templates. Rules are Helm's, not git's: the first that fits counts, and `!`
/// leaves out all that it does not name.
///
/// # Errors
/// Fails where a rule has `**`, as Helm does.
pub fn ignore(files: &mut Files) -> Result<()> {
    let text = files.get(".helmignore").map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let rules: Vec<Rule> = text.lines().chain(["templates/.?*"]).filter_map(|line| Rule::parse(line).transpose()).collect::<Result<_>>()?;
    files.retain(|path, _| !is_ignored(path, &rules));
    Ok(())
}

/// Whether a rule takes a path, or a folder that it is in.
fn is_ignored(path: &str, rules: &[Rule]) -> bool {
    let folders = path.match_indices('/').map(|(at, _)| (&path[..at], true));
    folders.chain([(path, false)]).any(|(part, is_folder)| rules.iter().any(|rule| rule.takes(part, is_folder)))
}

/// A line of `.helmignore`, after Helm's `ignore/rules.go`.
struct Rule {
    pattern: globset::GlobMatcher,
    /// Whether it is compared with the last part of a path only.
    by_name: bool,
    only_folders: bool,
    negated: bool,
}

impl Rule {
    fn parse(line: &str) -> Result<Option<Rule>> {
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        if line.contains("**") {
            return Err(Failure::usage(format!(".helmignore: `{line}`: double-star (**) syntax is not supported")).into());
        }
        let (negated, rule) = line.strip_prefix('!').map_or((false, line), |rule| (true, rule));
        let (only_folders, rule) = rule.strip_suffix('/').map_or((false, rule), |rule| (true, rule));
        let glob = globset::GlobBuilder::new(&rule.trim_start_matches('/').replace('{', "[{]")).literal_separator(true).build();
        let pattern = glob.with_context(|| Failure::usage(format!(".helmignore: `{line}`: no pattern")))?.compile_matcher();
        Ok(Some(Rule { pattern, by_name: !rule.contains('/'), only_folders, negated }))
    }

    fn takes(&self, path: &str, is_folder: bool) -> bool {
        let compared = if self.by_name { path.rsplit('/').next().unwrap_or(path) } else { path };
        let fits = self.pattern.is_match(compared);
        match (self.negated, self.only_folders && !is_folder) {
            (true, wrong_kind) => wrong_kind || !fits,
            (false, wrong_kind) => !wrong_kind && fits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helmignore_leaves_out_what_helm_leaves_out() {
        let all =
            ["Chart.yaml", "a.bak", "d/secret/k", "foo/a", "q/README.md", "secret/k", "templates/.hid.yaml", "templates/a.yaml", "z/foo/b"];
        for (rules, gone) in [
            ("", vec!["templates/.hid.yaml"]),
            ("# c\n*.bak\n", vec!["a.bak", "templates/.hid.yaml"]),
            ("/secret/\n", vec!["secret/k", "templates/.hid.yaml"]),
            ("foo/\n", vec!["foo/a", "templates/.hid.yaml", "z/foo/b"]),
            ("*.md\nd/secret\n", vec!["d/secret/k", "q/README.md", "templates/.hid.yaml"]),
            ("!Chart.yaml\n", all[1..].to_vec()),
        ] {
            let mut files: Files = all.iter().map(|path| ((*path).to_owned(), Vec::new())).collect();
            files.insert(".helmignore".to_owned(), rules.as_bytes().to_vec());
            ignore(&mut files).unwrap();
            let left: Vec<&str> = all.into_iter().filter(|path| !files.contains_key(*path)).collect();
            assert_eq!(left, gone, "{rules}");
        }
        let mut files = Files::from([(".helmignore".to_owned(), b"a/**/b".to_vec())]);
        assert!(ignore(&mut files).unwrap_err().to_string().contains("double-star"));
    }
}
