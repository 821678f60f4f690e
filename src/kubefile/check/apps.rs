//! Applications: declared before they are spoken of, with sources that exist as a kind, launched once and one way.

use std::collections::BTreeSet;

use url::Url;

use super::{Checker, Scope, is_url};
use crate::diagnostic::{Span, did_you_mean};
use crate::kubefile::{App, Stage, Word};

impl Checker<'_> {
    pub(super) fn app(&mut self, app: &App, scope: &mut Scope) {
        self.word(&app.name, scope);
        app.sources.iter().for_each(|source| {
            self.word(source, scope);
            self.app_source(source);
        });
        let Some(name) = self.literal(&app.name) else { return };
        if !is_app_name(&name) {
            self.error(
                &app.name.span,
                format!("`{name}` is not a valid application name"),
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
            self.error(&source.span, format!("`{}` is not a valid URL: {reason}", source.value), HELP);
        }
    }

    /// APPENV and APPCMDS come after the APP; an inherited one is known only when the image is there.
    pub(super) fn known_app(&mut self, app: &Word, scope: &Scope, instruction: &str) {
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

    pub(super) fn launch(&mut self, apps: &[Word], span: &Span, scope: &mut Scope) {
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

    pub(super) fn cmds(&mut self, span: &Span, scope: &mut Scope) {
        if scope.cmds.replace(span.clone()).is_some() {
            self.error(span, "CMDS is given twice", "list all commands in one CMDS, in order");
        }
        self.one_way_to_launch(span, scope);
    }

    pub(super) fn cmd(&mut self, span: &Span, scope: &mut Scope) {
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
    pub(super) fn launch_is_last(&mut self, stage: &Stage, scope: &Scope) {
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

fn is_app_name(name: &str) -> bool {
    name.starts_with(|char: char| char.is_ascii_alphanumeric())
        && name.len() <= 128
        && name.chars().all(|char| char.is_ascii_alphanumeric() || "-_.".contains(char))
}
