//! Applications, and what is launched: APP, CNI, CSI, APPENV, APPCMDS, LAUNCH, CMD.

use super::{Parser, Read};
use crate::image::Role;
use crate::kubefile::operands::Operands;
use crate::kubefile::{App, Instruction, Word};

impl Parser<'_> {
    pub(super) fn app(&self, operands: &Operands<'_>, role: Option<Role>, usage: &str) -> Read<App> {
        let mut words = operands.list().into_iter();
        let Some(name) = words.next() else {
            return Err(self.usage(operands.span(), "the application's name is missing", usage));
        };
        let sources: Vec<Word> = words.collect();
        if sources.is_empty() {
            return Err(self.usage(name.span, format!("application `{}` has no sources", name.value), usage));
        }
        Ok(App { role, name, sources })
    }

    pub(super) fn app_env(&self, operands: &Operands<'_>) -> Read<Instruction> {
        const USAGE: &str = "APPENV app KEY=value …";
        let (app, rest) = operands.shift().ok_or_else(|| self.usage(operands.span(), "the application's name is missing", USAGE))?;
        if rest.is_empty() {
            return Err(self.usage(app.span, "a key and a value are missing", USAGE));
        }
        let no_pair = |word: Word| self.usage(word.span, format!("`{}` is not of the form key=value", word.value), USAGE);
        let env = rest.keys_and_values().map(|pair| pair.map_err(no_pair)).collect::<Read<_>>()?;
        Ok(Instruction::AppEnv { app, env })
    }

    pub(super) fn app_cmds(&self, operands: &Operands<'_>) -> Read<Instruction> {
        const USAGE: &str = r#"APPCMDS app ["command", …]"#;
        let (app, rest) = operands.shift().ok_or_else(|| self.usage(operands.span(), "the application's name is missing", USAGE))?;
        let cmds = self.json(&rest, USAGE)?;
        Ok(Instruction::AppCmds { app, cmds })
    }

    /// An empty JSON list launches nothing, as a base image's list is not inherited either way.
    pub(super) fn launch(&self, operands: &Operands<'_>) -> Read<Vec<Word>> {
        const USAGE: &str = r#"LAUNCH ["app", …]"#;
        match operands.json() {
            Some(words) => Ok(words),
            None if operands.rest().value.starts_with('[') => self.json(operands, USAGE),
            None => self.list(operands, USAGE),
        }
    }

    pub(super) fn cmd(&self, operands: &Operands<'_>) -> Read<Vec<Word>> {
        const USAGE: &str = "CMD command";
        match operands.json() {
            Some(commands) if commands.is_empty() => Err(self.usage(operands.span(), "the list is empty", USAGE)),
            Some(commands) => Ok(commands),
            None => Ok(vec![self.rest(operands, USAGE)?]),
        }
    }
}
