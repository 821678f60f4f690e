//! Combines the errors of several hosts into one.

use crate::error::{Failure, Kind, hints_of, kind_of};

/// Combines the errors of those of `hosts` hosts that failed; `None` if none did. Each error names its host.
///
/// Where every host failed with the same kind the result is of that kind, and of [`Kind::Interrupted`] where the first one is; else of
/// [`Kind::SomeHosts`]. Every hint is given once.
pub fn combine(failed: &[anyhow::Error], hosts: usize) -> Option<anyhow::Error> {
    let first = kind_of(failed.first()?);
    let same_kind = failed.len() == hosts && failed.iter().all(|error| kind_of(error) == first);
    let kind = if first == Kind::Interrupted || same_kind { first } else { Kind::SomeHosts };
    let lines: Vec<String> = failed.iter().map(|error| format!("{error:#}")).collect();
    let message = match lines.as_slice() {
        [only] => only.clone(),
        _ => format!("{} of {hosts} hosts failed:\n  {}", failed.len(), lines.join("\n  ")),
    };
    let mut hints: Vec<&String> = Vec::new();
    for hint in failed.iter().flat_map(hints_of) {
        if !hints.contains(&hint) {
            hints.push(hint);
        }
    }
    Some(hints.into_iter().fold(Failure::new(kind, message), |failure, hint| failure.hint(hint)).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_several_hosts_become_one() {
        let error = |host: u8, kind| Failure::new(kind, format!("h{host}: no")).hint("try").into();
        let cases = [
            ("none", vec![], 3, None),
            ("the only host", vec![error(1, Kind::Network)], 1, Some((Kind::Network, "h1: no"))),
            ("one of three", vec![error(1, Kind::Network)], 3, Some((Kind::SomeHosts, "h1: no"))),
            (
                "all, of different kinds",
                vec![error(1, Kind::Network), error(2, Kind::Failed)],
                2,
                Some((Kind::SomeHosts, "2 of 2 hosts failed:\n  h1: no\n  h2: no")),
            ),
            (
                "all of one kind",
                vec![error(1, Kind::Verification), error(2, Kind::Verification)],
                2,
                Some((Kind::Verification, "2 of 2 hosts failed:\n  h1: no\n  h2: no")),
            ),
            ("interrupted", vec![error(1, Kind::Interrupted)], 2, Some((Kind::Interrupted, "h1: no"))),
        ];
        for (name, failed, hosts, expected) in cases {
            let error = combine(&failed, hosts);
            let actual = error.as_ref().map(|error| (kind_of(error), error.to_string()));
            assert_eq!(actual, expected.map(|(kind, text)| (kind, text.to_owned())), "{name}");
            assert!(error.is_none_or(|error| hints_of(&error) == ["try"]), "{name}");
        }
    }
}
