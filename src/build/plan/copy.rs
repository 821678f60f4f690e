//! COPY and ADD: which files, where to, whose.

use std::path::PathBuf;

use super::super::add_archive::{Format, format_of};
use super::super::chown::Ownership;
use super::super::context::left_out_parents;
use super::super::copy_destination::one_file;
use super::super::copy_from::Selection;
use super::super::download::file_name;
use super::super::ignore_file::Patterns;
use super::super::stage_sources::FileSource;
use super::{Destination, Item, Piece, Placement, Planner, Work};
use crate::diagnostic::Span;
use crate::image::Digest;
use crate::kubefile::{Files, Heredoc, Mode, Source, Word, expand_heredoc};
use crate::layer;

impl Planner<'_> {
    pub(super) fn copy(&mut self, files: &Files, add: bool) -> Work {
        let exclude = self.exclude(&files.exclude);
        let checksum = self.checksum(files);
        let pieces = match files.from.as_ref().and_then(|from| self.known.origins.copied(from)) {
            Some(origin) => self.from(origin.clone(), &files.sources, exclude, files.parents),
            None if files.parents => files.sources.iter().flat_map(|source| self.with_parents(source, &exclude)).collect(),
            None => files.sources.iter().flat_map(|source| self.source(source, &exclude, checksum, add)).collect(),
        };
        let mut destination = Destination::parse(&self.word(&files.dest));
        destination.is_dir |= files.parents;
        self.several_want_a_directory(files, &destination);
        let (mode, owner) = (self.mode(files), self.owner(files));
        Work::Place(Placement { pieces, destination, mode, owner })
    }

    /// What is taken from a stage or an image, beside what stands in the Kubefile.
    fn from(&mut self, origin: FileSource, sources: &[Source], exclude: Patterns, parents: bool) -> Vec<Piece> {
        let (mut pieces, mut paths) = (Vec::new(), Vec::new());
        for source in sources {
            match source {
                Source::Inline(heredoc) => pieces.push(Piece::Item(self.inline(heredoc))),
                Source::Path(word) => paths.push(self.word(word)),
            }
        }
        pieces.push(Piece::From(Selection { origin, paths, exclude, parents }));
        pieces
    }

    /// What a source names, below the directories that it names (`--parents`).
    fn with_parents(&mut self, source: &Source, exclude: &Patterns) -> Vec<Piece> {
        let word = match source {
            Source::Inline(heredoc) => return vec![Piece::Item(self.inline(heredoc))],
            Source::Path(word) => word,
        };
        let path = self.word(word);
        let left = left_out_parents(&path);
        let item = |one| Ok(Item { name: PathBuf::new(), tree: self.context.tree_with_parents(&one, left, exclude)? });
        let found = self.context.select(&path).and_then(|selected| selected.into_iter().map(item).collect::<anyhow::Result<Vec<_>>>());
        match found {
            Ok(items) => items.into_iter().map(Piece::Item).collect(),
            Err(error) => self.no_source(&path, &word.span, &error),
        }
    }

    fn source(&mut self, source: &Source, exclude: &Patterns, checksum: Option<Digest>, add: bool) -> Vec<Piece> {
        match source {
            Source::Inline(heredoc) => vec![Piece::Item(self.inline(heredoc))],
            Source::Path(word) => {
                let path = self.word(word);
                if is_url(&path) {
                    return self.fetched(&path, checksum, &word.span);
                }
                if checksum.is_some() {
                    self.error(&word.span, format!("`{path}` is no URL, so there is no `--checksum` for it"));
                }
                if add {
                    return self.added(&path, &word.span, exclude);
                }
                self.selected(&path, &word.span, exclude).into_iter().map(Piece::Item).collect()
            }
        }
    }

    /// A file from a URL, under the name that it has there; with docker's mode, and without a time so that it is the same everywhere.
    fn fetched(&mut self, url: &str, checksum: Option<Digest>, span: &Span) -> Vec<Piece> {
        let Some((url, file)) = self.remote(url, checksum, span) else { return Vec::new() };
        let name = file_name(&url).unwrap_or_else(|| PathBuf::from("download"));
        vec![Piece::Item(one_file(name, layer::Source::File(file.path, file.size), 0o600))]
    }

    fn checksum(&mut self, files: &Files) -> Option<Digest> {
        let word = files.checksum.as_ref()?;
        let text = self.word(word);
        if files.sources.len() != 1 {
            self.error(&word.span, "`--checksum` is for one file").help = Some("write one ADD for each file".to_owned());
            return None;
        }
        text.parse()
            .map_err(|error| {
                self.error(&word.span, format!("`{text}` is no checksum: {error}")).help =
                    Some("write `--checksum=sha256:` and 64 hexadecimal digits".to_owned());
            })
            .ok()
    }

    /// The files and directories that a path or pattern names.
    pub(super) fn selected(&mut self, path: &str, span: &Span, exclude: &Patterns) -> Vec<Item> {
        let found = self.context.select(path).and_then(|selected| {
            let item = |one| Ok(Item { name: one_name(&one), tree: self.context.tree(&one, exclude)? });
            selected.into_iter().map(item).collect::<anyhow::Result<Vec<_>>>()
        });
        found.unwrap_or_else(|error| {
            self.no_source(path, span, &error);
            Vec::new()
        })
    }

    /// As [`Self::selected`], but archives are to be unpacked.
    fn added(&mut self, path: &str, span: &Span, exclude: &Patterns) -> Vec<Piece> {
        let selected = match self.context.select(path) {
            Ok(selected) => selected,
            Err(error) => return self.no_source(path, span, &error),
        };
        let mut pieces = Vec::new();
        for one in selected {
            let format = if one.is_dir { Ok(Format::Other) } else { format_of(&one.path) };
            match format {
                Ok(Format::Other) => match self.context.tree(&one, exclude) {
                    Ok(tree) => pieces.push(Piece::Item(Item { name: one_name(&one), tree })),
                    Err(error) => pieces.extend(self.no_source(path, span, &error)),
                },
                Ok(format) => pieces.push(Piece::Archive(one.path, format)),
                Err(error) => pieces.extend(self.no_source(path, span, &error)),
            }
        }
        pieces
    }

    fn no_source(&mut self, path: &str, span: &Span, error: &anyhow::Error) -> Vec<Piece> {
        self.error(span, format!("`{path}` {error:#}"));
        Vec::new()
    }

    fn inline(&mut self, heredoc: &Heredoc) -> Item {
        let text = &heredoc.content.value;
        let expanded = match heredoc.expand {
            true => expand_heredoc(text, self.escape, |name| self.scope.get(name)).map(|expanded| expanded.text),
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

    fn several_want_a_directory(&mut self, files: &Files, destination: &Destination) {
        if files.sources.len() > 1 && !destination.is_dir {
            self.error(&files.dest.span, "several sources need a directory to go to").help = Some(format!("write `{}/`", files.dest.value));
        }
    }

    fn mode(&mut self, files: &Files) -> Option<Mode> {
        let word = files.chmod.as_ref()?;
        let text = self.word(word);
        let mode = Mode::parse(&text);
        if mode.is_none() {
            self.error(&word.span, format!("`{text}` is no file mode")).help =
                Some("write it like `--chmod=0755` or `--chmod=u=rwX,go=rX`".to_owned());
        }
        mode
    }

    fn owner(&mut self, files: &Files) -> Option<Ownership> {
        let word = files.chown.as_ref()?;
        let text = self.word(word);
        let owner = Ownership::parse(&text);
        if owner.is_none() {
            self.error(&word.span, format!("`{text}` is no owner")).help =
                Some("write it like `--chown=user:group` or `--chown=0:0`".to_owned());
        }
        owner
    }
}

fn one_name(selected: &super::super::context::Selected) -> std::path::PathBuf {
    selected.name.clone()
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
