//! How to connect to a host: address, credentials, known host keys, jump host.

use std::net::IpAddr;
use std::path::PathBuf;

use secrecy::SecretString;

/// An SSH destination with everything needed to log in.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address to connect to.
    pub address: IpAddr,
    /// The TCP port of its sshd.
    pub port: u16,
    /// The user to log in as. Users other than root become root by sudo.
    pub user: String,
    /// The credentials to log in with.
    pub auth: Auth,
    /// The password for sudo; by default the login password.
    pub sudo_password: Option<SecretString>,
    /// The known host keys, and the policy for others.
    pub known_hosts: HostKeys,
    /// The jump host, as in OpenSSH's `ProxyJump`.
    pub jump: Option<Box<Target>>,
}

impl Target {
    /// A target at port 22, without credentials.
    pub fn new(address: IpAddr, user: impl Into<String>, known_hosts: HostKeys) -> Self {
        Target { address, port: 22, user: user.into(), auth: Auth::default(), sudo_password: None, known_hosts, jump: None }
    }
}

/// Credentials. All that are set are tried: ssh-agent, key files, password.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    /// Private key files. Missing ones are skipped.
    pub keys: Vec<PathBuf>,
    /// The passphrase of encrypted key files.
    pub key_passphrase: Option<SecretString>,
    /// The socket of an ssh-agent (`SSH_AUTH_SOCK`).
    pub agent: Option<PathBuf>,
    /// The password, for the methods `password` and `keyboard-interactive`.
    pub password: Option<SecretString>,
}

/// A `known_hosts` file, and the policy for keys that are not in it.
#[derive(Debug, Clone)]
pub struct HostKeys {
    /// A file in OpenSSH's `known_hosts` format.
    pub file: PathBuf,
    /// Whether other keys are accepted.
    pub policy: HostKeyPolicy,
}

/// The policy for unknown host keys, as OpenSSH's `StrictHostKeyChecking`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKeyPolicy {
    /// `accept-new`: the key of a new host is accepted and added to the file; a changed one is rejected.
    #[default]
    AcceptNew,
    /// `yes`: only keys in the file are accepted.
    Strict,
    /// `no`: every key is accepted.
    Off,
}
