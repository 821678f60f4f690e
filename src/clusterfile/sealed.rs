//! Secrets of a Clusterfile that is kept: values of environments, data of Configs, tokens of kubeadm are sealed with a key of the operator.
//!
//! A sealed value is text, `sealed:v1:` and what nacl's secretbox makes of it (XSalsa20-Poly1305, base64url without padding). Its nonce
//! depends on key, place and value alone, so that an unchanged Clusterfile is kept unchanged.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crypto_secretbox::aead::Aead as _;
use crypto_secretbox::{Key, KeyInit as _, Nonce, XSalsa20Poly1305};
use secrecy::{ExposeSecret as _, SecretBox};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::model::{Clusterfile, Config, Env};

/// What sealed values begin with.
const SEALED: &str = "sealed:v1:";
/// Bytes of a nonce.
const NONCE: usize = 24;

/// Variables that sealift itself reads, or that only say how the cluster is made: no secrets, they stay readable.
const PUBLIC: [&str; 4] = ["CertSANs", "CgroupDriver", "PodCIDR", "SvcCIDR"];
/// The fields of kubeadm's documents that hold secrets, in lower case.
const SECRET_FIELDS: [&str; 4] = ["certificatekey", "password", "tlsbootstraptoken", "token"];

/// The key that seals secrets. Whoever has it can read them.
#[derive(Clone)]
pub struct SecretsKey(Arc<SecretBox<[u8; 32]>>);

impl SecretsKey {
    /// A new random key.
    pub fn generate() -> Self {
        SecretsKey(Arc::new(SecretBox::new(Box::new(rand::random()))))
    }

    /// The key that [`SecretsKey::to_text`] wrote; `None` if the text is none.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 32] = hex::decode(text.trim()).ok()?.try_into().ok()?;
        Some(SecretsKey(Arc::new(SecretBox::new(Box::new(bytes)))))
    }

    /// The key as a line of text.
    pub fn to_text(&self) -> String {
        hex::encode(self.0.expose_secret()) + "\n"
    }

    fn cipher(&self) -> XSalsa20Poly1305 {
        XSalsa20Poly1305::new(Key::from_slice(self.0.expose_secret()))
    }

    fn nonce(&self, place: &str, value: &str) -> [u8; NONCE] {
        let mut hash = Sha256::new();
        hash.update(b"sealift nonce\0");
        hash.update(self.0.expose_secret());
        hash.update((place.len() as u64).to_be_bytes());
        hash.update(place);
        hash.update(value);
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&hash.finalize()[..NONCE]);
        nonce
    }

    fn seal(&self, place: &str, value: &str) -> Option<String> {
        let nonce = self.nonce(place, value);
        let sealed = self.cipher().encrypt(Nonce::from_slice(&nonce), value.as_bytes()).ok()?;
        Some(format!("{SEALED}{}", URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat())))
    }

    fn open(&self, sealed: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed.strip_prefix(SEALED)?.trim()).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
        String::from_utf8(self.cipher().decrypt(Nonce::from_slice(nonce), sealed).ok()?).ok()
    }
}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretsKey")
    }
}

impl Clusterfile {
    /// As [`Clusterfile::to_yaml`], with all secrets sealed: what is kept of a cluster on this machine, on its masters and in it. Without
    /// a key they are left out, and only their places are kept.
    ///
    /// # Errors
    /// Fails if it cannot be written as YAML.
    pub fn to_kept_yaml(&self) -> anyhow::Result<String> {
        let mut kept = self.clone();
        let key = self.secrets_key.as_ref();
        kept.each_secret(&mut |place, value| {
            if !is_sealed(value) {
                let sealed = key.and_then(|key| key.seal(place, value));
                *value = sealed.unwrap_or_else(|| SEALED.to_owned());
            }
        });
        kept.to_yaml()
    }

    /// Takes a key: sealed values that it opens are readable from now on, and what is kept is sealed with it.
    pub fn unseal(&mut self, key: SecretsKey) {
        self.each_secret(&mut |_, value| {
            if let Some(opened) = key.open(value) {
                *value = opened;
            }
        });
        self.secrets_key = Some(key);
    }

    /// Whether it has values that are sealed before they are kept.
    pub fn has_secrets(&self) -> bool {
        let mut any = false;
        self.clone().each_secret(&mut |_, _| any = true);
        any
    }

    /// The places of the values that are sealed still: those that are not known here.
    pub fn sealed_places(&self) -> Vec<String> {
        let mut places = Vec::new();
        self.clone().each_secret(&mut |place, value| {
            if is_sealed(value) && !places.iter().any(|known| known == place) {
                places.push(place.to_owned());
            }
        });
        places
    }

    /// The values that may be secret, each with a name for its place.
    pub fn secret_values(&self) -> Vec<(String, String)> {
        let mut values = Vec::new();
        self.clone().each_secret(&mut |place, value| values.push((place.to_owned(), value.clone())));
        values
    }

    /// Calls `on` with every value that may be secret and a name for its place. One variable has one place, on all hosts too.
    fn each_secret(&mut self, on: &mut dyn FnMut(&str, &mut String)) {
        each_variable(&mut self.cluster.env, "", on);
        for host in &mut self.cluster.hosts {
            each_variable(&mut host.env, "", on);
        }
        for config in &mut self.configs {
            each_file(config, on);
        }
        for app in &mut self.application.configs {
            each_variable(&mut app.env, &format!(" of application `{}`", app.name), on);
            for file in &mut app.files {
                each_file(file, on);
            }
        }
        for plugin in &mut self.plugins {
            on(&format!("plugin `{}`", plugin.name), &mut plugin.data);
        }
        let documents = &mut self.kubeadm;
        for document in [&mut documents.cluster, &mut documents.init, &mut documents.join] {
            document.iter_mut().for_each(|document| each_field(document, on));
        }
    }
}

/// Whether a value is sealed.
pub(super) fn is_sealed(value: &str) -> bool {
    value.starts_with(SEALED)
}

fn each_variable(env: &mut Env, owner: &str, on: &mut dyn FnMut(&str, &mut String)) {
    for (name, value) in env.iter_mut().filter(|(name, value)| !PUBLIC.contains(&name.as_str()) && !value.is_empty()) {
        on(&format!("env `{name}`{owner}"), value);
    }
}

fn each_file(config: &mut Config, on: &mut dyn FnMut(&str, &mut String)) {
    let owner = if config.name.is_empty() { String::new() } else { format!(" `{}`", config.name) };
    on(&format!("config{owner}, {}", config.path), &mut config.data);
}

fn each_field(value: &mut Value, on: &mut dyn FnMut(&str, &mut String)) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if SECRET_FIELDS.contains(&name.to_lowercase().as_str()) => {
                        on(&format!("kubeadm's `{name}`"), text)
                    }
                    _ => each_field(value, on),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_field(item, on)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusterfile::{Overrides, load};
    use crate::error::{Kind, hints_of, kind_of};

    const TEXT: &str = "apiVersion: sealift.io/v1
kind: Cluster
metadata: {name: shop}
spec:
  image: shop:1
  env: [PodCIDR=10.244.0.0/16, DB_PASSWORD=geheim-1]
  hosts:
  - {ips: [10.0.0.1, 10.0.0.2], roles: [master]}
  - {ips: [10.0.0.3], roles: [node], env: [TOKEN=geheim-2]}
---
apiVersion: sealift.io/v1
kind: Config
metadata: {name: db}
spec: {path: etc/db.yaml, strategy: merge, data: {password: geheim-3}}
---
apiVersion: sealift.io/v1
kind: Application
spec: {configs: [{name: web, env: [KEY=geheim-4], files: [{path: v.yaml, data: {key: geheim-5}}]}]}
---
kind: InitConfiguration
bootstrapTokens: [{token: gehei6.0123456789abcdef, ttl: 1h}]
";

    #[test]
    fn what_is_kept_holds_no_secret_in_clear_and_opens_with_its_key() {
        let mut file = load("Clusterfile", TEXT).unwrap();
        file.unseal(SecretsKey::generate());
        let kept = file.to_kept_yaml().unwrap();
        assert!(!kept.contains("gehei") && kept.contains("PodCIDR=10.244.0.0/16") && kept.contains("ttl: 1h"), "{kept}");
        assert_eq!(kept.matches("DB_PASSWORD").count(), 1, "hosts follow the cluster as before:\n{kept}");
        assert_eq!(file.to_kept_yaml().unwrap(), kept, "what did not change is kept unchanged");
        let mut opened = load("kept", &kept).unwrap();
        assert_eq!(opened.sealed_places().len(), 6);
        opened.unseal(file.secrets_key.clone().unwrap());
        assert_eq!(opened.to_yaml().unwrap(), file.to_yaml().unwrap());
        assert!(opened.sealed_places().is_empty());
        assert!(!format!("{:?}", file.secrets_key).contains(file.secrets_key.as_ref().unwrap().to_text().trim()));
    }

    #[test]
    fn without_a_key_only_the_places_are_kept() {
        let kept = load("Clusterfile", TEXT).unwrap().to_kept_yaml().unwrap();
        assert!(!kept.contains("gehei") && kept.contains("DB_PASSWORD="), "{kept}");
        let mut loaded = load("kept", &kept).unwrap();
        loaded.unseal(SecretsKey::generate());
        assert_eq!(loaded.sealed_places().len(), 6);
    }

    #[test]
    fn with_another_key_a_run_is_refused_with_what_is_missing_and_how_to_give_it() {
        let mut file = load("Clusterfile", &TEXT[..TEXT.find("---").unwrap()]).unwrap();
        file.unseal(SecretsKey::generate());
        let mut elsewhere = load("kept", &file.to_kept_yaml().unwrap()).unwrap();
        elsewhere.unseal(SecretsKey::generate());
        let error = elsewhere.require_runnable().unwrap_err();
        assert_eq!(kind_of(&error), Kind::Usage);
        assert!(error.to_string().contains("env `DB_PASSWORD`, env `TOKEN`"), "{error}");
        let hints = hints_of(&error).join("\n");
        assert!(hints.contains("--env DB_PASSWORD=") && hints.contains("-f ") && hints.contains("SEALIFT_SECRETS_KEY"), "{hints}");
        // what was sealed elsewhere stays as it is
        assert_eq!(elsewhere.to_kept_yaml().unwrap(), file.to_kept_yaml().unwrap());
        let env = vec!["DB_PASSWORD=p".to_owned(), "TOKEN=t".to_owned()];
        let given = Overrides { env, ..Overrides::default() }.apply(elsewhere).unwrap();
        assert_eq!((given.cluster.hosts[0].env["DB_PASSWORD"].as_str(), given.cluster.hosts[2].env["TOKEN"].as_str()), ("p", "t"));
        given.require_runnable().unwrap();
    }

    #[test]
    fn a_key_is_one_line_of_text_and_nothing_else_is_a_key() {
        let key = SecretsKey::generate();
        assert_eq!(SecretsKey::parse(&key.to_text()).unwrap().to_text(), key.to_text());
        for text in ["", "abc", &"0".repeat(63), &"x".repeat(64)] {
            assert!(SecretsKey::parse(text).is_none(), "{text}");
        }
        for damaged in ["sealed:v1:", "sealed:v1:AAAA", "sealed:v2:x", "sealed:v1:ä", "text"] {
            assert!(key.open(damaged).is_none(), "{damaged}");
        }
    }
}
