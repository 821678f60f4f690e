//! Where stages and COPY --from take their files from: which stages are needed, and which images.

use std::collections::BTreeMap;

use super::options::Options;
use super::variables::Variables;
use crate::diagnostic::{Diagnostic, Span};
use crate::image::{Reference, parse_platform, platform_string};
use crate::kubefile::{self, Instruction, Kubefile, Step, Word, expand};

/// What a stage starts from, or COPY --from takes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileSource {
    /// Nothing.
    Scratch,
    /// The stage with this number, from 0.
    Stage(usize),
    /// An image of the store or a registry.
    Image(Image),
}

/// An image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Image {
    /// Its name.
    pub name: Reference,
    /// The platform, like `linux/amd64`.
    pub platform: String,
}

/// The origins of a Kubefile's stages, of those that the last one needs.
#[derive(Debug, Default)]
pub struct StageSources {
    /// What each needed stage starts from.
    starts: BTreeMap<usize, FileSource>,
    /// What each `--from` of a needed stage names, by its place in the text.
    copies: BTreeMap<usize, FileSource>,
}

impl StageSources {
    /// Follows the last stage back to what it needs. Gives the origins as far as they are known, and what is wrong with their names.
    pub fn find(kubefile: &Kubefile, options: &Options) -> (Self, Vec<Diagnostic>) {
        let mut finder = Finder { kubefile, options, origins: StageSources::default(), diagnostics: Vec::new(), todo: Vec::new() };
        finder.todo.extend(kubefile.stages.len().checked_sub(1));
        while let Some(number) = finder.todo.pop() {
            if !finder.origins.starts.contains_key(&number) {
                finder.stage(number);
            }
        }
        (finder.origins, finder.diagnostics)
    }

    /// The needed stages, in order.
    pub fn stages(&self) -> impl Iterator<Item = usize> {
        self.starts.keys().copied()
    }

    /// What a needed stage starts from.
    pub fn start(&self, stage: usize) -> FileSource {
        self.starts.get(&stage).cloned().unwrap_or(FileSource::Scratch)
    }

    /// What a `--from` names.
    pub fn copied(&self, from: &Word) -> Option<&FileSource> {
        self.copies.get(&from.span.start)
    }

    /// The images that are needed.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.starts.values().chain(self.copies.values()).filter_map(|origin| match origin {
            FileSource::Image(image) => Some(image),
            _ => None,
        })
    }

    /// The image that a stage comes from over all stages between; none if it started empty.
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
    origins: StageSources,
    diagnostics: Vec<Diagnostic>,
    todo: Vec<usize>,
}

impl Finder<'_> {
    fn stage(&mut self, number: usize) {
        let stage = &self.kubefile.stages[number];
        let from = &stage.from.value;
        let mut scope = Variables::global(self.kubefile, self.options);
        let platform = from.platform.as_ref().map(|word| self.word(word, &scope));
        let start = self.origin(&from.image, number, platform.as_deref(), &scope);
        self.origins.starts.insert(number, start);
        scope.enter_stage(BTreeMap::new());
        for step in &stage.steps {
            self.step(step, number, &mut scope);
        }
    }

    /// What is set in the Kubefile is seen in `--from`; the environment of images is not, as they are not there yet.
    fn step(&mut self, step: &Step, number: usize, scope: &mut Variables) {
        match &step.instruction {
            Instruction::Arg(args) => args.iter().for_each(|arg| {
                let default = arg.default.as_ref().map(|word| self.word(word, scope));
                scope.declare(&arg.name.value, default);
            }),
            Instruction::Env(pairs) => pairs.iter().for_each(|pair| {
                let (key, value) = (self.word(&pair.key, scope), self.word(&pair.value, scope));
                scope.set(&key, &value);
            }),
            Instruction::Copy(kubefile::Files { from: Some(from), .. }) => {
                let origin = self.copied(from, number, scope);
                self.origins.copies.insert(from.span.start, origin);
            }
            _ => {}
        }
    }

    fn copied(&mut self, from: &Word, number: usize, scope: &Variables) -> FileSource {
        match self.word(from, scope).parse::<usize>() {
            Ok(stage) if stage < number => {
                self.todo.push(stage);
                FileSource::Stage(stage)
            }
            // of a number that is none of a stage, the parser has spoken
            Ok(_) => FileSource::Scratch,
            Err(_) => self.origin(from, number, None, scope),
        }
    }

    fn origin(&mut self, word: &Word, number: usize, platform: Option<&str>, scope: &Variables) -> FileSource {
        let text = self.word(word, scope);
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

    /// A word's meaning; what is wrong with it, the planner says.
    fn word(&mut self, word: &Word, scope: &Variables) -> String {
        expand(&word.value, self.kubefile.escape, |name| scope.get(name)).map(|expanded| expanded.text).unwrap_or_default()
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

    fn origins(text: &str) -> (StageSources, Vec<String>) {
        let options = options(std::path::Path::new("/"), text);
        let (origins, diagnostics) = StageSources::find(&parse("Kubefile", text).kubefile, &options);
        (origins, diagnostics.into_iter().map(|one| one.message).collect())
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
            let (origins, errors) = origins(text);
            let found: Vec<String> = origins.images().map(|image| image.name.familiar()).collect();
            assert_eq!(
                (origins.stages().collect::<Vec<_>>(), found, errors),
                (stages, images.iter().map(|image| (*image).to_owned()).collect(), vec![]),
                "{name}"
            );
        }
    }

    #[test]
    fn platforms_and_roots_follow_the_stages() {
        let (origins, _) = origins("FROM --platform=linux/s390x a AS x\nFROM x\nCOPY --from=b f .\n");
        assert_eq!(origins.root(1).map(|image| image.platform.as_str()), Some("linux/s390x"));
        assert_eq!(origins.images().map(|image| image.platform.as_str()).collect::<Vec<_>>(), ["linux/s390x", "linux/amd64"]);
        let (_, errors) = self::origins("ARG X=/:\nFROM $X\n");
        assert_eq!(errors.len(), 1);
    }
}
