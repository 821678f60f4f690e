//! Client and server over a pipe in this process, with a temporary directory as the host's root.

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

struct TestAgent {
    dir: tempfile::TempDir,
    client: Client,
    /// The agent's threads; shut down, it is as gone as a killed process.
    agent: Option<Runtime>,
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.kill();
    }
}

fn handshake(version: u32) -> Handshake {
    Handshake { version, digest: Digest::of(b"agent"), hostname: "h1".into() }
}

impl TestAgent {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (near, far) = tokio::io::duplex(64 << 10);
        let (input, output) = tokio::io::split(far);
        let agent = Runtime::new().unwrap();
        agent.spawn(serve(input, output, System::new(dir.path()), handshake(VERSION)));
        let (input, output) = tokio::io::split(near);
        let (client, handshake) = Client::start(input, output).await.unwrap();
        assert_eq!(handshake.hostname, "h1");
        TestAgent { dir, client, agent: Some(agent) }
    }

    fn kill(&mut self) {
        self.agent.take().into_iter().for_each(Runtime::shutdown_background);
    }

    async fn exec(&self, command: Exec) -> anyhow::Result<(ExitStatus, Vec<u8>)> {
        self.client.call(Request::Exec(command)).await?.wait(|_| ()).await
    }

    fn host_store(&self) -> Store {
        Store::open(&self.dir.path().join(STORE.trim_start_matches('/'))).unwrap()
    }
}

#[tokio::test]
async fn commands_get_input_and_environment_and_return_output_and_status() {
    let agent_host = TestAgent::new().await;
    let command = Exec::shell("read word; echo $word $NAME; echo oops >&2; exit 3").env("NAME", "value").stdin("hello\n");
    let mut lines = Vec::new();
    let call = agent_host.client.call(Request::Exec(command)).await.unwrap();
    let (ended, output): (ExitStatus, _) = call.wait(|line| lines.push(line.to_owned())).await.unwrap();
    lines.sort();
    assert_eq!((ended.status, output.as_slice(), ended.stdout), (3, b"hello value\noops\n".as_slice(), 12));
    assert_eq!(lines, ["hello value", "oops"]);
    let killed = agent_host.exec(Exec::shell("kill -9 $$")).await.unwrap().0;
    assert_eq!(killed.status, 137);
    assert!(agent_host.exec(Exec::new(["no-such-program"])).await.unwrap_err().to_string().contains("no-such-program"));
}

#[tokio::test]
async fn calls_run_in_parallel() {
    let agent_host = TestAgent::new().await;
    let begun = Instant::now();
    let slow = || agent_host.exec(Exec::shell("sleep 0.5"));
    let (quick, ..) = tokio::join!(
        async {
            agent_host.exec(Exec::shell("true")).await.unwrap();
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
async fn a_background_process_does_not_delay_its_command() {
    let agent_host = TestAgent::new().await;
    let begun = Instant::now();
    let (_, output) = agent_host.exec(Exec::shell("echo started; sleep 7 &")).await.unwrap();
    assert_eq!(output, b"started\n");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn long_output_keeps_its_end() {
    let agent_host = TestAgent::new().await;
    let (ended, output) = agent_host.exec(Exec::shell("yes 0123456789abcdef | head -c 20000000; echo end").quiet()).await.unwrap();
    assert_eq!((ended.status, output.len()), (0, 4 << 20));
    assert!(output.ends_with(b"end\n"));
}

#[tokio::test]
async fn an_agent_of_another_version_is_refused() {
    let mut wire = Vec::new();
    frame::write(&mut wire, &EventFrame { id: 0, event: Event::Handshake(handshake(VERSION + 1)) }, b"").await.unwrap();
    let error = Client::start(std::io::Cursor::new(wire), tokio::io::sink()).await.err().expect("refused");
    assert!(error.to_string().contains("speaks protocol version"), "{error}");
    assert!(Client::start(b"Welcome to this host, friend".as_slice(), tokio::io::sink()).await.is_err());
}

#[tokio::test]
async fn a_lost_agent_fails_running_and_later_calls() {
    let mut agent_host = TestAgent::new().await;
    let agent = agent_host.agent.take();
    let sleep = agent_host.exec(Exec::shell("sleep 20"));
    let gone = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        agent.into_iter().for_each(Runtime::shutdown_background);
    };
    let (result, ()) = tokio::join!(sleep, gone);
    assert_eq!(kind_of(&result.unwrap_err()), Kind::Network);
    assert_eq!(kind_of(&agent_host.exec(Exec::shell("true")).await.unwrap_err()), Kind::Network, "a later call");
}

#[tokio::test]
async fn blob_transfers_resume_at_any_byte() {
    let (agent_host, here) = (TestAgent::new().await, tempfile::tempdir().unwrap());
    let from = Store::open(here.path()).unwrap();
    let task = Context::silent().task("t", None, Unit::Bytes);
    for (seed, (size, arrived)) in
        (1u32..).zip([(0u32, 0), (1, 0), (700_000, 0), (700_000, 1), (700_000, 262_144), (700_000, 699_999), (700_000, 700_000)])
    {
        let bytes: Vec<u8> = (0..size).flat_map(|at| (at * seed).to_le_bytes()).take(size as usize).collect();
        let blob = from.put(&bytes).unwrap();
        std::io::Write::write_all(&mut agent_host.host_store().ingest(&blob).unwrap(), &bytes[..arrived]).unwrap();
        send(&agent_host.client, &blob, arrived as u64, &from, &task).await.unwrap_or_else(|error| panic!("{size} {arrived}: {error:#}"));
        assert_eq!(agent_host.host_store().read(&blob).unwrap(), bytes, "{size} {arrived}");
    }
    let absent = Blob::of(b"nowhere");
    assert_eq!(kind_of(&send(&agent_host.client, &absent, 0, &from, &task).await.unwrap_err()), Kind::Verification);
    assert!(!agent_host.host_store().has(&absent));
}
