//! What FROM and COPY --from name: which stages are needed, and which images.

use std::collections::BTreeMap;
use std::fmt;

use super::options::Options;
use super::variables::Variables;
use crate::diagnostic::{Diagnostic, Span};
use crate::image::{Reference, parse_platform, platform_string};
use crate::kubefile::{self, Instruction, Kubefile, Step, Word, expand};

/// What FROM or COPY --from names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileSource {
    /// `scratch`: no files.
    Scratch,
    /// The stage with this number, from 0.
    Stage(usize),
    /// An image in the store or a registry.
    Image(Image),
}

impl fmt::Display for FileSource {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileSource::Scratch => write!(out, "`scratch`"),
            FileSource::Stage(number) => write!(out, "stage {number}"),
            FileSource::Image(image) => write!(out, "`{}`", image.name.familiar()),
        }
    }
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// Its name.
    pub name: Reference,
    /// The platform, like `linux/amd64`.
    pub platform: String,
}

/// What FROM and COPY --from name, in the stages that the last one needs.
#[derive(Debug, Default)]
pub struct StageSources {
    /// What FROM names, by stage.
    starts: BTreeMap<usize, FileSource>,
    /// What each `--from` names, by its offset in the text.
    copies: BTreeMap<usize, FileSource>,
}

impl StageSources {
    /// Follows the last stage back to all that it needs. Gives what is known, and what is wrong with names.
    pub fn find(kubefile: &Kubefile, options: &Options) -> (Self, Vec<Diagnostic>) {
        let mut finder = Finder { kubefile, options, sources: StageSources::default(), diagnostics: Vec::new(), todo: Vec::new() };
        finder.todo.extend(kubefile.stages.len().checked_sub(1));
        while let Some(number) = finder.todo.pop() {
            if !finder.sources.starts.contains_key(&number) {
                finder.stage(number);
            }
        }
        (finder.sources, finder.diagnostics)
    }

    /// The needed stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = usize> {
        self.starts.keys().copied()
    }

    /// What a needed stage's FROM names.
    pub fn start(&self, stage: usize) -> FileSource {
        self.starts.get(&stage).cloned().unwrap_or(FileSource::Scratch)
    }

    /// What a `--from` names.
    pub fn copied(&self, from: &Word) -> Option<&FileSource> {
        self.copies.get(&from.span.start)
    }

    /// The images that are needed.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.starts.values().chain(self.copies.values()).filter_map(|source| match source {
            FileSource::Image(image) => Some(image),
            _ => None,
        })
    }

    /// The image that a stage is based on, through all stages between; `None` for `FROM scratch`.
    pub fn root(&self, stage: usize) -> Option<&Image> {
        match self.starts.get(&stage)? {
            FileSource::Scratch => None,
            // a stage starts from earlier ones only
            FileSource::Stage(earlier) => self.root(*earlier),
            FileSource::Image(image) => Some(image),
        }
    }
}

struct Finder<'a> {
    kubefile: &'a Kubefile,
    options: &'a Options,
    sources: StageSources,
    diagnostics: Vec<Diagnostic>,
    todo: Vec<usize>,
}

impl Finder<'_> {
    fn stage(&mut self, number: usize) {
        let stage = &self.kubefile.stages[number];
        let from = &stage.from.value;
        let mut variables = Variables::global(self.kubefile, self.options);
        let platform = from.platform.as_ref().map(|word| self.word(word, &variables));
        let start = self.source(&from.image, number, platform.as_deref(), &variables);
        self.sources.starts.insert(number, start);
        variables.enter_stage(BTreeMap::new());
        for step in &stage.steps {
            self.instruction(step, number, &mut variables);
        }
    }

    /// Variables of the Kubefile are replaced in `--from`; those of images are not, as the images are not pulled yet.
    fn instruction(&mut self, step: &Step, number: usize, variables: &mut Variables) {
        match &step.instruction {
            Instruction::Arg(args) => args.iter().for_each(|arg| {
                let default = arg.default.as_ref().map(|word| self.word(word, variables));
                variables.declare(&arg.name.value, default);
            }),
            Instruction::Env(pairs) => pairs.iter().for_each(|pair| {
                let (key, value) = (self.word(&pair.key, variables), self.word(&pair.value, variables));
                variables.set(&key, &value);
            }),
            Instruction::Copy(kubefile::Files { from: Some(from), .. }) => {
                let source = self.copied(from, number, variables);
                self.sources.copies.insert(from.span.start, source);
            }
            _ => {}
        }
    }

    fn copied(&mut self, from: &Word, number: usize, variables: &Variables) -> FileSource {
        match self.word(from, variables).parse::<usize>() {
            Ok(stage) if stage < number => {
                self.todo.push(stage);
                FileSource::Stage(stage)
            }
            // the parser has reported a number without a stage
            Ok(_) => FileSource::Scratch,
            Err(_) => self.source(from, number, None, variables),
        }
    }

    fn source(&mut self, word: &Word, number: usize, platform: Option<&str>, variables: &Variables) -> FileSource {
        let text = self.word(word, variables);
        let earlier = &self.kubefile.stages[..number];
        if let Some(stage) = earlier.iter().position(|stage| stage.name().is_some_and(|name| name.eq_ignore_ascii_case(&text))) {
            self.todo.push(stage);
            return FileSource::Stage(stage);
        }
        if text == "scratch" || text.is_empty() {
            return FileSource::Scratch;
        }
        let platform = match platform {
            Some(text) => parse_platform(text).map(|platform| platform_string(&platform)),
            None => Ok(platform_string(&self.options.platform)),
        };
        match (text.parse(), platform) {
            (Ok(name), Ok(platform)) => FileSource::Image(Image { name, platform }),
            (Err(error), _) | (_, Err(error)) => {
                self.error(&word.span, format!("{error:#}"));
                FileSource::Scratch
            }
        }
    }

    /// A word with its variables replaced. The planner reports what is wrong with it.
    fn word(&mut self, word: &Word, variables: &Variables) -> String {
        expand(&word.value, self.kubefile.escape, |name| variables.get(name)).map(|expanded| expanded.text).unwrap_or_default()
    }

    fn error(&mut self, span: &Span, message: String) {
        self.diagnostics.push(Diagnostic::error(&self.options.kubefile, span.clone(), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::test_support::options;
    use crate::kubefile::parse;

    fn find(text: &str) -> (StageSources, Vec<String>) {
        let options = options(std::path::Path::new("/"), text);
        let (sources, diagnostics) = StageSources::find(&parse("Kubefile", text).kubefile, &options);
        (sources, diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect())
    }

    #[test]
    fn only_what_the_last_stage_needs_is_built() {
        for (name, text, stages, images) in [
            ("one stage", "FROM a\n", vec![0], vec!["a:latest"]),
            ("an unused one", "FROM a AS x\nFROM b\n", vec![1], vec!["b:latest"]),
            (
                "copied from by name and number",
                "FROM a AS x\nFROM b\nFROM scratch\nCOPY --from=x f .\nCOPY --from=1 f .\n",
                vec![0, 1, 2],
                vec!["a:latest", "b:latest"],
            ),
            ("started from", "FROM a AS X\nFROM x AS y\nFROM Y\n", vec![0, 1, 2], vec!["a:latest"]),
            ("an image copied from", "FROM scratch\nARG V=2\nCOPY --from=quay.io/a/b:$V f .\n", vec![0], vec!["quay.io/a/b:2"]),
            ("named by an argument", "ARG B=base:1\nFROM $B\n", vec![0], vec!["base:1"]),
        ] {
            let (sources, errors) = find(text);
            let found: Vec<String> = sources.images().map(|image| image.name.familiar()).collect();
            assert_eq!(
                (sources.stages().collect::<Vec<_>>(), found, errors),
                (stages, images.iter().map(|image| (*image).to_owned()).collect(), vec![]),
                "{name}"
            );
        }
    }

    #[test]
    fn platforms_and_roots_follow_the_stages() {
        let (sources, _) = find("FROM --platform=linux/s390x a AS x\nFROM x\nCOPY --from=b f .\n");
        assert_eq!(sources.root(1).map(|image| image.platform.as_str()), Some("linux/s390x"));
        assert_eq!(sources.images().map(|image| image.platform.as_str()).collect::<Vec<_>>(), ["linux/s390x", "linux/amd64"]);
        let (_, errors) = find("ARG X=/:\nFROM $X\n");
        assert_eq!(errors.len(), 1);
    }
}
