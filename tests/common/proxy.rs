//! A TCP proxy that counts what goes through, and can break it.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Stands between a client and a server; ends with the process.
pub struct Proxy {
    port: u16,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    up: AtomicU64,
    down: AtomicU64,
    /// When not 0: the byte at this place of the answers of a connection is flipped, once.
    flip_at: AtomicU64,
    /// How long it rests after each 64 KiB of a connection, in microseconds.
    pause: AtomicU64,
    /// When not 0: a connection is cut after so many bytes of answers, once.
    cut_at: AtomicU64,
}

impl Proxy {
    /// A proxy to `host`, an `ADDRESS:PORT`.
    pub fn to(host: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let port = listener.local_addr().expect("it is bound").port();
        let counts = Arc::new(Counts::default());
        let (host, shared) = (host.to_owned(), counts.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&host) else { continue };
                join(client, server, &shared);
            }
        });
        Proxy { port, counts }
    }

    /// Its address.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A name behind it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// Bytes from clients to the server so far.
    pub fn up(&self) -> u64 {
        self.counts.up.load(Ordering::SeqCst)
    }

    /// Bytes from the server to clients so far.
    pub fn down(&self) -> u64 {
        self.counts.down.load(Ordering::SeqCst)
    }

    /// Flips the byte at this place of the answers of the first connection that gets so far.
    pub fn flip_at(&self, place: u64) {
        self.counts.flip_at.store(place, Ordering::SeqCst);
    }

    /// Lets each connection pass at most 64 KiB in this time, so that little is under way at any moment.
    pub fn slow_down(&self, pause: Duration) {
        self.counts.pause.store(u64::try_from(pause.as_micros()).expect("a short pause"), Ordering::SeqCst);
    }

    /// Cuts the first connection whose answers get so far.
    pub fn cut_at(&self, place: u64) {
        self.counts.cut_at.store(place, Ordering::SeqCst);
    }
}

fn join(client: TcpStream, server: TcpStream, counts: &Arc<Counts>) {
    let (Ok(client_reader), Ok(server_reader)) = (client.try_clone(), server.try_clone()) else { return };
    let shared = counts.clone();
    std::thread::spawn(move || {
        copy(client_reader, server, |bytes, _| {
            shared.up.fetch_add(bytes.len() as u64, Ordering::SeqCst);
            shared.rest();
            true
        })
    });
    let shared = counts.clone();
    std::thread::spawn(move || copy(server_reader, client, |bytes, before| shared.pass_down(bytes, before)));
}

impl Counts {
    /// Counts, and breaks what is to be broken; whether the connection goes on.
    fn pass_down(&self, bytes: &mut [u8], before: u64) -> bool {
        let after = before + bytes.len() as u64;
        self.down.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        let hit = |place: &AtomicU64| {
            let at = place.load(Ordering::SeqCst);
            (at != 0 && (before..after).contains(&at) && place.swap(0, Ordering::SeqCst) == at).then_some(at)
        };
        if let Some(at) = hit(&self.flip_at) {
            bytes[usize::try_from(at - before).expect("inside the buffer")] ^= 0x40;
        }
        self.rest();
        hit(&self.cut_at).is_none()
    }

    fn rest(&self) {
        match self.pause.load(Ordering::SeqCst) {
            0 => {}
            pause => std::thread::sleep(Duration::from_micros(pause)),
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, pass: impl Fn(&mut [u8], u64) -> bool) {
    let (mut buffer, mut before) = (vec![0; 64 * 1024], 0);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !pass(&mut buffer[..count], before) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
        before += count as u64;
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
