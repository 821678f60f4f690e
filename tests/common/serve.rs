//! `sealift registry serve`, started by the test.

use std::net::TcpStream;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::sealift::Sealift;

/// A running `sealift registry serve`; it ends when dropped.
pub struct Serve {
    port: u16,
    child: Child,
}

impl Serve {
    /// Serves the store of `who`, with more arguments.
    pub fn start(who: &Sealift, more: &[&str]) -> Self {
        Self::start_at(who, &format!("127.0.0.1:{}", super::free_port()), more)
    }

    /// As [`Serve::start`], at this address of loopback.
    pub fn start_at(who: &Sealift, listen: &str, more: &[&str]) -> Self {
        let port = listen.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        let mut command = who.command(&[&["registry", "serve", "--listen", listen], more].concat());
        let log = std::fs::File::create(who.home().join("serve.log")).expect("a log");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("sealift starts");
        super::wait_until("the registry answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Serve { port, child }
    }

    /// Its address.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Asks it to stop as systemd does; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is a child");
        super::wait_until("the registry stops", || self.child.try_wait().expect("it is a child").is_some());
        std::thread::sleep(Duration::from_millis(1));
        self.child.try_wait().ok().flatten().and_then(|status| status.code())
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
