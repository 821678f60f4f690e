//! SSH: one connection to a host, with its key checked and the user logged in.

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

/// A TCP connection is made within this time.
const CONNECT: Duration = Duration::from_secs(10);
/// Keys are exchanged and the user logged in within this time.
const LOGIN: Duration = Duration::from_secs(30);
/// When a host says nothing for this long it is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// A connection to a host.
pub struct Session {
    handle: Handle<Verifier>,
    jump: Option<Box<Session>>,
}

impl Session {
    /// Connects, checks the host key, logs in.
    pub async fn connect(target: &Target) -> Result<Session> {
        let Some(jump) = &target.jump else {
            let stream = dial(SocketAddr::new(target.address, target.port)).await?;
            return Ok(Session { handle: shake_hands(target, stream).await?, jump: None });
        };
        let jump = Box::pin(Session::connect(jump)).await.with_context(|| format!("jump host {}", jump.address))?;
        let (address, port) = (target.address, target.port);
        let through = jump.handle.channel_open_direct_tcpip(address.to_string(), u32::from(port), "127.0.0.1", 0).await;
        let channel = through.map_err(|error| Failure::network(format!("{address}:{port}: not reached from the jump host: {error}")))?;
        Ok(Session { handle: shake_hands(target, channel.into_stream()).await?, jump: Some(Box::new(jump)) })
    }

    /// Starts a command; a login shell of the user takes it apart.
    pub async fn start(&self, command: &str) -> Result<Channel<Msg>> {
        let channel = self.handle.channel_open_session().await.context("open a channel")?;
        channel.exec(true, command).await.context("start a command")?;
        Ok(channel)
    }

    /// Runs a short command and gives its stdout.
    pub async fn output(&self, command: &str) -> Result<String> {
        let mut channel = self.start(command).await?;
        let (mut stdout, mut stderr, mut status) = (Vec::new(), Vec::new(), None);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => stdout.extend_from_slice(&data),
                ChannelMsg::ExtendedData { data, .. } => stderr.extend_from_slice(&data),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
        }
        if status != Some(0) {
            let status = status.map_or("no exit status".into(), |status| format!("exit status {status}"));
            let text = String::from_utf8_lossy(&stderr);
            return Err(Failure::failed(format!("`{command}`: {status}: {}", text.trim())).into());
        }
        Ok(String::from_utf8_lossy(&stdout).into_owned())
    }

    /// Hangs up.
    pub async fn close(self) {
        self.handle.disconnect(Disconnect::ByApplication, "", "").await.ok();
        if let Some(jump) = self.jump {
            Box::pin(jump.close()).await;
        }
    }
}

async fn dial(address: SocketAddr) -> Result<TcpStream> {
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| unreachable(address, &error))?,
        Err(_) => {
            return Err(Failure::network(format!("{address}: no answer within {} s", CONNECT.as_secs()))
                .hint("is the host up, its address right, and does a firewall let the port through?")
                .into());
        }
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn unreachable(address: SocketAddr, error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::network(format!("{address}: connection refused"))
            .hint("does sshd run there, and on this port? Another one is given with `--port`"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            Failure::network(format!("{address}: no way there: {error}")).hint("is the host up, and its address right?")
        }
        _ => Failure::network(format!("{address}: {error}")),
    }
}

async fn shake_hands<S>(target: &Target, stream: S) -> Result<Handle<Verifier>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (address, port) = (target.address, target.port);
    let verifier = Verifier { keys: target.known_hosts.clone(), address, port, refusal: Arc::default() };
    let refusal = verifier.refusal.clone();
    let recorded = known_hosts::recorded(&target.known_hosts.file, address, port)?;
    let exchange = async {
        let mut handle = russh::client::connect_stream(Arc::new(config(&recorded)), stream, verifier).await.map_err(|error| {
            let refusal = refusal.lock().unwrap_or_else(PoisonError::into_inner).take();
            refusal.unwrap_or_else(|| Failure::network(format!("{address}:{port}: SSH: {error}")).into())
        })?;
        login::login(&mut handle, target).await?;
        Ok(handle)
    };
    let late = || Failure::network(format!("{address}:{port}: SSH: no login within {} s", LOGIN.as_secs()));
    timeout(LOGIN, exchange).await.map_err(|_| late())?
}

fn config(recorded: &[PublicKey]) -> Config {
    let mut preferred = Preferred::DEFAULT;
    // a host shows the kind of key that is known of it, as with OpenSSH
    let is_recorded = |algorithm: &russh::keys::Algorithm| {
        recorded.iter().any(|key| std::mem::discriminant(&key.algorithm()) == std::mem::discriminant(algorithm))
    };
    let mut algorithms = preferred.key.to_vec();
    algorithms.sort_by_key(|algorithm| !is_recorded(algorithm));
    preferred.key = Cow::Owned(algorithms);
    // fastest where the processor has AES
    let mut ciphers = preferred.cipher.to_vec();
    ciphers.sort_by_key(|name| *name != cipher::AES_128_GCM && *name != cipher::AES_256_GCM);
    preferred.cipher = Cow::Owned(ciphers);
    Config { preferred, keepalive_interval: Some(KEEPALIVE), keepalive_max: 3, nodelay: true, ..Config::default() }
}

/// Checks the key that a host shows.
struct Verifier {
    keys: HostKeys,
    address: IpAddr,
    port: u16,
    refusal: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Handler for Verifier {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let (keys, address, port, key) = (self.keys.clone(), self.address, self.port, key.clone());
        // it may write, and waits until that is on the disk
        match tokio::task::spawn_blocking(move || known_hosts::judge(&keys, address, port, &key))
            .await
            .unwrap_or_else(|error| Err(error.into()))
        {
            Ok(()) => Ok(true),
            Err(error) => {
                *self.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Ok(false)
            }
        }
    }
}
