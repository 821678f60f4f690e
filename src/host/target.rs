//! How to reach a host: address, credentials, and what is known about its key.

use std::net::IpAddr;
use std::path::PathBuf;

use secrecy::SecretString;

/// A host and how to log in to it.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its address.
    pub address: IpAddr,
    /// The port of its sshd.
    pub port: u16,
    /// The user to log in as. Others than root become root by sudo.
    pub user: String,
    /// What to log in with.
    pub auth: Auth,
    /// The password for sudo; without it the login password is tried when sudo asks.
    pub sudo_password: Option<SecretString>,
    /// Which host keys are known, and what happens with others.
    pub known_hosts: HostKeys,
    /// The host to go through, if this one is not reached directly.
    pub jump: Option<Box<Target>>,
}

impl Target {
    /// A target at the standard port with nothing to log in with yet.
    pub fn new(address: IpAddr, user: impl Into<String>, known_hosts: HostKeys) -> Self {
        Target { address, port: 22, user: user.into(), auth: Auth::default(), sudo_password: None, known_hosts, jump: None }
    }
}

/// What to log in with; all that is given is tried: agent, key files, password.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// Private key files. One that is not there is passed over.
    pub keys: Vec<PathBuf>,
    /// The passphrase of encrypted key files.
    pub key_passphrase: Option<SecretString>,
    /// The socket of an ssh-agent.
    pub agent: Option<PathBuf>,
    /// The password, also for keyboard-interactive.
    pub password: Option<SecretString>,
}

/// The known host keys.
#[derive(Debug, Clone)]
pub struct HostKeys {
    /// A file in OpenSSH's `known_hosts` format.
    pub file: PathBuf,
    /// What happens with keys that are not in it.
    pub policy: HostKeyPolicy,
}

/// What happens with host keys that are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKeyPolicy {
    /// A new host's key is accepted and recorded; a changed one is refused.
    #[default]
    AcceptNew,
    /// Only recorded keys are accepted.
    Strict,
    /// Every key is accepted.
    Off,
}
