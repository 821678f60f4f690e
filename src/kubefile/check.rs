//! What can be said against a Kubefile without its context: names nobody declares, things said twice, words without a meaning.

use std::collections::BTreeSet;

use url::Url;

use crate::diagnostic::{Diagnostic, Span, did_you_mean};
use crate::image::{Digest, Name, parse_platform};

use super::expand::{PREDEFINED, expand, variables};
use super::{App, Arg, Escape, Files, From, Instruction, Kubefile, Pair, Source, Stage, Step, VersionRange, Word};

/// Adds what is wrong with `kubefile` to `diagnostics`.
pub(super) fn check(file: &str, kubefile: &Kubefile, diagnostics: &mut Vec<Diagnostic>) {
    let mut checker = Checker { file, escape: kubefile.escape, stages: Vec::new(), globals: BTreeSet::new(), diagnostics };
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
                format!("`{}` is no name for a stage", name.value),
                "use a letter, then letters, digits, `-`, `_` and `.`",
            );
        } else if self.stages.iter().any(|stage| stage.name.as_deref() == Some(&lower)) {
            self.error(&name.span, format!("an earlier stage is named `{}` already", name.value), "give each stage a name of its own");
        }
    }

    fn image_name(&mut self, word: &Word, text: &str) {
        if let Err(error) = text.parse::<Name>() {
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
            self.error(&arg.name.span, format!("`{name}` is no name for a build argument"), "use letters, digits and `_`");
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

    fn files(&mut self, files: &Files, scope: &Scope, add: bool) {
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
            self.error(&word.span, format!("`{text}` is no URL"), "write it like `https://example.com/file.tar.gz`");
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
        } else if !self.stages.iter().any(|stage| stage.name.as_deref() == Some(&lower)) {
            self.image_name(from, &text);
        }
    }

    fn modes(&mut self, files: &Files) {
        if let Some((span, text)) = self.given(files.chmod.as_ref()).filter(|(_, text)| !is_mode(text)) {
            self.error(&span, format!("`{text}` is no file mode"), "write it in octal, like `--chmod=0755`");
        }
        if let Some((span, text)) = self.given(files.chown.as_ref()).filter(|(_, text)| !is_owner(text)) {
            self.error(&span, format!("`{text}` is no owner"), "write it like `--chown=user:group` or `--chown=0:0`");
        }
        let Some((span, text)) = self.given(files.checksum.as_ref()) else { return };
        if text.parse::<Digest>().is_err() {
            self.error(&span, format!("`{text}` is no checksum"), "write `--checksum=sha256:` and 64 hexadecimal digits");
        } else if files.sources.len() != 1 {
            self.error(&span, "`--checksum` wants exactly one source", "write one ADD for each file");
        }
    }

    /// A flag's value, if it is given and has no variables.
    fn given(&self, word: Option<&Word>) -> Option<(Span, String)> {
        word.and_then(|word| Some((word.span.clone(), self.literal(word)?)))
    }

    fn app(&mut self, app: &App, scope: &mut Scope) {
        self.word(&app.name, scope);
        app.sources.iter().for_each(|source| {
            self.word(source, scope);
            self.app_source(source);
        });
        let Some(name) = self.literal(&app.name) else { return };
        if !is_app_name(&name) {
            self.error(
                &app.name.span,
                format!("`{name}` is no name for an application"),
                "it names a folder: use letters, digits, `-`, `_` and `.`",
            );
        } else if !scope.apps.insert(name.clone()) {
            self.warn(
                &app.name.span,
                format!("application `{name}` is declared again: this one replaces the one before"),
                "give each application a name of its own",
            );
        }
    }

    fn app_source(&mut self, source: &Word) {
        const HELP: &str = "sources are `local://path`, `https://…`, `http://…` or `oci://registry/chart:tag`";
        let prefix = source.value.trim_start_matches(['"', '\'']);
        if prefix.starts_with('$') {
            return;
        }
        let Some((scheme, path)) = prefix.split_once("://") else {
            let span = source.span.clone();
            let help = format!("did you mean `local://{prefix}`? {HELP}");
            return self.error(&span, format!("`{}` does not say where the application comes from", source.value), help);
        };
        if !["local", "http", "https", "oci"].contains(&scheme) {
            self.error(&source.span, format!("no sources are `{scheme}://`"), HELP);
        } else if path.is_empty() {
            self.error(&source.span, format!("nothing follows `{scheme}://`"), HELP);
        } else if let Some(reason) = self.literal(source).filter(|text| is_url(text)).and_then(|text| Url::parse(&text).err()) {
            self.error(&source.span, format!("`{}` is no URL: {reason}", source.value), HELP);
        }
    }

    /// APPENV and APPCMDS come after the APP; an inherited one is known only when the image is there.
    fn known_app(&mut self, app: &Word, scope: &Scope, instruction: &str) {
        self.word(app, scope);
        let Some(name) = self.literal(app).filter(|name| !scope.apps.contains(name)) else {
            return;
        };
        if scope.apps_of_stage.contains(&name) {
            self.error(&app.span, format!("application `{name}` is declared only later"), format!("move {instruction} below `APP {name}`"));
        } else if scope.closed {
            self.unknown_app(app, &name, scope);
        }
    }

    fn unknown_app(&mut self, app: &Word, name: &str, scope: &Scope) {
        let help = match did_you_mean(name, scope.apps_of_stage.iter().map(String::as_str)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("declare it first: `APP {name} local://path`"),
        };
        self.error(&app.span, format!("no application `{name}` is declared"), help);
    }

    fn kube_version(&mut self, range: &Word, scope: &Scope) {
        self.word(range, scope);
        if let Some(error) = self.literal(range).and_then(|text| text.parse::<VersionRange>().err()) {
            self.error(&range.span, error.to_string(), "write it like `>=1.19.0 <1.23.0`, `1.20.x`, `^1.22` or `1.18 - 1.20`");
        }
    }

    fn launch(&mut self, apps: &[Word], span: &Span, scope: &mut Scope) {
        if scope.launch.replace(span.clone()).is_some() {
            self.error(span, "LAUNCH is given twice", "name all applications in one LAUNCH, in order");
        }
        self.one_way_to_launch(span, scope);
        let mut seen = BTreeSet::new();
        for app in apps {
            self.word(app, scope);
            let Some(name) = self.literal(app).map(|name| name.trim().to_owned()) else { continue };
            if !seen.insert(name.clone()) {
                self.error(&app.span, format!("LAUNCH names `{name}` twice"), "remove one");
            } else if scope.closed && !scope.apps.contains(&name) && !scope.apps_of_stage.contains(&name) {
                self.unknown_app(app, &name, scope);
            }
        }
    }

    fn cmds(&mut self, span: &Span, scope: &mut Scope) {
        if scope.cmds.replace(span.clone()).is_some() {
            self.error(span, "CMDS is given twice", "list all commands in one CMDS, in order");
        }
        self.one_way_to_launch(span, scope);
    }

    fn cmd(&mut self, span: &Span, scope: &mut Scope) {
        if scope.cmd.replace(span.clone()).is_none() {
            self.one_way_to_launch(span, scope);
        }
    }

    fn one_way_to_launch(&mut self, span: &Span, scope: &Scope) {
        if scope.launch.is_some() && (scope.cmds.is_some() || scope.cmd.is_some()) {
            self.error(span, "LAUNCH and CMDS (or CMD) exclude each other", "name applications in LAUNCH, or list raw commands in CMDS");
        }
    }

    /// Sealer wants LAUNCH and CMDS at the end; here the order does not matter, but the file would not build there.
    fn launch_is_last(&mut self, stage: &Stage, scope: &Scope) {
        let Some(last) = stage.steps.last() else { return };
        for (name, span) in [("LAUNCH", &scope.launch), ("CMDS", &scope.cmds)] {
            if let Some(span) = span.as_ref().filter(|span| **span != last.span) {
                self.warn(
                    span,
                    format!("{name} is not the last instruction"),
                    "move it to the end, where readers (and Sealer) look for it",
                );
            }
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

fn is_mode(text: &str) -> bool {
    u32::from_str_radix(text, 8).is_ok_and(|mode| mode <= 0o7777)
}

fn is_owner(text: &str) -> bool {
    let mut parts = text.split(':');
    parts.clone().count() <= 2 && parts.all(|part| !part.is_empty())
}

fn is_app_name(name: &str) -> bool {
    name.starts_with(|char: char| char.is_ascii_alphanumeric())
        && name.len() <= 128
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char))
}
