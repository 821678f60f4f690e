//! The API server's address on workers: a small TCP balancer on the loopback that knows all masters.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::{DesiredState, api_server};
use crate::events::Context;
use crate::paths;
use crate::resource::{File, Resource, SystemdUnit};

const UNIT: &str = "sealift-apiserver-balancer.service";
/// A master that does not answer for so long is passed over.
const PATIENCE: Duration = Duration::from_secs(2);

/// The balancer on a worker.
pub fn resources(desired: &DesiredState) -> Vec<Resource> {
    let path = format!("/etc/systemd/system/{UNIT}");
    let masters: Vec<String> = desired.masters().map(|master| SocketAddr::new(master.address(), api_server::PORT).to_string()).collect();
    let text = format!(
        "# written by sealift\n\
        [Unit]\nDescription=way to the API servers\nAfter=network.target\n\n\
        [Service]\nExecStart={} balance --listen 127.0.0.1:{} {}\nRestart=always\nRestartSec=1\nLimitNOFILE=65536\n\n\
        [Install]\nWantedBy=multi-user.target\n",
        paths::EXECUTABLE,
        api_server::PORT,
        masters.join(" ")
    );
    vec![Resource::File(File::new(path.as_str(), text, 0o644)), Resource::Unit(SystemdUnit::running(UNIT, [path.as_str()]))]
}

/// Passes connections on to the first of `backends` that answers, beginning with the one that answered last, until the job
/// is cancelled.
pub async fn serve(listener: TcpListener, backends: Vec<SocketAddr>, ctx: &Context) -> Result<()> {
    let backends: &'static Backends = Box::leak(Box::new(Backends { addresses: backends, last: AtomicUsize::new(0) }));
    loop {
        let accepted = tokio::select! {
            () = ctx.cancel().cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, _)) => drop(tokio::spawn(pass_on(client, backends))),
            Err(error) => {
                tracing::warn!("accept: {error}"); // out of descriptors, most likely: some are given back in a moment
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
        let start = self.last.load(Ordering::Relaxed);
        let mut why = anyhow::anyhow!("there are no masters");
        for number in 0..self.addresses.len() {
            let index = (start + number) % self.addresses.len();
            let address = self.addresses[index];
            match tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    self.last.store(index, Ordering::Relaxed);
                    return Ok(stream);
                }
                Ok(Err(error)) => why = anyhow::Error::from(error).context(address.to_string()),
                Err(_) => why = anyhow::anyhow!("{address}: no answer"),
            }
        }
        Err(why).context("no master answers")
    }
}

async fn pass_on(mut client: TcpStream, backends: &Backends) {
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
    async fn a_dead_master_is_passed_over() {
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
