//! The load balancer of the API servers on a worker: a TCP proxy on the loopback that fails over between all masters.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};

use crate::events::Context;

/// How long to wait for a connection to a master before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Forwards connections to the first of `backends` that accepts one, starting with the one that accepted last, until `ctx` is
/// cancelled.
pub async fn serve(listener: TcpListener, backends: Vec<SocketAddr>, ctx: &Context) -> Result<()> {
    let backends: &'static Backends = Box::leak(Box::new(Backends { addresses: backends, last: AtomicUsize::new(0) }));
    loop {
        let accepted = tokio::select! {
            () = ctx.cancel().cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, _)) => drop(tokio::spawn(forward(client, backends))),
            Err(error) => {
                tracing::warn!("accept: {error}"); // most likely out of file descriptors: connections that end free some
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

struct Backends {
    addresses: Vec<SocketAddr>,
    last: AtomicUsize,
}

impl Backends {
    async fn connect(&self) -> Result<TcpStream> {
        let first = self.last.load(Ordering::Relaxed);
        let mut last_error = anyhow::anyhow!("no masters are configured");
        for number in 0..self.addresses.len() {
            let index = (first + number) % self.addresses.len();
            let address = self.addresses[index];
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(stream);
                }
                Ok(Err(error)) => last_error = anyhow::Error::from(error).context(address.to_string()),
                Err(_) => last_error = anyhow::anyhow!("{address}: connection timed out after {} s", CONNECT_TIMEOUT.as_secs()),
            }
        }
        Err(last_error).context("all masters are unreachable; the last error")
    }
}

async fn forward(mut client: TcpStream, backends: &Backends) {
    let result = async {
        let mut master = backends.connect().await?;
        client.set_nodelay(true)?;
        master.set_nodelay(true)?;
        tokio::io::copy_bidirectional(&mut client, &mut master).await?;
        anyhow::Ok(())
    };
    if let Err(error) = result.await {
        tracing::info!("{error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn echo() -> (SocketAddr, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    tokio::io::copy(&mut reader, &mut writer).await.ok();
                });
            }
        };
        (address, tokio::spawn(serve))
    }

    #[tokio::test]
    async fn an_unreachable_master_is_skipped() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (open, server) = echo().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let ctx = Context::silent();
        let balancer = tokio::spawn({
            let ctx = ctx.clone();
            async move { serve(listener, vec![closed, open], &ctx).await }
        });
        for _ in 0..3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            let mut answer = [0; 5];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"hello");
        }
        ctx.cancel().cancel();
        balancer.await.unwrap().unwrap();
        server.abort();
    }
}
