//! What can be said against a Kubefile without its context: names nobody declares, things said twice, words without a meaning.

mod apps;
mod files;

use std::collections::BTreeSet;

use crate::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::image::{Reference, parse_platform};

use super::expand::{PREDEFINED, expand, variables};
use super::{Arg, Escape, From, Instruction, Kubefile, Pair, Stage, Step, VersionRange, Word};

/// Adds what is wrong with `kubefile` to `diagnostics`.
pub(super) fn check(file: &str, kubefile: &Kubefile, diagnostics: &mut Vec<Diagnostic>) {
    let names = kubefile.stages.iter().map(|stage| stage.name().unwrap_or_default().to_lowercase()).collect();
    let mut checker = Checker { file, escape: kubefile.escape, names, stages: Vec::new(), globals: BTreeSet::new(), diagnostics };
    for arg in &kubefile.args {
        checker.arg(&arg.value, &mut Scope { closed: true, variables: checker.globals.clone(), ..Scope::default() });
        checker.globals.insert(arg.value.name.value.clone());
    }
    for stage in &kubefile.stages {
        checker.stage(stage);
    }
}

/// What is known at a place of a stage.
#[derive(Clone, Default)]
struct Scope {
    name: Option<String>,
    /// Whether nothing is inherited from an image that is not looked into here.
    closed: bool,
    variables: BTreeSet<String>,
    apps: BTreeSet<String>,
    /// Applications that the stage declares anywhere.
    apps_of_stage: BTreeSet<String>,
    launch: Option<Span>,
    cmds: Option<Span>,
    cmd: Option<Span>,
}

struct Checker<'a> {
    file: &'a str,
    escape: Escape,
    /// The names of all stages in order; empty for one without.
    names: Vec<String>,
    /// The scopes at the ends of the stages before.
    stages: Vec<Scope>,
    globals: BTreeSet<String>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Checker<'_> {
    fn error(&mut self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error(self.file, span.clone(), message).help(help));
    }

    fn warn(&mut self, span: &Span, message: impl Into<String>, help: impl Into<String>) {
        self.diagnostics.push(Diagnostic::warning(self.file, span.clone(), message).help(help));
    }

    /// What a word means if it has no variables.
    fn literal(&self, word: &Word) -> Option<String> {
        let fixed = variables(&word.value, self.escape).is_empty();
        fixed.then(|| expand(&word.value, self.escape, |_| None).ok()).flatten().map(|expanded| expanded.text)
    }

    /// Words that expand have a meaning and name known variables.
    fn word(&mut self, word: &Word, scope: &Scope) {
        if let Err(error) = expand(&word.value, self.escape, |_| Some("x".to_owned())) {
            let help = format!("to mean the character itself, write `{}` before it", self.escape.char());
            return self.error(&word.span, error.to_string(), help);
        }
        // only what expands to nothing is unknown: not `${X:-default}`
        let known = |name: &str| !scope.closed || scope.variables.contains(name) || PREDEFINED.contains(&name);
        let Ok(expanded) = expand(&word.value, self.escape, |name| known(name).then(|| "x".to_owned())) else {
            return;
        };
        for name in expanded.unknown {
            let help = if self.globals.contains(&name) {
                format!("an ARG before FROM counts in FROM only: say `ARG {name}` again in this stage")
            } else {
                match did_you_mean(&name, scope.variables.iter().map(String::as_str).chain(PREDEFINED)) {
                    Some(meant) => format!("did you mean `${{{meant}}}`?"),
                    None => format!("declare it with `ARG {name}`, or give it a default: `${{{name}:-default}}`"),
                }
            };
            self.warn(&word.span, format!("nothing sets `{name}`: it is empty here"), help);
        }
    }

    fn stage(&mut self, stage: &Stage) {
        let mut scope = self.from(&stage.from.value);
        scope.apps_of_stage = stage.steps.iter().filter_map(|step| self.declared_app(step)).collect();
        for step in &stage.steps {
            self.step(step, &mut scope);
        }
        self.launch_is_last(stage, &scope);
        self.stages.push(scope);
    }

    fn declared_app(&self, step: &Step) -> Option<String> {
        match &step.instruction {
            Instruction::App(app) => self.literal(&app.name),
            _ => None,
        }
    }

    /// The scope that a stage starts with.
    fn from(&mut self, from: &From) -> Scope {
        let outside = Scope { closed: true, variables: self.globals.clone(), ..Scope::default() };
        self.word(&from.image, &outside);
        if let Some(platform) = &from.platform {
            self.platform(platform, &outside);
        }
        if let Some(name) = &from.name {
            self.stage_name(name);
        }
        let name = from.name.as_ref().map(|name| name.value.to_lowercase());
        let image = self.literal(&from.image).unwrap_or_default();
        if let Some(base) = self.stages.iter().find(|stage| stage.name.as_deref() == Some(image.to_lowercase().as_str())) {
            return Scope { name, launch: None, cmds: None, cmd: None, ..base.clone() };
        }
        if image != "scratch" && !image.is_empty() {
            self.image_name(&from.image, &image);
        }
        Scope { name, closed: image == "scratch", ..Scope::default() }
    }

    fn platform(&mut self, platform: &Word, scope: &Scope) {
        self.word(platform, scope);
        if let Some(error) = self.literal(platform).and_then(|text| parse_platform(&text).err()) {
            self.error(&platform.span, error.to_string(), "write it like `linux/amd64`");
        }
    }

    fn stage_name(&mut self, name: &Word) {
        let lower = name.value.to_lowercase();
        let good = lower.starts_with(|char: char| char.is_ascii_lowercase())
            && lower.chars().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit() || "-_.".contains(char));
        if !good || lower == "scratch" {
            self.error(
                &name.span,
                format!("`{}` is not a valid stage name", name.value),
                "use a letter, then letters, digits, `-`, `_` and `.`",
            );
        } else if self.stages.iter().any(|stage| stage.name.as_deref() == Some(&lower)) {
            self.error(&name.span, format!("an earlier stage is named `{}` already", name.value), "give each stage a name of its own");
        }
    }

    fn image_name(&mut self, word: &Word, text: &str) {
        if let Err(error) = text.parse::<Reference>() {
            self.error(&word.span, error.to_string(), "write it like `registry.example.com/team/shop:2.1`, in lower case");
        }
    }

    fn step(&mut self, step: &Step, scope: &mut Scope) {
        match &step.instruction {
            Instruction::Arg(args) => args.iter().for_each(|arg| {
                self.arg(arg, scope);
                scope.variables.insert(arg.name.value.clone());
            }),
            Instruction::Env(pairs) => {
                self.pairs(pairs, scope);
                let keys: Vec<String> = pairs.iter().filter_map(|pair| self.literal(&pair.key)).collect();
                scope.variables.extend(keys);
            }
            Instruction::Label(pairs) => self.pairs(pairs, scope),
            Instruction::Copy(files) => self.files(files, scope, false),
            Instruction::Add(files) => self.files(files, scope, true),
            Instruction::App(app) => self.app(app, scope),
            Instruction::AppEnv { app, env } => {
                self.known_app(app, scope, "APPENV");
                self.pairs(env, scope);
            }
            Instruction::AppCmds { app, .. } => self.known_app(app, scope, "APPCMDS"),
            Instruction::KubeVersion(range) => self.kube_version(range, scope),
            Instruction::Images(images) => images.iter().for_each(|image| {
                self.word(image, scope);
                if let Some(text) = self.literal(image) {
                    self.image_name(image, &text);
                }
            }),
            Instruction::Launch(apps) => self.launch(apps, &step.span, scope),
            Instruction::Cmds(_) => self.cmds(&step.span, scope),
            Instruction::Cmd(_) => self.cmd(&step.span, scope),
            Instruction::Run(_) | Instruction::Maintainer(_) => {}
        }
    }

    fn arg(&mut self, arg: &Arg, scope: &mut Scope) {
        let name = &arg.name.value;
        if !name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_') || name.starts_with(|char: char| char.is_ascii_digit()) {
            self.error(&arg.name.span, format!("`{name}` is not a valid build argument name"), "use letters, digits and `_`");
        }
        let Some(default) = &arg.default else { return };
        self.word(default, scope);
        let more: Vec<&str> = default.value.split(',').skip(1).collect();
        let is_arg = |part: &&str| {
            part.split_once('=')
                .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_'))
        };
        if !more.is_empty() && more.iter().all(is_arg) {
            self.warn(
                &default.span,
                format!("all of this is the value of `{name}`"),
                "several build arguments are separated by blanks, not commas",
            );
        }
    }

    fn pairs(&mut self, pairs: &[Pair], scope: &Scope) {
        for pair in pairs {
            self.word(&pair.key, scope);
            self.word(&pair.value, scope);
        }
    }

    fn kube_version(&mut self, range: &Word, scope: &Scope) {
        self.word(range, scope);
        if let Some(error) = self.literal(range).and_then(|text| text.parse::<VersionRange>().err()) {
            self.error(&range.span, error.to_string(), "write it like `>=1.19.0 <1.23.0`, `1.20.x`, `^1.22` or `1.18 - 1.20`");
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}
