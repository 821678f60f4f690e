//! Reads a chart's files from a directory or a `.tgz`, without those that `.helmignore` excludes.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use fs_err as fs;

use crate::error::Failure;

/// The files of a chart by their paths inside it, subcharts included.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The limit on the size of all files of a chart together, in bytes.
const MAX_BYTES: u64 = 100 << 20;

/// The limit on how deep a chart's directories nest.
const MAX_DEPTH: usize = 50;

const CHART_HINT: &str = "a chart is a directory with Chart.yaml, or a .tgz made by `helm package`";

/// Reads the chart at a path: a directory or a `.tgz`.
///
/// # Errors
/// `Usage` where the path is not a chart, where it is larger than 100 MiB, and where `.helmignore` is wrong.
pub fn load(path: &Path) -> Result<Files> {
    let mut files = Files::new();
    if path.is_dir() {
        let mut left = MAX_BYTES;
        read_directory(path, "", &mut files, &mut left)?;
        apply_helmignore(&mut files)?;
    } else {
        let bytes = fs::read(path).context(Failure::usage(format!("no such chart: {}", path.display())).hint(CHART_HINT))?;
        files = load_archive(&bytes).with_context(|| format!("chart {}", path.display()))?;
    }
    if !files.contains_key("Chart.yaml") {
        let message = format!("not a chart: {} has no Chart.yaml, or its .helmignore excludes it", path.display());
        return Err(Failure::usage(message).hint(CHART_HINT).into());
    }
    Ok(files)
}

fn read_directory(dir: &Path, prefix: &str, files: &mut Files, left: &mut u64) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(dir)?.collect::<std::io::Result<_>>()?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = fs::metadata(entry.path())?;
        if kind.is_dir() {
            if prefix.matches('/').count() > MAX_DEPTH {
                let message = format!("{}: directories nest deeper than {MAX_DEPTH} levels", dir.display());
                return Err(Failure::usage(message).hint("is a symbolic link part of a cycle?").into());
            }
            read_directory(&entry.path(), &format!("{name}/"), files, left)?;
        } else if kind.is_file() {
            *left = left.checked_sub(kind.len()).ok_or_else(too_large)?;
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn too_large() -> Failure {
    Failure::usage(format!("the chart's files are larger than {} MiB together", MAX_BYTES >> 20))
        .hint("name what templates do not need in .helmignore")
}

/// Reads the files of a packed chart (`helm package`); paths lose their first directory, the chart's name.
///
/// # Errors
/// Fails where the bytes are not a gzipped tar.
pub fn load_archive(bytes: &[u8]) -> Result<Files> {
    let mut files = Files::new();
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(bytes).take(MAX_BYTES));
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

/// Removes what `.helmignore` names, and hidden templates. Rules are Helm's, not git's: the first that matches counts, and `!` excludes
/// all that it does not name.
///
/// # Errors
/// Fails where a rule has `**`, as Helm does, and where it is not a pattern.
pub fn apply_helmignore(files: &mut Files) -> Result<()> {
    let text = files.get(".helmignore").map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
    let rules: Vec<Rule> = text.lines().chain(["templates/.?*"]).filter_map(|line| Rule::parse(line).transpose()).collect::<Result<_>>()?;
    files.retain(|path, _| !is_ignored(path, &rules));
    Ok(())
}

/// Whether a rule excludes a path, or a directory above it.
fn is_ignored(path: &str, rules: &[Rule]) -> bool {
    let directories = path.match_indices('/').map(|(at, _)| (&path[..at], true));
    directories.chain([(path, false)]).any(|(part, is_directory)| rules.iter().any(|rule| rule.excludes(part, is_directory)))
}

/// A line of `.helmignore`, after Helm's `ignore/rules.go`.
struct Rule {
    pattern: globset::GlobMatcher,
    /// Whether it is matched against the last part of a path only.
    by_name: bool,
    only_directories: bool,
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
        let (only_directories, rule) = rule.strip_suffix('/').map_or((false, rule), |rule| (true, rule));
        let glob = globset::GlobBuilder::new(&rule.trim_start_matches('/').replace('{', "[{]")).literal_separator(true).build();
        let pattern = glob.with_context(|| Failure::usage(format!(".helmignore: `{line}`: invalid pattern")))?.compile_matcher();
        Ok(Some(Rule { pattern, by_name: !rule.contains('/'), only_directories, negated }))
    }

    fn excludes(&self, path: &str, is_directory: bool) -> bool {
        let name = if self.by_name { path.rsplit('/').next().unwrap_or(path) } else { path };
        let matches = self.pattern.is_match(name);
        match (self.negated, self.only_directories && !is_directory) {
            (true, wrong_kind) => wrong_kind || !matches,
            (false, wrong_kind) => !wrong_kind && matches,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn helmignore_excludes_what_helm_excludes() {
        let all =
            ["Chart.yaml", "a.bak", "d/secret/k", "foo/a", "q/README.md", "secret/k", "templates/.hid.yaml", "templates/a.yaml", "z/foo/b"];
        for (rules, excluded) in [
            ("", vec!["templates/.hid.yaml"]),
            ("# c\n*.bak\n", vec!["a.bak", "templates/.hid.yaml"]),
            ("/secret/\n", vec!["secret/k", "templates/.hid.yaml"]),
            ("foo/\n", vec!["foo/a", "templates/.hid.yaml", "z/foo/b"]),
            ("*.md\nd/secret\n", vec!["d/secret/k", "q/README.md", "templates/.hid.yaml"]),
            ("!Chart.yaml\n", all[1..].to_vec()),
        ] {
            let mut files: Files = all.iter().map(|path| ((*path).to_owned(), Vec::new())).collect();
            files.insert(".helmignore".to_owned(), rules.as_bytes().to_vec());
            apply_helmignore(&mut files).unwrap();
            let left: Vec<&str> = all.into_iter().filter(|path| !files.contains_key(*path)).collect();
            assert_eq!(left, excluded, "{rules}");
        }
        let mut files = Files::from([(".helmignore".to_owned(), b"a/**/b".to_vec())]);
        assert!(apply_helmignore(&mut files).unwrap_err().to_string().contains("double-star"));
    }
}
