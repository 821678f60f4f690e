//! Ignore files: which paths COPY does not see (docker's rules, as in moby's `patternmatcher`).

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use globset::{GlobBuilder, GlobMatcher};
use regex::bytes::Regex;

/// The patterns of an ignore file, in order.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// As it was written.
    text: String,
    matcher: Regex,
    /// `!pattern`: includes paths that earlier patterns exclude.
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

    /// Whether `path` (relative to the context) is excluded: by a pattern that matches it or a directory above it.
    pub fn match_path(&self, path: &Path) -> bool {
        let mut is_excluded = false;
        for pattern in &self.patterns {
            let mut parts = path.ancestors().filter(|part| !part.as_os_str().is_empty());
            if pattern.exception == is_excluded && parts.any(|part| pattern.matcher.is_match(part.as_os_str().as_bytes())) {
                is_excluded = !pattern.exception;
            }
        }
        is_excluded
    }

    /// The patterns, as in the ignore file.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.patterns.iter().map(|pattern| if pattern.exception { format!("!{}", pattern.text) } else { pattern.text.clone() })
    }

    /// Whether something below an excluded directory may be included.
    pub fn has_exceptions(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.exception)
    }
}

fn pattern(line: &str) -> Result<Option<Pattern>> {
    let line = line.trim();
    let (exception, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
    if exception && line.is_empty() {
        bail!("`!` needs a pattern after it");
    }
    let cleaned = cleaned(line);
    if cleaned.is_empty() {
        return Ok(None);
    }
    Ok(Some(Pattern { text: line.to_owned(), matcher: regex(&cleaned)?, exception }))
}

/// The pattern without `.`, `..` and double slashes (Go's `filepath.Clean`), relative to the context.
fn cleaned(pattern: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            // `..` stops at the root
            ".." if pattern.starts_with('/') => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// The regular expression of a pattern: Go's `filepath.Match`, and `**` for any number of directories.
fn regex(pattern: &str) -> Result<Regex> {
    let (mut text, mut chars) = ("(?s)^".to_owned(), pattern.chars().peekable());
    while let Some(char) = chars.next() {
        match char {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                text += if chars.peek().is_none() { "(?-u:.)*" } else { "((?-u:.)*/)?" };
            }
            '*' => text += "(?-u:[^/])*",
            '?' => text += "[^/]",
            '[' | ']' | '^' | '-' => text.push(char),
            '\\' => text += &regex::escape(&chars.next().unwrap_or('\\').to_string()),
            _ => text += &regex::escape(&char.to_string()),
        }
    }
    Regex::new(&format!("{text}$")).map_err(|_| anyhow::anyhow!("`{pattern}` is not a valid pattern: use `*`, `?`, `**` and `[a-z]`"))
}

/// Compiles a pattern of Go's `filepath.Match`, in which `**` stands for any number of directories.
pub fn glob(pattern: &str) -> Result<GlobMatcher> {
    // braces are literal in Go's patterns
    let escaped = pattern.replace('{', "[{]").replace('}', "[}]");
    let glob = GlobBuilder::new(&escaped).literal_separator(true).backslash_escape(true).build();
    Ok(glob.with_context(|| format!("pattern `{pattern}`"))?.compile_matcher())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn patterns_match_as_in_docker() {
        for (patterns, path, is_excluded) in [
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
            (" # no comment", "# no comment", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "a/z", true),
            ("{a,b}", "a", false),
            ("[ab]", "b", true),
            ("*\n!a", "b/a", true),
            ("*", "b/a", true),
            ("", "a", false),
            // the examples of docker's reference
            ("*/temp*", "somedir/temporary.txt", true),
            ("*/temp*", "temporary.txt", false),
            ("*/*/temp*", "somedir/subdir/temporary.txt", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true),
            ("*.md\n!README*.md\nREADME-secret.md", "README-open.md", false),
            ("*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false),
            ("**", "a/b", true),
            ("**\n!keep", "keep/a", false),
            ("dir/**", "dir/a/b", true),
            ("dir/**", "dir", false),
            ("**/foo/bar", "foo/bar", true),
            ("**/foo/bar", "a/foo/bar/x", true),
            ("abc/**/def", "abc/x/y/def", true),
            ("./a/../b/", "b/c", true),
            ("/..//a", "a", true),
            ("../a", "a", false),
            ("a\\*", "a*", true),
            ("a\\*", "ab", false),
            ("[^a]b", "cb", true),
            ("[^a]b", "ab", false),
            ("[!a]b", "!b", true),
            ("[a-c]x", "bx", true),
            ("a.b", "axb", false),
            ("a+(b)|$", "a+(b)|$", true),
            ("*.txt", "ä.txt", true),
            ("?.txt", "ä.txt", true),
            ("/", "a", false),
            (".", "a", false),
        ] {
            assert_eq!(Patterns::parse(patterns).unwrap().match_path(Path::new(path)), is_excluded, "{patterns:?} {path}");
        }
        let non_utf8 = Path::new(OsStr::from_bytes(b"dir/\xff.log"));
        assert!(Patterns::parse("**/*.log").unwrap().match_path(non_utf8) && Patterns::parse("dir").unwrap().match_path(non_utf8));
    }

    #[test]
    fn errors_of_patterns_have_their_line() {
        for text in ["a\n[a-\n", "a\n!\n", "a\n[z-a]"] {
            let error = Patterns::parse(text).unwrap_err();
            assert!(format!("{error:#}").starts_with("line 2"), "{text}: {error:#}");
        }
    }
}
