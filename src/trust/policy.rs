//! The policy: which images must be signed, and by whom.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use globset::{GlobBuilder, GlobMatcher};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{PublicKey, verify};
use crate::error::{Failure, Kind, kind_of};
use crate::events::Job;
use crate::image::{Digest, Name};
use crate::store::Store;

/// What a file `trust.yaml` says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Document {
    /// What happens with images that no rule is for
    #[serde(default)]
    trust: Level,
    /// The files of the public keys for images whose rule names none; relative ones lie beside the policy file
    #[serde(default)]
    keys: Vec<PathBuf>,
    /// Rules for images by name; the first one that fits counts
    #[serde(default)]
    images: Vec<RuleDocument>,
}

/// A rule for images by name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RuleDocument {
    /// The full name without tag, such as `registry.example.com/team/shop`; `*` stands for a part of it, `**` for several
    name: String,
    /// What happens with these images
    trust: Level,
    /// The files of the public keys, one of which must have signed
    #[serde(default)]
    keys: Vec<PathBuf>,
}

/// What happens with an image that is not signed as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is refused.
    Required,
    /// It is used, with a warning.
    Warn,
    /// Nobody looks.
    #[default]
    Off,
}

/// Which images must be signed, and by whom.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    file: PathBuf,
    rules: Vec<Rule>,
    rest: Level,
    keys: Vec<PathBuf>,
}

#[derive(Debug, Clone)]
struct Rule {
    pattern: GlobMatcher,
    level: Level,
    keys: Vec<PathBuf>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// Of kind `Usage` if there is no such file, or something in it is wrong.
    pub fn read(file: &Path) -> Result<Policy> {
        let text = fs_err::read_to_string(file).map_err(|error| Failure::usage(error.to_string()))?;
        Self::parse(&text, file).with_context(|| Failure::usage(format!("the trust policy {} is wrong", file.display())))
    }

    fn parse(text: &str, file: &Path) -> Result<Policy> {
        let document: Document = serde_saphyr::from_str(text)?;
        let beside = |keys: Vec<PathBuf>| keys.into_iter().map(|key| file.parent().unwrap_or(Path::new(".")).join(key)).collect::<Vec<_>>();
        let rule = |rule: RuleDocument| {
            let pattern = GlobBuilder::new(&rule.name).literal_separator(true).build().with_context(|| format!("name `{}`", rule.name))?;
            anyhow::Ok(Rule { pattern: pattern.compile_matcher(), level: rule.trust, keys: beside(rule.keys) })
        };
        let rules = document.images.into_iter().map(rule).collect::<Result<Vec<_>>>()?;
        Ok(Policy { file: file.to_owned(), rules, rest: document.trust, keys: beside(document.keys) })
    }

    /// What happens with an image that is not signed, and the keys that may sign it.
    fn rule(&self, name: &Name) -> (Level, &[PathBuf]) {
        let full = format!("{}/{}", name.registry(), name.repository());
        match self.rules.iter().find(|rule| rule.pattern.is_match(&full)) {
            Some(rule) if rule.keys.is_empty() => (rule.level, &self.keys),
            Some(rule) => (rule.level, &rule.keys),
            None => (self.rest, &self.keys),
        }
    }

    /// Refuses an image of the store that is not signed as it must be, or warns.
    ///
    /// # Errors
    /// Of kind `Verification` if the image is refused; of kind `Usage` if a key of the policy cannot be read.
    pub fn check(&self, store: &Store, name: &Name, digest: &Digest, job: &Job) -> Result<()> {
        let failure = |why: anyhow::Error| {
            Failure::new(Kind::Verification, format!("{} is not trusted: {why:#}", name.familiar()))
                .hint(format!("the policy is {}", self.file.display()))
                .hint("`sealift sign NAME --key cosign.key` signs an image; `sealift pull` brings signatures along")
        };
        match (self.verified(store, name, digest), self.rule(name).0) {
            (Err(error), _) if kind_of(&error) == Kind::Usage => Err(error),
            (Err(error), Level::Required) => Err(failure(error).into()),
            (Err(error), Level::Warn) => {
                job.warn(failure(error).message);
                Ok(())
            }
            (Ok(()), _) | (_, Level::Off) => Ok(()),
        }
    }

    /// Whether nobody looks at the image, or it is signed as it must be.
    pub(super) fn is_content(&self, store: &Store, name: &Name, digest: &Digest) -> bool {
        self.verified(store, name, digest).is_ok()
    }

    fn verified(&self, store: &Store, name: &Name, digest: &Digest) -> Result<()> {
        let (level, keys) = self.rule(name);
        if level == Level::Off {
            return Ok(());
        }
        let keys = PublicKey::read_all(keys).with_context(|| format!("trust policy {}", self.file.display()))?;
        ensure!(!keys.is_empty(), "the policy names no key for it");
        verify(store, digest, &keys, &Default::default()).map(|_| ())
    }
}

/// The JSON Schema of a policy file.
pub fn policy_schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "trust: warn\nkeys: [all.pub]\nimages:\n- name: registry.example.com/prod/**\n  trust: required\n  keys: [prod.pub]\n- name: docker.io/library/*\n  trust: off\n- name: r.io/*/a\n  trust: required\n";

    #[test]
    fn the_first_rule_that_fits_counts() {
        let policy = Policy::parse(POLICY, Path::new("/etc/sealift/trust.yaml")).unwrap();
        for (name, level, key) in [
            ("registry.example.com/prod/a/b:1", Level::Required, "prod.pub"),
            ("registry.example.com/test/a:1", Level::Warn, "all.pub"),
            ("shop", Level::Off, "all.pub"),
            ("r.io/x/a", Level::Required, "all.pub"),
            ("r.io/x/y/a", Level::Warn, "all.pub"),
        ] {
            let (found, keys) = policy.rule(&name.parse().unwrap());
            assert_eq!((found, keys), (level, &[Path::new("/etc/sealift").join(key)][..]), "{name}");
        }
    }

    #[test]
    fn wrong_policies_are_refused() {
        for text in ["trust: maybe", "trst: off", "images:\n- name: '['\n  trust: off", "images:\n- trust: off"] {
            assert!(Policy::parse(text, Path::new("trust.yaml")).is_err(), "{text}");
        }
        assert_eq!(Policy::parse("{}", Path::new("trust.yaml")).unwrap().rest, Level::Off);
    }

    #[test]
    fn the_schema_in_docs_is_that_of_the_program() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/TrustPolicy.json");
        let expected = serde_json::to_string_pretty(&policy_schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&file, &expected).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), expected, "UPDATE_SCHEMAS=1 writes it anew");
    }
}
