//! What is found wrong in a file, collected while it is read, so that all of it is reported at once.

use crate::diagnostic::{Diagnostic, Span};

/// What is found in one file, in the order it is found.
pub struct Findings {
    file: String,
    list: Vec<Diagnostic>,
}

impl Findings {
    /// No findings yet in this file.
    pub fn new(file: &str) -> Self {
        Findings { file: file.to_owned(), list: Vec::new() }
    }

    /// Notes that the file cannot be used.
    pub fn error(&mut self, span: &Span, message: impl Into<String>) -> Noted<'_> {
        self.error_if(true, span, message)
    }

    /// Notes something worth a look.
    pub fn warning(&mut self, span: &Span, message: impl Into<String>) -> Noted<'_> {
        self.error_if(false, span, message)
    }

    /// Notes an error where the file must be strict, else a warning.
    pub fn error_if(&mut self, strict: bool, span: &Span, message: impl Into<String>) -> Noted<'_> {
        let (file, span) = (self.file.clone(), span.clone());
        self.list.push(if strict { Diagnostic::error(file, span, message) } else { Diagnostic::warning(file, span, message) });
        Noted(self.list.last_mut().expect("just pushed"))
    }

    /// All findings, in the order of the file.
    pub fn into_sorted(mut self) -> Vec<Diagnostic> {
        self.list.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end, diagnostic.severity));
        self.list.dedup();
        self.list
    }
}

/// A finding just made.
pub struct Noted<'a>(&'a mut Diagnostic);

impl Noted<'_> {
    /// Says what to write instead.
    pub fn help(self, help: impl Into<String>) {
        self.0.help = Some(help.into());
    }
}
