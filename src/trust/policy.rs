//! The policy: which images must be signed, and by whom.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Pattern, PublicKey, SignatureRequirements, verify};
use crate::error::{Failure, Kind, kind_of};
use crate::events::Context;
use crate::image::{Digest, Reference};
use crate::store::Store;

/// A trust policy, the file `trust.yaml`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Document {
    /// What happens with images that no rule matches
    #[serde(default)]
    trust: Level,
    /// The public keys for images whose rule lists none
    #[serde(default)]
    keys: Vec<Key>,
    /// Rules for images by name; the first that matches applies
    #[serde(default)]
    images: Vec<RuleDocument>,
}

/// A rule for images by name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleDocument {
    /// The full name without tag, such as `registry.example.com/team/shop`; `*` matches within a path segment, `**` across segments
    name: String,
    /// What happens with these images
    trust: Level,
    /// The public keys, one of which must have signed
    #[serde(default)]
    keys: Vec<Key>,
    /// The image must have been signed as this: a full name without tag, with `*` and `**` as above
    signed_as: Option<String>,
}

/// A public key: its PEM file, or its file with further conditions. Paths are relative to the policy file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Key {
    /// The file of the key
    File(PathBuf),
    /// The file of the key, with further conditions
    Known(KnownKey),
}

/// A public key with conditions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct KnownKey {
    /// The file of the key
    file: PathBuf,
    /// The SHA-256 of the key in DER: `sha256:` and what `openssl pkey -pubin -outform DER | sha256sum` prints. Another key in the file is an error
    #[schemars(with = "Option<String>")]
    fingerprint: Option<Digest>,
    /// The last day on which the key is valid, in UTC
    #[schemars(with = "Option<String>")]
    until: Option<Date>,
}

/// What happens with an image that is not signed as required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is refused.
    Required,
    /// It is used, with a warning.
    Warn,
    /// Signatures are not checked.
    #[default]
    Off,
}

/// Which images must be signed, and by whom.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    file: PathBuf,
    rules: Vec<(Pattern, Rule)>,
    default_rule: Rule,
}

/// What is required of an image.
#[derive(Debug, Clone, Default)]
struct Rule {
    level: Level,
    keys: Vec<KnownKey>,
    signed_as: Option<Pattern>,
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// Of kind `Usage` if there is no such file, or something in it is wrong.
    pub fn read(file: &Path) -> Result<Policy> {
        let text = fs_err::read_to_string(file).map_err(|error| Failure::usage(error.to_string()))?;
        Self::parse(&text, file).with_context(|| Failure::usage(format!("invalid trust policy {}", file.display())))
    }

    fn parse(text: &str, file: &Path) -> Result<Policy> {
        let document: Document = serde_saphyr::from_str(text)?;
        let resolve = |keys: Vec<Key>| keys.into_iter().map(|key| key.relative_to(file)).collect::<Vec<_>>();
        let default_rule = Rule { level: document.trust, keys: resolve(document.keys), signed_as: None };
        let rule = |rule: RuleDocument| {
            let keys = if rule.keys.is_empty() { default_rule.keys.clone() } else { resolve(rule.keys) };
            let signed_as = rule.signed_as.map(|pattern| pattern.parse()).transpose()?;
            anyhow::Ok((rule.name.parse()?, Rule { level: rule.trust, keys, signed_as }))
        };
        let rules = document.images.into_iter().map(rule).collect::<Result<Vec<_>>>()?;
        Ok(Policy { file: file.to_owned(), rules, default_rule })
    }

    /// The rule for an image of this name.
    fn rule(&self, name: &Reference) -> &Rule {
        self.rules.iter().find(|(pattern, _)| pattern.matches(name)).map_or(&self.default_rule, |(_, rule)| rule)
    }

    /// Checks that an image of the store is signed as the policy requires; refuses it or warns if not.
    ///
    /// # Errors
    /// Of kind `Verification` if the image is refused; of kind `Usage` if a key of the policy cannot be read.
    pub fn check(&self, store: &Store, name: &Reference, digest: &Digest, ctx: &Context) -> Result<()> {
        let failure = |why: anyhow::Error| {
            Failure::new(Kind::Verification, format!("{} is not trusted: {why:#}", name.familiar()))
                .hint(format!("the trust policy is {}", self.file.display()))
                .hint("sign it with `sealift sign NAME --key cosign.key`, or fetch its signatures with `sealift pull NAME`")
        };
        match (self.verified(store, name, digest), self.rule(name).level) {
            (Err(error), _) if kind_of(&error) == Kind::Usage => Err(error),
            (Err(error), Level::Required) => Err(failure(error).into()),
            (Err(error), Level::Warn) => {
                ctx.warn(failure(error).message);
                Ok(())
            }
            (Ok(()), _) | (_, Level::Off) => Ok(()),
        }
    }

    /// Whether the image needs no signature, or is signed as the policy requires.
    pub(super) fn accepts(&self, store: &Store, name: &Reference, digest: &Digest) -> bool {
        self.verified(store, name, digest).is_ok()
    }

    fn verified(&self, store: &Store, name: &Reference, digest: &Digest) -> Result<()> {
        let rule = self.rule(name);
        if rule.level == Level::Off {
            return Ok(());
        }
        ensure!(!rule.keys.is_empty(), "the policy lists no key for it");
        let today = TimeZone::UTC.to_datetime(Timestamp::now()).date();
        let (valid, expired): (Vec<_>, Vec<_>) = rule.keys.iter().partition(|key| key.until.is_none_or(|until| today <= until));
        let expired: Vec<String> =
            expired.iter().filter_map(|key| Some(format!("{} expired after {}", key.file.display(), key.until?))).collect();
        ensure!(!valid.is_empty(), "all keys have expired: {}", expired.join(", "));
        let keys = valid.into_iter().map(KnownKey::read).collect::<Result<_>>();
        let keys = keys.with_context(|| format!("trust policy {}", self.file.display()))?;
        let requirements = SignatureRequirements { keys, signed_as: rule.signed_as.clone(), ..SignatureRequirements::default() };
        let verified = verify(store, digest, &requirements).map(|_| ());
        if expired.is_empty() { verified } else { verified.with_context(|| expired.join(", ")) }
    }
}

impl Key {
    fn relative_to(self, policy: &Path) -> KnownKey {
        let known = match self {
            Key::File(file) => KnownKey { file, fingerprint: None, until: None },
            Key::Known(known) => known,
        };
        KnownKey { file: policy.parent().unwrap_or(Path::new(".")).join(known.file), ..known }
    }
}

impl KnownKey {
    /// Reads the key; returns it with its path, for messages.
    fn read(&self) -> Result<(String, PublicKey)> {
        let key = PublicKey::read(&self.file)?;
        let (file, found) = (self.file.display(), key.fingerprint()?);
        if let Some(expected) = self.fingerprint.filter(|expected| *expected != found) {
            bail!(Failure::usage(format!("{file} has the fingerprint {found}, the policy requires {expected}")));
        }
        Ok((file.to_string(), key))
    }
}

/// The JSON Schema of a policy file.
pub fn policy_schema() -> serde_json::Value {
    schemars::schema_for!(Document).to_value()
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{Descriptor, MediaType};

    use super::*;
    use crate::trust::{Format, PrivateKey, sign};

    const POLICY: &str = "trust: warn\nkeys: [all.pub]\nimages:\n- name: registry.example.com/prod/**\n  trust: required\n  keys: [prod.pub]\n- name: docker.io/library/*\n  trust: off\n- name: r.io/*/a\n  trust: required\n";

    #[test]
    fn the_first_matching_rule_applies() {
        let policy = Policy::parse(POLICY, Path::new("/etc/sealift/trust.yaml")).unwrap();
        for (name, level, key) in [
            ("registry.example.com/prod/a/b:1", Level::Required, "prod.pub"),
            ("registry.example.com/test/a:1", Level::Warn, "all.pub"),
            ("shop", Level::Off, "all.pub"),
            ("r.io/x/a", Level::Required, "all.pub"),
            ("r.io/x/y/a", Level::Warn, "all.pub"),
        ] {
            let rule = policy.rule(&name.parse().unwrap());
            let keys: Vec<&Path> = rule.keys.iter().map(|key| key.file.as_path()).collect();
            assert_eq!((rule.level, keys), (level, vec![Path::new("/etc/sealift").join(key).as_path()]), "{name}");
        }
    }

    #[test]
    fn keys_are_valid_until_their_last_day_and_only_with_their_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        let image = store.put(b"image").unwrap();
        let descriptor = Descriptor::new(MediaType::ImageManifest, image.size, oci_spec::image::Digest::from(image.digest));
        let (name, [old, new]): (Reference, _) = ("shop:1".parse().unwrap(), [(); 2].map(|()| PrivateKey::generate()));
        sign(&store, &name, &descriptor, &old, &Default::default(), Format::Bundle).unwrap();
        for (file, key) in [("old.pub", &old), ("new.pub", &new)] {
            std::fs::write(dir.path().join(file), key.public().to_pem().unwrap()).unwrap();
        }
        let (of_old, of_new) = (old.public().fingerprint().unwrap(), new.public().fingerprint().unwrap());
        for (keys, expected) in [
            ("[new.pub, old.pub]".to_owned(), ""),
            ("[new.pub, {file: old.pub, until: 9999-12-31}]".to_owned(), ""),
            (format!("[{{file: old.pub, fingerprint: '{of_old}'}}]"), ""),
            ("[{file: old.pub, until: 2001-01-01}]".to_owned(), "all keys have expired: "),
            ("[new.pub, {file: old.pub, until: 2001-01-01}]".to_owned(), "old.pub expired after 2001-01-01: no valid signature of "),
            (format!("[{{file: old.pub, fingerprint: '{of_new}'}}]"), "old.pub has the fingerprint"),
        ] {
            let text = format!("trust: required\nkeys: {keys}\n");
            let policy = Policy::parse(&text, &dir.path().join("trust.yaml")).unwrap();
            let said = policy
                .check(&store, &name, &image.digest, &Context::silent())
                .map_or_else(|error| format!("{error:#}"), |()| String::new());
            assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{keys}: {said}");
        }
    }

    #[test]
    fn wrong_policies_are_refused() {
        for text in [
            "trust: maybe",
            "trst: off",
            "images:\n- name: '['\n  trust: off",
            "images:\n- trust: off",
            "keys:\n- file: a\n  til: x",
            "keys:\n- file: a\n  until: soon",
            "keys:\n- file: a\n  fingerprint: abc",
        ] {
            assert!(Policy::parse(text, Path::new("trust.yaml")).is_err(), "{text}");
        }
        assert_eq!(Policy::parse("{}", Path::new("trust.yaml")).unwrap().default_rule.level, Level::Off);
    }

    #[test]
    fn the_schema_in_docs_is_that_of_the_program() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/TrustPolicy.json");
        let expected = serde_json::to_string_pretty(&policy_schema()).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&file, &expected).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), expected, "UPDATE_SCHEMAS=1 updates it");
    }
}
