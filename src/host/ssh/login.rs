//! SSH login with all credentials that are set; an error lists which were tried.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use russh::MethodKind;
use russh::client::{AuthResult, Handle, Handler, KeyboardInteractiveAuthResponse};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{Error as KeyError, HashAlg, PrivateKey, PrivateKeyWithHashAlg, load_secret_key};
use secrecy::{ExposeSecret as _, SecretString};

use crate::error::Failure;
use crate::host::Target;

/// sshd disconnects after six attempts (`MaxAuthTries`); the keys of an ssh-agent leave some for the others.
const MAX_AGENT_KEYS: usize = 4;

/// A running login.
struct Login<'a, H: Handler> {
    handle: &'a mut Handle<H>,
    target: &'a Target,
    tried: Vec<String>,
    offered: Vec<MethodKind>,
}

/// Logs in with ssh-agent, key files, then password.
///
/// # Errors
/// An error lists what was tried and the methods that the host offers.
pub async fn login<H: Handler>(handle: &mut Handle<H>, target: &Target) -> Result<()> {
    let first = handle.authenticate_none(&target.user).await?;
    let mut login = Login { handle, target, tried: Vec::new(), offered: Vec::new() };
    if login.record_result(first) || login.try_agent().await? || login.try_key_files().await? || login.try_password().await? {
        return Ok(());
    }
    Err(login.permission_denied().into())
}

impl<H: Handler> Login<'_, H> {
    /// Returns whether the login succeeded; if not, records the methods that the host offers now.
    fn record_result(&mut self, result: AuthResult) -> bool {
        match result {
            AuthResult::Success => true,
            AuthResult::Failure { remaining_methods, .. } => {
                if !remaining_methods.is_empty() {
                    self.offered = remaining_methods.to_vec();
                }
                false
            }
        }
    }

    fn offers(&self, method: MethodKind) -> bool {
        self.offered.is_empty() || self.offered.contains(&method)
    }

    async fn rsa_hash(&mut self) -> Result<Option<HashAlg>> {
        Ok(self.handle.best_supported_rsa_hash().await?.flatten())
    }

    async fn try_agent(&mut self) -> Result<bool> {
        let Some(socket) = &self.target.auth.agent else { return Ok(false) };
        if !self.offers(MethodKind::PublicKey) {
            return Ok(false);
        }
        let identities = match AgentClient::connect_uds(socket).await {
            Ok(mut agent) => agent.request_identities().await.map(|identities| (agent, identities)),
            Err(error) => Err(error),
        };
        let (mut agent, identities) = match identities {
            Ok(found) => found,
            Err(error) => {
                self.tried.push(format!("ssh-agent {} ({error})", socket.display()));
                return Ok(false);
            }
        };
        let rsa = self.rsa_hash().await?;
        for identity in identities.into_iter().take(MAX_AGENT_KEYS) {
            let AgentIdentity::PublicKey { key, comment } = identity else { continue };
            let hash = if key.algorithm().is_rsa() { rsa } else { None };
            self.tried.push(format!("ssh-agent key {comment}"));
            match self.handle.authenticate_publickey_with(&self.target.user, key, hash, &mut agent).await {
                Ok(result) if self.record_result(result.clone()) => return Ok(true),
                Ok(_) => {}
                Err(error) => self.tried.push(format!("ssh-agent ({error})")),
            }
        }
        Ok(false)
    }

    async fn try_key_files(&mut self) -> Result<bool> {
        let target = self.target;
        for path in &target.auth.keys {
            if !self.offers(MethodKind::PublicKey) {
                break;
            }
            let key = match load_key(path, target.auth.key_passphrase.clone()).await? {
                Ok(key) => key,
                Err(why) => {
                    self.tried.push(format!("key {} ({why})", path.display()));
                    continue;
                }
            };
            self.tried.push(format!("key {}", path.display()));
            let key = PrivateKeyWithHashAlg::new(Arc::new(key), self.rsa_hash().await?);
            let result = self.handle.authenticate_publickey(&target.user, key).await?;
            if self.record_result(result) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn try_password(&mut self) -> Result<bool> {
        let Some(password) = &self.target.auth.password else { return Ok(false) };
        if self.offers(MethodKind::Password) {
            self.tried.push("password".into());
            let result = self.handle.authenticate_password(&self.target.user, password.expose_secret()).await?;
            if self.record_result(result) {
                return Ok(true);
            }
        }
        if self.offers(MethodKind::KeyboardInteractive) {
            self.tried.push("keyboard-interactive".into());
            return self.try_keyboard_interactive(password).await;
        }
        Ok(false)
    }

    /// Answers hidden prompts with the password.
    async fn try_keyboard_interactive(&mut self, password: &SecretString) -> Result<bool> {
        let mut reply = self.handle.authenticate_keyboard_interactive_start(&self.target.user, None).await?;
        for _ in 0..4 {
            let KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } = &reply else { break };
            let answer = |echo: bool| if echo { String::new() } else { password.expose_secret().to_owned() };
            let answers = prompts.iter().map(|prompt| answer(prompt.echo)).collect();
            reply = self.handle.authenticate_keyboard_interactive_respond(answers).await?;
        }
        Ok(matches!(reply, KeyboardInteractiveAuthResponse::Success))
    }

    fn permission_denied(&self) -> Failure {
        let Target { user, address, .. } = self.target;
        let tried = if self.tried.is_empty() { "nothing: no key and no password is set".into() } else { self.tried.join(", ") };
        let offered: Vec<&str> = self.offered.iter().map(<&str>::from).collect();
        let failure = Failure::failed(format!("{user}@{address}: permission denied ({}); tried {tried}", offered.join(",")));
        if self.tried.iter().any(|tried| tried.contains("encrypted")) {
            return failure.hint("set the passphrase of the key, or add the key to an ssh-agent with `ssh-add`");
        }
        failure
            .hint("check the user and its password or key; the public key must be in `~/.ssh/authorized_keys` on the host (`ssh-copy-id`)")
    }
}

/// Loads a private key, or returns why it cannot be used.
async fn load_key(path: &Path, passphrase: Option<SecretString>) -> Result<Result<PrivateKey, String>> {
    let path = path.to_owned();
    let load_key = move || load_secret_key(&path, passphrase.as_ref().map(|passphrase| passphrase.expose_secret()));
    Ok(match tokio::task::spawn_blocking(load_key).await? {
        Ok(key) => Ok(key),
        Err(KeyError::KeyIsEncrypted) => Err("encrypted, no passphrase set".into()),
        Err(KeyError::IO(error)) if error.kind() == std::io::ErrorKind::NotFound => Err("no such file".into()),
        Err(KeyError::SshKey(russh::keys::ssh_key::Error::Crypto)) => Err("encrypted, wrong passphrase".into()),
        Err(error) => Err(error.to_string()),
    })
}
