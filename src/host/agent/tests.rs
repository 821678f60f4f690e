//! Client and server over a pipe in this process, with a temporary directory as the host's root.

use std::time::{Duration, Instant};

use super::protocol::{Event, EventFrame, Handshake, VERSION};
use super::server::serve;
use tokio::runtime::Runtime;

use super::*;
use crate::error::{Kind, kind_of};
use crate::events::{Context, Unit};
use crate::host::{Claim, Fence};
use crate::image::{Blob, Digest};
use crate::paths::{CLAIM, STORE};
use crate::resource::{Command, File, FileMode, Resource, System};
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
    Handshake { version, digest: Digest::of(b"agent"), hostname: "h1".into(), claim: None }
}

impl TestAgent {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (near, far) = tokio::io::duplex(64 << 10);
        let (input, output) = tokio::io::split(far);
        let agent = Runtime::new().unwrap();
        agent.spawn(serve(input, output, System::new(dir.path()), handshake(VERSION)));
        let (input, output) = tokio::io::split(near);
        let (client, handshake) = Client::start(input, output, "h1", &Context::silent()).await.unwrap();
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
    let mut call = agent_host.client.call(Request::Exec(command)).await.unwrap();
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
    let ctx = Context::silent();
    let error = Client::start(std::io::Cursor::new(wire), tokio::io::sink(), "h1", &ctx).await.err().expect("refused");
    assert!(error.to_string().contains("speaks protocol version"), "{error}");
    assert!(Client::start(b"Welcome to this host, friend".as_slice(), tokio::io::sink(), "h1", &ctx).await.is_err());
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

fn shell(name: &str, line: &str) -> Resource {
    Resource::Command(Command { name: name.into(), directory: "/".into(), line: line.into(), env: [].into(), image: Digest::of(b"image") })
}

fn file(content: &str) -> Resource {
    Resource::File(File { permissions: FileMode::of_current_user(0o644), ..File::new("/etc/x", content, 0o644) })
}

#[tokio::test]
async fn a_cancelled_call_leaves_its_script_and_says_so() {
    let agent_host = TestAgent::new().await;
    let cases = [
        ("stopped", "echo ready; sleep 50; touch done", Some("stopped by SIGTERM")),
        ("finished", "trap '' TERM; echo ready; sleep 1; touch done", None),
    ];
    for (name, line, expected) in cases {
        let began = Instant::now();
        let mut call = agent_host.client.call(Request::Apply(Box::new(shell(name, line)))).await.unwrap();
        while !matches!(call.next().await.unwrap().0, Event::Line(line) if line == "ready") {}
        call.cancel();
        let error = call.wait::<bool>(|_| ()).await.err();
        assert_eq!(error.as_ref().map(kind_of), expected.map(|_| Kind::Interrupted), "{name}: {error:?}");
        assert!(error.is_none_or(|error| format!("{error:#}").contains(expected.unwrap_or_default())), "{name}");
        assert_eq!(agent_host.dir.path().join("done").exists(), expected.is_none(), "{name}");
        assert!(began.elapsed() < Duration::from_secs(20), "{name}");
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_and_others_go_on() {
    let agent_host = TestAgent::new().await;
    let mut dropped = agent_host.client.call(Request::Exec(Exec::shell("echo ready; sleep 50; touch late"))).await.unwrap();
    let other = agent_host.exec(Exec::shell("sleep 1; echo done"));
    let drop_it = async {
        while !matches!(dropped.next().await.unwrap().0, Event::Line(_)) {}
        drop(dropped);
    };
    let (other, ()) = tokio::join!(other, drop_it);
    assert_eq!(other.unwrap().1, b"done\n");
    let running = || std::process::Command::new("pgrep").args(["-f", "sleep 50; touch late"]).output().unwrap().status.success();
    let began = Instant::now();
    while running() {
        assert!(began.elapsed() < Duration::from_secs(20), "the command still runs");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_agent_whose_client_is_gone_finishes_what_changes_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let (near, far) = tokio::io::duplex(64 << 10);
    let (input, output) = tokio::io::split(far);
    let agent = tokio::spawn(serve(input, output, System::new(dir.path()), handshake(VERSION)));
    let (input, output) = tokio::io::split(near);
    let (client, _) = Client::start(input, output, "h1", &Context::silent()).await.unwrap();
    // more lines than any buffer takes: nobody reads them any more
    let line = "trap '' TERM; echo ready; sleep 1; seq 200000; touch done";
    let mut call = client.call(Request::Apply(Box::new(shell("slow", line)))).await.unwrap();
    while !matches!(call.next().await.unwrap().0, Event::Line(line) if line == "ready") {}
    drop(call);
    drop(client);
    agent.await.unwrap().unwrap();
    assert!(dir.path().join("done").exists(), "the agent ended before its change did");
}

#[tokio::test]
async fn changes_of_an_older_run_and_of_another_cluster_are_refused() {
    let agent_host = TestAgent::new().await;
    let apply = async |cluster: &str, number, content: &str| {
        agent_host.client.set_fence(Fence { cluster: cluster.into(), number });
        agent_host.client.request::<bool>(Request::Apply(Box::new(file(content)))).await
    };
    apply("a", Some(5), "one").await.unwrap();
    apply("a", Some(7), "two").await.unwrap();
    let refused = [
        (apply("a", Some(6), "three").await, "another run has taken over the cluster a"),
        (apply("b", Some(9), "three").await, "belongs to the cluster a"),
    ];
    for (result, part) in refused {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(part) && !crate::error::hints_of(&error).is_empty(), "{error}");
    }
    let read = || std::fs::read(agent_host.dir.path().join("etc/x"));
    assert_eq!(read().unwrap(), b"two", "a refused change changes nothing");
    let claim = std::fs::read(agent_host.dir.path().join(CLAIM.trim_start_matches('/'))).unwrap();
    assert_eq!(serde_json::from_slice::<Claim>(&claim).unwrap(), Claim { cluster: "a".into(), number: 7 });
    for request in [Request::Undo, Request::Purge { keep_store: false }, Request::Exec(Exec::shell("true"))] {
        let what = format!("{request:?}");
        let mut call = agent_host.client.call(request).await.unwrap();
        let error = call.wait::<serde_json::Value>(|_| ()).await.unwrap_err();
        assert_eq!(kind_of(&error), Kind::Preflight, "{what}");
    }
    // a run without a lease resets its own cluster, and frees the host
    agent_host.client.set_fence(Fence { cluster: "a".into(), number: None });
    assert_eq!(agent_host.client.request::<usize>(Request::Undo).await.unwrap(), 1);
    agent_host.client.request::<()>(Request::Purge { keep_store: false }).await.unwrap();
    assert!(read().is_err() && !agent_host.dir.path().join("var/lib/sealift").exists());
    apply("b", Some(1), "four").await.unwrap();
}
