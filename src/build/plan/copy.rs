//! Plans COPY and ADD: sources, destination, `--chmod`, `--chown`.

use std::path::PathBuf;

use anyhow::Result;

use super::super::add_archive::{Format, format_of};
use super::super::chown::Ownership;
use super::super::context::{Selected, parents_before_mark};
use super::super::copy_destination::one_file;
use super::super::copy_from::Selection;
use super::super::download::file_name;
use super::super::ignore_file::Patterns;
use super::super::stage_sources::FileSource;
use super::{CopyFiles, CopySource, Destination, Item, Operation, Planner};
use crate::diagnostic::Span;
use crate::error::hints_of;
use crate::image::Digest;
use crate::kubefile::{Files, Heredoc, Mode, Source, Word, expand_heredoc};
use crate::layer;

impl Planner<'_> {
    pub(super) fn copy(&mut self, files: &Files, add: bool) -> Operation {
        let exclude = self.exclude(&files.exclude);
        let checksum = self.checksum(files);
        let sources = match files.from.as_ref().and_then(|from| self.inputs.sources.copied(from)) {
            Some(from) => self.from(from.clone(), &files.sources, exclude, files.parents),
            None if files.parents => files.sources.iter().flat_map(|source| self.with_parents(source, &exclude)).collect(),
            None => files.sources.iter().flat_map(|source| self.source(source, &exclude, checksum, add)).collect(),
        };
        let mut destination = Destination::parse(&self.word(&files.dest));
        destination.is_dir |= files.parents;
        self.check_destination(files, &destination);
        let mode = self.flag(files.chmod.as_ref(), Mode::parse, "file mode", "write it like `--chmod=0755` or `--chmod=u=rwX,go=rX`");
        let owner = self.flag(files.chown.as_ref(), Ownership::parse, "owner", "write it like `--chown=user:group` or `--chown=0:0`");
        Operation::Copy(CopyFiles { sources, destination, mode, owner })
    }

    /// The sources of `COPY --from`: heredocs, and paths in a stage or an image.
    fn from(&mut self, from: FileSource, sources: &[Source], exclude: Patterns, parents: bool) -> Vec<CopySource> {
        let (mut found, mut paths) = (Vec::new(), Vec::new());
        for source in sources {
            match source {
                Source::Inline(heredoc) => found.push(CopySource::Item(self.inline(heredoc))),
                Source::Path(word) => paths.push(self.word(word)),
            }
        }
        found.push(CopySource::From(Selection { source: from, paths, exclude, parents }));
        found
    }

    /// The files of a source, below the directories of its path (`--parents`).
    fn with_parents(&mut self, source: &Source, exclude: &Patterns) -> Vec<CopySource> {
        let word = match source {
            Source::Inline(heredoc) => return vec![CopySource::Item(self.inline(heredoc))],
            Source::Path(word) => word,
        };
        let path = self.word(word);
        let skip = parents_before_mark(&path);
        let found = self
            .items(&path, |selected| Ok(Item { name: PathBuf::new(), tree: self.context.tree_with_parents(&selected, skip, exclude)? }));
        match found {
            Ok(items) => items.into_iter().map(CopySource::Item).collect(),
            Err(error) => self.source_error(&path, &word.span, &error),
        }
    }

    fn source(&mut self, source: &Source, exclude: &Patterns, checksum: Option<Digest>, add: bool) -> Vec<CopySource> {
        match source {
            Source::Inline(heredoc) => vec![CopySource::Item(self.inline(heredoc))],
            Source::Path(word) => {
                let path = self.word(word);
                if is_url(&path) {
                    return self.downloaded(&path, checksum, &word.span);
                }
                if checksum.is_some() {
                    self.error(&word.span, format!("`--checksum` needs a URL as source, `{path}` is a local path")).help =
                        Some("remove `--checksum`".to_owned());
                }
                if add {
                    return self.unpacked(&path, &word.span, exclude);
                }
                self.selected(&path, &word.span, exclude).into_iter().map(CopySource::Item).collect()
            }
        }
    }

    /// A file from a URL, under its name there. It has the mode that docker gives it, and no time, so that it is the same everywhere.
    fn downloaded(&mut self, url: &str, checksum: Option<Digest>, span: &Span) -> Vec<CopySource> {
        let Some((url, file)) = self.remote(url, checksum, span) else { return Vec::new() };
        let name = file_name(&url).unwrap_or_else(|| PathBuf::from("download"));
        vec![CopySource::Item(one_file(name, layer::Source::File(file.path, file.size), 0o600))]
    }

    fn checksum(&mut self, files: &Files) -> Option<Digest> {
        let word = files.checksum.as_ref()?;
        let text = self.word(word);
        if files.sources.len() != 1 {
            self.error(&word.span, "`--checksum` needs exactly one source").help = Some("write one ADD for each file".to_owned());
            return None;
        }
        text.parse()
            .map_err(|error| {
                self.error(&word.span, format!("`{text}` is not a valid checksum: {error}")).help =
                    Some("write `--checksum=sha256:` and 64 hexadecimal digits".to_owned());
            })
            .ok()
    }

    /// The files and directories that a path or pattern names.
    pub(super) fn selected(&mut self, path: &str, span: &Span, exclude: &Patterns) -> Vec<Item> {
        let found = self.items(path, |selected| Ok(Item { tree: self.context.tree(&selected, exclude)?, name: selected.name }));
        found.unwrap_or_else(|error| {
            self.source_error(path, span, &error);
            Vec::new()
        })
    }

    fn items(&self, path: &str, item: impl Fn(Selected) -> Result<Item>) -> Result<Vec<Item>> {
        self.context.select(path)?.into_iter().map(item).collect()
    }

    /// The files of a source of ADD: archives are unpacked.
    fn unpacked(&mut self, path: &str, span: &Span, exclude: &Patterns) -> Vec<CopySource> {
        let selected = match self.context.select(path) {
            Ok(selected) => selected,
            Err(error) => return self.source_error(path, span, &error),
        };
        let mut sources = Vec::new();
        for selected in selected {
            let format = if selected.is_dir { Ok(Format::Other) } else { format_of(&selected.path) };
            match format {
                Ok(Format::Other) => match self.context.tree(&selected, exclude) {
                    Ok(tree) => sources.push(CopySource::Item(Item { name: selected.name, tree })),
                    Err(error) => sources.extend(self.source_error(path, span, &error)),
                },
                Ok(format) => sources.push(CopySource::Archive(selected.path, format)),
                Err(error) => sources.extend(self.source_error(path, span, &error)),
            }
        }
        sources
    }

    fn source_error(&mut self, path: &str, span: &Span, error: &anyhow::Error) -> Vec<CopySource> {
        self.error(span, format!("`{path}` {error:#}")).help = hints_of(error).first().cloned();
        Vec::new()
    }

    fn inline(&mut self, heredoc: &Heredoc) -> Item {
        let text = &heredoc.content.value;
        let expanded = match heredoc.expand {
            true => expand_heredoc(text, self.escape, |name| self.variables.get(name)).map(|expanded| expanded.text),
            false => Ok(text.clone()),
        };
        let bytes = expanded.unwrap_or_else(|error| {
            self.error(&heredoc.content.span, error.to_string());
            String::new()
        });
        one_file((&heredoc.name).into(), layer::Source::Bytes(bytes.into_bytes()), 0o644)
    }

    fn exclude(&mut self, words: &[Word]) -> Patterns {
        let lines: Vec<String> = words.iter().map(|word| self.word(word)).collect();
        Patterns::parse(&lines.join("\n")).unwrap_or_else(|error| {
            self.error(&words[0].span, format!("--exclude: {error:#}"));
            Patterns::default()
        })
    }

    /// Several sources can be copied into a directory only.
    fn check_destination(&mut self, files: &Files, destination: &Destination) {
        if files.sources.len() > 1 && !destination.is_dir {
            self.error(&files.dest.span, "the destination of several sources must be a directory").help =
                Some(format!("end it with a slash: `{}/`", files.dest.value));
        }
    }

    /// The value of a flag; an error with `help` if it is not a valid `what`.
    fn flag<T>(&mut self, word: Option<&Word>, parse: impl Fn(&str) -> Option<T>, what: &str, help: &str) -> Option<T> {
        let word = word?;
        let text = self.word(word);
        let value = parse(&text);
        if value.is_none() {
            self.error(&word.span, format!("`{text}` is not a valid {what}")).help = Some(help.to_owned());
        }
        value
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
