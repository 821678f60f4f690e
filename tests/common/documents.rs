//! The documents of this repository, and what they tell to type.

use std::path::{Path, PathBuf};

/// A document of this repository.
pub struct Document {
    pub path: PathBuf,
    pub text: String,
}

/// The root of this repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads one.
pub fn read(path: PathBuf) -> Document {
    Document { text: std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())), path }
}

/// Both READMEs and everything in `docs/`.
pub fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root().join("docs"))
        .expect("the repository is whole")
        .map(|entry| entry.expect("the repository is whole").path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.extend(["README.md", "README.zh.md"].map(|name| root().join(name)));
    paths.sort();
    paths.into_iter().map(read).collect()
}

impl Document {
    /// The part under a heading of the second level.
    pub fn section(&self, title: &str) -> Document {
        let heading = format!("\n## {title}\n");
        let begin = self.text.find(&heading).unwrap_or_else(|| panic!("{}: no section {title}", self.name())) + heading.len();
        let end = self.text[begin..].find("\n## ").map_or(self.text.len(), |end| begin + end);
        Document { path: self.path.clone(), text: self.text[begin..end].to_owned() }
    }

    /// Its path in this repository.
    pub fn name(&self) -> String {
        self.path.strip_prefix(root()).expect("the repository is whole").display().to_string()
    }

    /// The lines that a reader types: all of `sh` blocks, those with a prompt of `console` blocks; continued lines joined,
    /// comments off. With the line number where each begins.
    pub fn commands(&self) -> Vec<(usize, String)> {
        let (mut fence, mut open, mut commands) = (None, None::<(usize, String)>, Vec::new());
        for (number, line) in (1..).zip(self.text.lines()) {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                fence = if fence.is_none() { Some(language.trim()) } else { None };
                continue;
            }
            let continued = open.is_some();
            let typed = match fence {
                Some("sh") => Some(line),
                Some("console") => line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).or(continued.then_some(line)),
                _ => None,
            };
            let Some(typed) = typed.map(without_comment) else { continue };
            let (begin, before) = open.take().unwrap_or((number, String::new()));
            match typed.strip_suffix('\\') {
                Some(part) => open = Some((begin, before + part)),
                None if before.is_empty() && typed.is_empty() => {}
                None => commands.push((begin, before + typed)),
            }
        }
        commands
    }

    /// The targets of links, without anchors; no URLs.
    pub fn links(&self) -> Vec<&str> {
        let targets = self.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let paths = targets.filter(|target| !target.contains("://")).filter_map(|target| target.split('#').next());
        paths.filter(|path| !path.is_empty()).collect()
    }

    /// What is set as code and begins with a directory of this repository: `docs/…`, `scripts/…`.
    pub fn named_files(&self) -> Vec<String> {
        let code = self.text.split('`').skip(1).step_by(2).map(str::to_owned);
        let typed = self.commands().into_iter().map(|(_, command)| command);
        let words = code.chain(typed).flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        words.filter(|word| is_path(word)).collect()
    }
}

fn is_path(word: &str) -> bool {
    let directories = ["docs/", "scripts/", "tests/", "testdata/", "kubefiles/", "benches/", "src/"];
    directories.iter().any(|directory| word.starts_with(directory)) && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
}

fn without_comment(line: &str) -> &str {
    let line = if line.trim_start().starts_with('#') { "" } else { line };
    line.split(" #").next().unwrap_or(line).trim_end()
}
