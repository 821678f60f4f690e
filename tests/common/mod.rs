//! What the end-to-end tests share: the sealift binary with assertions, real registries, small images, test hosts.
#![allow(dead_code, reason = "each test file uses its part")]

pub mod building;
pub mod chart_generator;
pub mod clusters;
pub mod cyclonedx;
pub mod documents;
pub mod hosts;
pub mod images;
pub mod kubefiles;
pub mod namespace;
pub mod proxy;
pub mod registry;
pub mod sealift;
pub mod serve;
pub mod trust;
pub mod web;

use std::net::TcpListener;
use std::time::{Duration, Instant};

/// A port on loopback that nobody listened on a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has free ports").port()
}

/// Waits until `ready` says so; panics with `what` after 20 s.
pub fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a program that must succeed; what it printed to stdout.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = std::process::Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {}\n{stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
