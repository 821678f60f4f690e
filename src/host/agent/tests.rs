//! Both ends over a pipe in this process, on a directory that stands for a host.

use std::time::{Duration, Instant};

use super::protocol::{Event, EventFrame, Handshake, VERSION};
use super::server::serve;
use tokio::runtime::Runtime;

use super::*;
use crate::error::{Kind, kind_of};
use crate::events::{Context, Unit};
use crate::image::{Blob, Digest};
use crate::paths::STORE;
use crate::resource::System;
use crate::store::Store;

struct Lab {
    dir: tempfile::TempDir,
    link: Client,
    /// The agent's threads; without them it is as dead as a killed process.
    agent: Option<Runtime>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.kill();
    }
}

fn hello(version: u32) -> Handshake {
    Handshake { version, digest: Digest::of(b"agent"), hostname: "h1".into() }
}

impl Lab {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (near, far) = tokio::io::duplex(64 << 10);
        let (input, output) = tokio::io::split(far);
        let agent = Runtime::new().unwrap();
        agent.spawn(serve(input, output, System::new(dir.path()), hello(VERSION)));
        let (input, output) = tokio::io::split(near);
        let (link, told) = Client::start(input, output).await.unwrap();
        assert_eq!(told.hostname, "h1");
        Lab { dir, link, agent: Some(agent) }
    }

    fn kill(&mut self) {
        self.agent.take().into_iter().for_each(Runtime::shutdown_background);
    }

    async fn exec(&self, command: Exec) -> anyhow::Result<(ExitStatus, Vec<u8>)> {
        self.link.call(Request::Exec(command)).await?.done(|_| ()).await
    }

    fn there(&self) -> Store {
        Store::open(&self.dir.path().join(STORE.trim_start_matches('/'))).unwrap()
    }
}

#[tokio::test]
async fn commands_get_input_and_environment_and_tell_lines_and_status() {
    let lab = Lab::new().await;
    let command = Exec::shell("read word; echo $word $NAME; echo oops >&2; exit 3").env("NAME", "value").stdin("hello\n");
    let mut lines = Vec::new();
    let call = lab.link.call(Request::Exec(command)).await.unwrap();
    let (ended, output): (ExitStatus, _) = call.done(|line| lines.push(line.to_owned())).await.unwrap();
    lines.sort();
    assert_eq!((ended.status, output.as_slice(), ended.stdout), (3, b"hello value\noops\n".as_slice(), 12));
    assert_eq!(lines, ["hello value", "oops"]);
    let killed = lab.exec(Exec::shell("kill -9 $$")).await.unwrap().0;
    assert_eq!(killed.status, 137);
    assert!(lab.exec(Exec::new(["no-such-program"])).await.unwrap_err().to_string().contains("no-such-program"));
}

#[tokio::test]
async fn calls_run_side_by_side() {
    let lab = Lab::new().await;
    let begun = Instant::now();
    let slow = || lab.exec(Exec::shell("sleep 0.5"));
    let (quick, ..) = tokio::join!(
        async {
            lab.exec(Exec::shell("true")).await.unwrap();
            begun.elapsed()
        },
        slow(),
        slow(),
        slow()
    );
    assert!(quick < Duration::from_millis(450), "{quick:?}");
    assert!(begun.elapsed() < Duration::from_millis(1400), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_process_left_behind_does_not_hold_up_its_command() {
    let lab = Lab::new().await;
    let begun = Instant::now();
    let (_, output) = lab.exec(Exec::shell("echo started; sleep 7 &")).await.unwrap();
    assert_eq!(output, b"started\n");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn long_output_is_cut_at_its_start() {
    let lab = Lab::new().await;
    let (ended, output) = lab.exec(Exec::shell("yes 0123456789abcdef | head -c 20000000; echo end").quiet()).await.unwrap();
    assert_eq!((ended.status, output.len()), (0, 4 << 20));
    assert!(output.ends_with(b"end\n"));
}

#[tokio::test]
async fn an_agent_of_another_version_is_refused() {
    let mut wire = Vec::new();
    frame::write(&mut wire, &EventFrame { id: 0, event: Event::Hello(hello(VERSION + 1)) }, b"").await.unwrap();
    let error = Client::start(std::io::Cursor::new(wire), tokio::io::sink()).await.err().expect("refused");
    assert!(error.to_string().contains("speaks version"), "{error}");
    assert!(Client::start(b"Welcome to this host, friend".as_slice(), tokio::io::sink()).await.is_err());
}

#[tokio::test]
async fn whoever_waits_learns_that_the_agent_is_gone() {
    let mut lab = Lab::new().await;
    let agent = lab.agent.take();
    let sleep = lab.exec(Exec::shell("sleep 20"));
    let gone = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        agent.into_iter().for_each(Runtime::shutdown_background);
    };
    let (result, ()) = tokio::join!(sleep, gone);
    assert_eq!(kind_of(&result.unwrap_err()), Kind::Network);
    assert_eq!(kind_of(&lab.exec(Exec::shell("true")).await.unwrap_err()), Kind::Network, "a later call");
}

#[tokio::test]
async fn blobs_go_on_from_any_byte_and_arrive_whole() {
    let (lab, here) = (Lab::new().await, tempfile::tempdir().unwrap());
    let from = Store::open(here.path()).unwrap();
    let task = Context::silent().task("t", None, Unit::Bytes);
    for (seed, (size, arrived)) in
        (1u32..).zip([(0u32, 0), (1, 0), (700_000, 0), (700_000, 1), (700_000, 262_144), (700_000, 699_999), (700_000, 700_000)])
    {
        let bytes: Vec<u8> = (0..size).flat_map(|at| (at * seed).to_le_bytes()).take(size as usize).collect();
        let blob = from.put(&bytes).unwrap();
        std::io::Write::write_all(&mut lab.there().ingest(&blob).unwrap(), &bytes[..arrived]).unwrap();
        send(&lab.link, &blob, arrived as u64, &from, &task).await.unwrap_or_else(|error| panic!("{size} {arrived}: {error:#}"));
        assert_eq!(lab.there().read(&blob).unwrap(), bytes, "{size} {arrived}");
    }
    let absent = Blob::of(b"nowhere");
    assert_eq!(kind_of(&send(&lab.link, &absent, 0, &from, &task).await.unwrap_err()), Kind::Verification);
    assert!(!lab.there().has(&absent));
}
