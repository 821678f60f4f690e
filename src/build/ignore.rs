//! `.kubeignore` and `.dockerignore`: which files of the context are not there (docker's rules, moby `patternmatcher`).

use std::path::Path;

use anyhow::{Context as _, Result};
use globset::{GlobBuilder, GlobMatcher};

/// The patterns of an ignore file, or of `--exclude`.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// As it was written.
    text: String,
    matcher: GlobMatcher,
    /// `!pattern`: what it matches is there after all.
    exception: bool,
}

impl Patterns {
    /// Reads an ignore file: one pattern a line, `#` comments, `!` exceptions; the last match wins.
    pub fn parse(text: &str) -> Result<Self> {
        let lines = text.trim_start_matches('\u{feff}').lines().enumerate();
        let mut patterns = Vec::new();
        for (number, line) in lines.filter(|(_, line)| !line.starts_with('#')) {
            patterns.extend(pattern(line).with_context(|| format!("line {}", number + 1))?);
        }
        Ok(Patterns { patterns })
    }

    /// Whether `path` (relative to the context) is left out: by a pattern that matches it or a directory above it.
    pub fn match_path(&self, path: &Path) -> bool {
        let mut left_out = false;
        for pattern in &self.patterns {
            if pattern.exception == left_out && path.ancestors().any(|path| pattern.matcher.is_match(path)) {
                left_out = !pattern.exception;
            }
        }
        left_out
    }

    /// The patterns as they were written.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.patterns.iter().map(|pattern| if pattern.exception { format!("!{}", pattern.text) } else { pattern.text.clone() })
    }

    /// Whether something below a directory that is left out may be there after all.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }
}

fn pattern(line: &str) -> Result<Option<Pattern>> {
    let line = line.trim();
    let (exception, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
    let cleaned: Vec<&str> = line.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if cleaned.is_empty() {
        return Ok(None);
    }
    Ok(Some(Pattern { text: line.to_owned(), matcher: glob(&cleaned.join("/"))?, exception }))
}

/// A pattern of Go's `filepath.Match`, and `**` for any directories.
pub fn glob(pattern: &str) -> Result<GlobMatcher> {
    // braces mean themselves in Go's patterns
    let escaped = pattern.replace('{', "[{]").replace('}', "[}]");
    let glob = GlobBuilder::new(&escaped).literal_separator(true).backslash_escape(true).build();
    Ok(glob.with_context(|| format!("pattern `{pattern}`"))?.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_dockers() {
        for (patterns, path, left_out) in [
            ("*.md", "readme.md", true),
            ("*.md", "docs/readme.md", false),
            ("**/*.md", "docs/deep/readme.md", true),
            ("**/*.md", "readme.md", true),
            ("*.md\n!readme.md", "readme.md", false),
            ("!readme.md\n*.md", "readme.md", true),
            ("docs", "docs/a/b", true),
            ("/docs/", "docs/a", true),
            ("docs", "src/docs", false),
            ("docs/*\n!docs/keep", "docs/keep/x", false),
            ("temp?", "tempa", true),
            ("temp?", "temp", false),
            ("# comment", "# comment", false),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/z", true),
            ("{a,b}", "a", false),
            ("[ab]", "b", true),
            ("*\n!a", "b/a", true),
            ("*", "b/a", true),
            ("", "a", false),
        ] {
            assert_eq!(Patterns::parse(patterns).unwrap().match_path(Path::new(path)), left_out, "{patterns:?} {path}");
        }
    }

    #[test]
    fn wrong_patterns_are_refused_with_their_line() {
        let error = Patterns::parse("a\n[a-\n").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2"), "{error:#}");
    }
}
