//! An SSH connection: TCP or a jump host, host key verification, login, commands.

mod known_hosts;
mod login;

use std::borrow::Cow;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use russh::client::{Config, Handle, Handler, Msg};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Disconnect, Preferred, cipher};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{HostKeys, Target};
use crate::error::Failure;

/// The limit for a TCP connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The limit for key exchange and login.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// The limit for the answer to a request on a connection: a channel, the start of a command, its next output.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval of keep-alives on a silent connection; after three without an answer it is lost.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A connection to a host, logged in.
pub struct Session {
    handle: Handle<HostKeyVerifier>,
    jump: Option<Box<Session>>,
}

impl Session {
    /// Connects, through the jump host if there is one, verifies the host key, and logs in.
    pub async fn connect(target: &Target) -> Result<Session> {
        let Some(jump) = &target.jump else {
            let stream = connect_tcp(SocketAddr::new(target.address, target.port)).await?;
            return Ok(Session { handle: handshake(target, stream).await?, jump: None });
        };
        let jump = Box::pin(Session::connect(jump)).await.with_context(|| format!("jump host {}", jump.address))?;
        let (address, port) = (target.address, target.port);
        let unreachable = |why: String| {
            Failure::network(format!("{address}:{port}: unreachable from the jump host: {why}"))
                .hint("check that the jump host reaches this address and port, and that its sshd allows `AllowTcpForwarding`")
        };
        let opening = jump.handle.channel_open_direct_tcpip(address.to_string(), u32::from(port), "127.0.0.1", 0);
        let through =
            timeout(ANSWER_TIMEOUT, opening).await.map_err(|_| unreachable(format!("no answer for {} s", ANSWER_TIMEOUT.as_secs())))?;
        let channel = through.map_err(|error| unreachable(error.to_string()))?;
        Ok(Session { handle: handshake(target, channel.into_stream()).await?, jump: Some(Box::new(jump)) })
    }

    /// Starts a command, which the user's login shell interprets.
    pub async fn start(&self, command: &str) -> Result<Channel<Msg>> {
        let start = async {
            let channel = self.handle.channel_open_session().await.context("open an SSH channel")?;
            channel.exec(true, command).await.context("start a command over SSH")?;
            Ok(channel)
        };
        timeout(ANSWER_TIMEOUT, start).await.map_err(|_| no_answer("the host's sshd"))?
    }

    /// Runs a short command and returns its stdout; an exit status other than 0 is an error with stderr, and so is silence.
    pub async fn output(&self, command: &str) -> Result<String> {
        let mut channel = self.start(command).await?;
        let (mut stdout, mut stderr, mut status) = (Vec::new(), Vec::new(), None);
        while let Some(message) = timeout(ANSWER_TIMEOUT, channel.wait()).await.map_err(|_| no_answer("the login shell"))? {
            match message {
                ChannelMsg::Data { data } => stdout.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } => stderr.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
        }
        if status != Some(0) {
            let status = status.map_or("no exit status".into(), |status| format!("exit status {status}"));
            // nologin(8) says why on stdout
            let text = String::from_utf8_lossy(if stderr.trim_ascii().is_empty() { &stdout } else { &stderr });
            return Err(Failure::failed(format!("`{command}`: {status}: {}", text.trim())).into());
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Closes the connection, and the one to the jump host.
    pub async fn close(self) {
        self.handle.disconnect(Disconnect::ByApplication, "", "").await.ok();
        if let Some(jump) = self.jump {
            Box::pin(jump.close()).await;
        }
    }
}

fn no_answer(whose: &str) -> Failure {
    Failure::network(format!("no answer from {whose} for {} s", ANSWER_TIMEOUT.as_secs()))
        .hint("check that `ssh` to this host runs a command at once: the start files of the user's login shell must ask nothing")
}

async fn connect_tcp(address: SocketAddr) -> Result<TcpStream> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| unreachable(address, &error))?,
        Err(_) => {
            return Err(Failure::network(format!("{address}: connection timed out after {} s", CONNECT_TIMEOUT.as_secs()))
                .hint("check that the host is up, that its address is right, and that no firewall blocks the port")
                .into());
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn unreachable(address: SocketAddr, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::network(format!("{address}: connection refused"))
            .hint("check that sshd is running on the host and listens on this port; set another one with `--port`"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Failure::network(format!("{address}: unreachable: {error}")).hint("check that the host is up and its address is right")
        }
        _ => Failure::network(format!("{address}: {error}")),
    }
}

async fn handshake<S>(target: &Target, stream: S) -> Result<Handle<HostKeyVerifier>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (address, port) = (target.address, target.port);
    let verifier = HostKeyVerifier { keys: target.known_hosts.clone(), address, port, rejection: Arc::default() };
    let rejection = verifier.rejection.clone();
    let known_keys = known_hosts::known_keys(&target.known_hosts.file, address, port)?;
    let authenticate = async {
        let mut handle = russh::client::connect_stream(Arc::new(config(&known_keys)), stream, verifier).await.map_err(|error| {
            let rejection = rejection.lock().unwrap_or_else(PoisonError::into_inner).take();
            rejection.unwrap_or_else(|| Failure::network(format!("{address}:{port}: SSH: {error}")).into())
        })?;
        login::login(&mut handle, target).await?;
        Ok(handle)
    };
    let timed_out = || {
        Failure::network(format!("{address}:{port}: SSH login timed out after {} s", LOGIN_TIMEOUT.as_secs()))
            .hint("see `journalctl -u ssh` on the host, then run the same command again")
    };
    timeout(LOGIN_TIMEOUT, authenticate).await.map_err(|_| timed_out())?
}

fn config(known_keys: &[PublicKey]) -> Config {
    let mut preferred = Preferred::DEFAULT;
    // ask for the key types that are known of the host first, as OpenSSH does
    let is_known = |algorithm: &russh::keys::Algorithm| {
        known_keys.iter().any(|key| std::mem::discriminant(&key.algorithm()) == std::mem::discriminant(algorithm))
    };
    let mut algorithms = preferred.key.to_vec();
    algorithms.sort_by_key(|algorithm| !is_known(algorithm));
    preferred.key = Cow::Owned(algorithms);
    // the fastest ciphers on processors with AES instructions
    let mut ciphers = preferred.cipher.to_vec();
    ciphers.sort_by_key(|name| *name != cipher::AES_128_GCM && *name != cipher::AES_256_GCM);
    preferred.cipher = Cow::Owned(ciphers);
    Config { preferred, keepalive_interval: Some(KEEPALIVE_INTERVAL), keepalive_max: 3, nodelay: true, ..Config::default() }
}

/// Verifies the key that a host presents.
struct HostKeyVerifier {
    keys: HostKeys,
    address: IpAddr,
    port: u16,
    rejection: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Handler for HostKeyVerifier {
    type Error = russh::Error;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = presented else { return Ok(false) };
        let (keys, address, port, key) = (self.keys.clone(), self.address, self.port, key.clone());
        // may write to known_hosts, which blocks until it is on the disk
        match tokio::task::spawn_blocking(move || known_hosts::verify_host_key(&keys, address, port, &key))
            .await
            .unwrap_or_else(|error| Err(error.into()))
        {
            Ok(()) => Ok(true),
            Err(error) => {
                *self.rejection.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Ok(false)
            }
        }
    }
}
