//! TLS for the registry server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::error::Failure;

/// The timeout for the TLS handshake of a client.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Reads certificate chain and key, both PEM. Unusable files are an error of kind `Usage`.
pub fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let pem = fs_err::read(certificate)?;
    let chain = rustls_pemfile::certs(&mut pem.as_slice()).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.with_context(|| Failure::usage(format!("{}: no PEM certificate in it", certificate.display())))?;
    let pem = fs_err::read(key)?;
    let secret = rustls_pemfile::private_key(&mut pem.as_slice()).ok().flatten();
    let secret = secret.with_context(|| Failure::usage(format!("{}: no PEM private key in it", key.display())))?;
    let mismatch = || Failure::usage(format!("certificate {} and key {} do not match", certificate.display(), key.display()));
    let mut config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, secret).with_context(mismatch)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts TLS connections; handshakes run concurrently, so that a slow client does not block others.
pub struct TlsListener {
    accepted: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local: SocketAddr,
}

impl TlsListener {
    /// Starts accepting on `listener`.
    pub fn new(listener: TcpListener, acceptor: TlsAcceptor) -> Result<Self> {
        let local = listener.local_addr()?;
        let (sender, accepted) = mpsc::channel(64);
        tokio::spawn(accept(listener, acceptor, sender));
        Ok(TlsListener { accepted, local })
    }
}

async fn accept(mut listener: TcpListener, acceptor: TlsAcceptor, sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>) {
    loop {
        // axum's accept waits and continues when the process is out of file descriptors
        let (stream, peer) = tokio::select! {
            accepted = axum::serve::Listener::accept(&mut listener) => accepted,
            () = sender.closed() => return,
        };
        stream.set_nodelay(true).ok();
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => drop(sender.send((stream, peer)).await),
                Ok(Err(error)) => tracing::info!("TLS with {peer}: {error}"),
                Err(_) => tracing::info!("TLS with {peer}: no handshake within {} s", HANDSHAKE.as_secs()),
            }
        });
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.accepted.recv().await {
            Some(accepted) => accepted,
            // the accepting task ends only when this receiver does
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.local)
    }
}
