//! COPY and ADD: which files, where to, whose.

use super::super::ignore::Patterns;
use super::super::origin::Origin;
use super::super::selection::Selection;
use super::super::untar::{Format, format_of};
use super::{Attributes, Destination, Item, Piece, Placement, Planner, Work};
use crate::diagnostic::Span;
use crate::kubefile::{Files, Heredoc, Source, Word, expand_heredoc};
use crate::layer::{self, Entry, Tree};

impl Planner<'_> {
    pub(super) fn copy(&mut self, files: &Files, add: bool) -> Work {
        let exclude = self.exclude(&files.exclude);
        let pieces = match files.from.as_ref().and_then(|from| self.known.origins.copied(from)) {
            Some(origin) => self.from(origin.clone(), &files.sources, exclude),
            None => files.sources.iter().flat_map(|source| self.source(source, &exclude, add)).collect(),
        };
        let destination = Destination::parse(&self.word(&files.dest));
        self.several_want_a_directory(files, &destination);
        Work::Place(Placement { pieces, destination, attributes: self.attributes(files) })
    }

    /// What is taken from a stage or an image, beside what stands in the Kubefile.
    fn from(&mut self, origin: Origin, sources: &[Source], exclude: Patterns) -> Vec<Piece> {
        let (mut pieces, mut paths) = (Vec::new(), Vec::new());
        for source in sources {
            match source {
                Source::Inline(heredoc) => pieces.push(Piece::Item(self.inline(heredoc))),
                Source::Path(word) => paths.push(self.word(word)),
            }
        }
        pieces.push(Piece::From(Selection { origin, paths, exclude }));
        pieces
    }

    fn source(&mut self, source: &Source, exclude: &Patterns, add: bool) -> Vec<Piece> {
        match source {
            Source::Inline(heredoc) => vec![Piece::Item(self.inline(heredoc))],
            Source::Path(word) => {
                let path = self.word(word);
                if path.starts_with("http://") || path.starts_with("https://") {
                    self.not_yet(&word.span, "fetching from a URL", "download the file into the build context first");
                    return Vec::new();
                }
                if add { self.added(&path, &word.span, exclude) } else { self.selected(&path, &word.span, exclude) }
            }
        }
    }

    /// The files and directories that a path or pattern names.
    pub(super) fn selected(&mut self, path: &str, span: &Span, exclude: &Patterns) -> Vec<Piece> {
        let found = self.context.select(path).and_then(|selected| {
            let item = |one| Ok(Piece::Item(Item { name: one_name(&one), tree: self.context.tree(&one, exclude)? }));
            selected.into_iter().map(item).collect::<anyhow::Result<Vec<_>>>()
        });
        found.unwrap_or_else(|error| self.no_source(path, span, &error))
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
                Ok(Format::Unsupported(name)) => {
                    self.not_yet(span, &format!("unpacking {name}"), "use gzip or zstd, or COPY the archive as it is");
                }
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
        let source = layer::Source::Bytes(bytes.into_bytes());
        let entry = Entry { source, mode: 0o644, uid: 0, gid: 0, mtime: 0, xattrs: Default::default() };
        Item { name: (&heredoc.name).into(), tree: Tree::from([(Default::default(), entry)]) }
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

    fn attributes(&mut self, files: &Files) -> Attributes {
        let mode = files.chmod.as_ref().and_then(|word| {
            let text = self.word(word);
            let mode = u32::from_str_radix(&text, 8).ok().filter(|mode| *mode <= 0o7777);
            if mode.is_none() {
                self.error(&word.span, format!("`{text}` is no file mode")).help =
                    Some("write it in octal, like `--chmod=0755`".to_owned());
            }
            mode
        });
        let owner = files.chown.as_ref().and_then(|word| {
            let text = self.word(word);
            let owner = owner(&text);
            if owner.is_none() {
                self.not_yet(&word.span, &format!("looking up the owner `{text}`"), "write numbers, like `--chown=1000:1000`");
            }
            owner
        });
        Attributes { mode, owner }
    }
}

fn one_name(selected: &super::super::context::Selected) -> std::path::PathBuf {
    selected.name.clone()
}

/// `user[:group]`; without a group it is the user's number.
fn owner(text: &str) -> Option<(u64, u64)> {
    let number = |name: &str| if name == "root" { Some(0) } else { name.parse::<u32>().ok().map(u64::from) };
    match text.split_once(':') {
        Some((user, group)) => Some((number(user)?, number(group)?)),
        None => number(text).map(|user| (user, user)),
    }
}
