//! COPY and ADD: sources, owners, modes, stages to copy from.

use url::Url;

use super::{Checker, Scope, is_url};
use crate::diagnostic::{Span, did_you_mean};
use crate::image::Digest;
use crate::kubefile::{Files, Mode, Source, Word};

impl Checker<'_> {
    pub(super) fn files(&mut self, files: &Files, scope: &Scope, add: bool) {
        if let Some(from) = &files.from {
            self.copy_from(from, scope);
        }
        for source in &files.sources {
            if let Source::Path(word) = source {
                self.word(word, scope);
                self.source(word, files, add);
            }
        }
        for word in [&files.dest].into_iter().chain(&files.exclude).chain(&files.chown).chain(&files.chmod).chain(&files.checksum) {
            self.word(word, scope);
        }
        self.modes(files);
    }

    fn source(&mut self, word: &Word, files: &Files, add: bool) {
        let Some(text) = self.literal(word) else { return };
        let is_git = text.starts_with("git://") || text.starts_with("git@") || (is_url(&text) && text.ends_with(".git"));
        if is_git {
            self.error(&word.span, "copying from a git repository is not supported", "clone it into the build context first");
        } else if is_url(&text) && Url::parse(&text).is_err() {
            self.error(&word.span, format!("`{text}` is not a valid URL"), "write it like `https://example.com/file.tar.gz`");
        } else if is_url(&text) && !add && files.from.is_none() {
            self.warn(&word.span, "COPY from a URL is Sealer's older spelling", "write `ADD`, with `--checksum=sha256:…`");
        }
    }

    fn copy_from(&mut self, from: &Word, scope: &Scope) {
        self.word(from, scope);
        let Some(text) = self.literal(from) else { return };
        let lower = text.to_lowercase();
        let known = self.stages.len();
        if let Ok(number) = text.parse::<usize>() {
            if number >= known {
                self.error(&from.span, format!("there is no stage {number} before this one"), "stages count from 0");
            }
        } else if scope.name.as_deref() == Some(&lower) {
            self.error(&from.span, format!("`{text}` is this stage itself"), "copy from an earlier stage");
        } else if self.names.iter().skip(known).any(|name| *name == lower) {
            self.error(&from.span, format!("stage `{text}` comes only later"), "move the stage up: files are copied from earlier ones");
        } else if !self.names.contains(&lower) {
            self.image_name(from, &text);
            self.misspelt_stage(from, &lower);
        }
    }

    /// An image may have any name; one that is almost a stage's is hardly meant.
    fn misspelt_stage(&mut self, from: &Word, text: &str) {
        if let Some(meant) = did_you_mean(text, self.names.clone().iter().map(String::as_str)) {
            self.error(
                &from.span,
                format!("there is no stage `{text}`"),
                format!("did you mean `{meant}`? An image is named with its tag"),
            );
        }
    }

    fn modes(&mut self, files: &Files) {
        if let Some((span, text)) = self.given(files.chmod.as_ref()).filter(|(_, text)| Mode::parse(text).is_none()) {
            self.error(&span, format!("`{text}` is not a valid file mode"), "write it like `--chmod=0755` or `--chmod=u=rwX,go=rX`");
        }
        if let Some((span, text)) = self.given(files.chown.as_ref()).filter(|(_, text)| !is_owner(text)) {
            self.error(&span, format!("`{text}` is not a valid owner"), "write it like `--chown=user:group` or `--chown=0:0`");
        }
        let Some((span, text)) = self.given(files.checksum.as_ref()) else { return };
        if text.parse::<Digest>().is_err() {
            self.error(&span, format!("`{text}` is not a valid checksum"), "write `--checksum=sha256:` and 64 hexadecimal digits");
        } else if files.sources.len() != 1 {
            self.error(&span, "`--checksum` needs exactly one source", "write one ADD for each file");
        }
    }

    /// A flag's value, if it is given and has no variables.
    fn given(&self, word: Option<&Word>) -> Option<(Span, String)> {
        word.and_then(|word| Some((word.span.clone(), self.literal(word)?)))
    }
}

fn is_owner(text: &str) -> bool {
    let mut parts = text.split(':');
    parts.clone().count() <= 2 && parts.all(|part| !part.is_empty())
}
