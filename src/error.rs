//! Errors: their kind, which decides the exit code, what happened, and hints on what to type next.
//!
//! Functions return [`anyhow::Result`]. Where the kind or a hint matters, a [`Failure`] is the error itself or a context
//! on top of its cause: both `Failure::network("…").into()` and `.context(Failure::network("…"))` are found again by
//! [`kind_of`] and [`hints_of`].

use std::fmt;

/// The kinds of failure that a caller or a script can tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something failed that has no code of its own.
    Failed,
    /// The command line or an input file is wrong.
    Usage,
    /// A host does not pass the preflight checks; nothing was changed.
    Preflight,
    /// Some hosts failed, others are done.
    SomeHosts,
    /// `plan --exit-code` found changes to make.
    PlanHasChanges,
    /// A digest, signature, host key or cluster does not verify.
    Verification,
    /// The network or the peer failed; trying again may help.
    Network,
    /// The user interrupted the work.
    Interrupted,
}

impl Kind {
    /// Its name in JSON, such as `some-hosts`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Failed => "failed",
            Kind::Usage => "usage",
            Kind::Preflight => "preflight",
            Kind::SomeHosts => "some-hosts",
            Kind::PlanHasChanges => "plan-has-changes",
            Kind::Verification => "verification",
            Kind::Network => "network",
            Kind::Interrupted => "interrupted",
        }
    }

    /// The process exit code of this kind.
    pub fn exit_code(self) -> u8 {
        match self {
            Kind::Failed => 1,
            Kind::Usage => 2,
            Kind::Preflight => 3,
            Kind::SomeHosts => 4,
            Kind::PlanHasChanges => 5,
            Kind::Verification => 6,
            Kind::Network => 7,
            Kind::Interrupted => 130,
        }
    }
}

/// A failure with its kind, a message and hints.
#[derive(Debug)]
pub struct Failure {
    /// Its kind, which decides the exit code.
    pub kind: Kind,
    /// Where and what, lower case, without "failed to".
    pub message: String,
    /// What to type or do next, each a sentence or a command.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure of the given kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), hints: Vec::new() }
    }

    /// A failure without a code of its own.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Kind::Failed, message)
    }

    /// The command line or an input file is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The network or the peer failed.
    pub fn network(message: impl Into<String>) -> Self {
        Self::new(Kind::Network, message)
    }

    /// A digest, signature, host key or cluster does not verify.
    pub fn verification(message: impl Into<String>) -> Self {
        Self::new(Kind::Verification, message)
    }

    /// A failure to put on top of `error` as its context: it says where or during what, and keeps the kind and the hints.
    pub fn over(error: &anyhow::Error, message: impl Into<String>) -> Self {
        Failure { kind: kind_of(error), message: message.into(), hints: hints_of(error).to_vec() }
    }

    /// Adds a hint: what to type or do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The kind of an error: that of the outermost [`Failure`] in it, else [`Kind::Failed`].
pub fn kind_of(error: &anyhow::Error) -> Kind {
    failure_in(error).map_or(Kind::Failed, |failure| failure.kind)
}

/// The hints of an error.
pub fn hints_of(error: &anyhow::Error) -> &[String] {
    failure_in(error).map_or(&[], |failure| &failure.hints)
}

/// The outermost failure; also one that came through [`std::io::Read`] or [`std::io::Write`] inside an I/O error.
fn failure_in(error: &anyhow::Error) -> Option<&Failure> {
    error
        .downcast_ref::<Failure>()
        .or_else(|| error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<Failure>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn kind_and_hints_are_found_under_and_over_contexts() {
        let plain = anyhow::anyhow!("plain");
        let inner = anyhow::Error::from(Failure::network("refused").hint("check the port")).context("pull shop:1");
        let outer = Err::<(), _>(std::io::Error::other("eof")).context(Failure::verification("bad blob")).unwrap_err();
        assert_eq!(kind_of(&plain), Kind::Failed);
        assert_eq!((kind_of(&inner), hints_of(&inner).len()), (Kind::Network, 1));
        assert_eq!(kind_of(&outer), Kind::Verification);
        let through_io = anyhow::Error::from(std::io::Error::other(Failure::verification("bad blob"))).context("unpack");
        assert_eq!(kind_of(&through_io), Kind::Verification);
    }
}
