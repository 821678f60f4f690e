//! A web server for tests: files with entity tags, redirects, errors, and a log of what was asked.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sealift::image::Digest;

/// Serves until the test ends. What is asked for is looked up in the files, by path.
pub struct Web {
    address: String,
    files: Arc<Mutex<Vec<(String, Answer)>>>,
    log: Arc<Mutex<Vec<String>>>,
}

/// What a path gives.
#[derive(Clone)]
pub enum Answer {
    /// A file; with its digest as entity tag.
    File(Vec<u8>),
    /// A file without an entity tag, from this time.
    Dated(Vec<u8>, String),
    /// The way to another path.
    Redirect(String),
    /// A status and nothing else.
    Status(u16),
}

impl Web {
    /// Starts on a free port of this machine.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address").to_string();
        let web = Web { address, files: Arc::default(), log: Arc::default() };
        let (files, log) = (web.files.clone(), web.log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (files, log) = (files.clone(), log.clone());
                std::thread::spawn(move || answer(stream, &files, &log));
            }
        });
        web
    }

    /// Its `HOST:PORT`.
    pub fn host(&self) -> &str {
        &self.address
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Puts something under a path, in the place of what was there.
    pub fn put(&self, path: &str, answer: Answer) {
        let mut files = self.files.lock().expect("no thread panicked");
        files.retain(|(known, _)| known != path);
        files.push((path.to_owned(), answer));
    }

    /// What was answered since the last call: `200 path`.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().expect("no thread panicked"))
    }
}

fn answer(mut stream: TcpStream, files: &Mutex<Vec<(String, Answer)>>, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().expect("the stream")).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let target = first.split(' ').nth(1).unwrap_or_default();
    // a proxy is asked with the whole URL
    let path = target
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .map_or(target.trim_start_matches('/'), |(_, path)| path)
        .to_owned();
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let value =
            |line: &String| line.split_once(": ").filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned());
        headers.iter().find_map(value)
    };
    let asked = header("if-none-match");
    let found = files.lock().expect("no thread panicked").iter().find(|(known, _)| *known == path).map(|(_, answer)| answer.clone());
    let (status, extra, body) = match found {
        Some(Answer::File(bytes)) => {
            let tag = format!("\"{}\"", Digest::of(&bytes).hex());
            if asked.as_deref() == Some(&tag) { (304, String::new(), Vec::new()) } else { (200, format!("ETag: {tag}\r\n"), bytes) }
        }
        Some(Answer::Dated(bytes, time)) => match header("if-modified-since") == Some(time.clone()) {
            true => (304, String::new(), Vec::new()),
            false => (200, format!("Last-Modified: {time}\r\n"), bytes),
        },
        Some(Answer::Redirect(to)) => (302, format!("Location: {to}\r\n"), Vec::new()),
        Some(Answer::Status(status)) => (status, String::new(), Vec::new()),
        None => (404, String::new(), b"no such file".to_vec()),
    };
    log.lock().expect("no thread panicked").push(format!("{status} {path}"));
    let head = format!("HTTP/1.1 {status} x\r\n{extra}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body)).ok();
}
