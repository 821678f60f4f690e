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
        ignore(&mut files);
    } else {
        let bytes = fs::read(path).context(Failure::usage(format!("no such chart: {}", path.display())))?;
        files = archive(&bytes).with_context(|| format!("chart {}", path.display()))?;
    }
    if !files.contains_key("Chart.yaml") {
        return Err(Failure::usage(format!("no chart: {} has no Chart.yaml", path.display())).into());
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

/// Leaves out what `.helmignore` names; its rules are those of shell globs, `!` takes back.
pub fn ignore(files: &mut Files) {
    let Some(rules) = files.get(".helmignore").map(|bytes| String::from_utf8_lossy(bytes).into_owned()) else { return };
    let rules: Vec<&str> = rules.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    files.retain(|path, _| {
        let kept_always = path == "Chart.yaml" || path.starts_with("templates/_");
        kept_always || !rules.iter().fold(false, |gone, rule| verdict(rule, path).unwrap_or(gone))
    });
}

/// Whether a rule leaves out a path; `None` where it says nothing of it.
fn verdict(rule: &str, path: &str) -> Option<bool> {
    let (wanted, pattern) = rule.strip_prefix('!').map_or((true, rule), |pattern| (false, pattern));
    let (pattern, only_dirs) = pattern.strip_suffix('/').map_or((pattern, false), |pattern| (pattern, true));
    let rooted = pattern.contains('/');
    let glob = globset::GlobBuilder::new(pattern.trim_start_matches('/')).literal_separator(true).build().ok()?.compile_matcher();
    // the path itself, and every folder it is in
    let ends = path.match_indices('/').map(|(at, _)| (at, true)).chain((!only_dirs).then_some((path.len(), false)));
    let hit = ends.into_iter().any(|(end, _)| {
        let part = &path[..end];
        let part = if rooted { part } else { part.rsplit('/').next().unwrap_or(part) };
        glob.is_match(part)
    });
    hit.then_some(wanted)
}
