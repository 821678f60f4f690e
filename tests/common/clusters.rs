//! Clusters that tests bring up on test hosts.

use super::hosts::Hosts;
use super::kubefiles::{etcd_context, repository};
use super::sealift::{Ended, Sealift};

/// The name of the image that [`Etcd`] runs.
pub const ETCD: &str = "etcd:test";

/// Hosts, and a sealift that brings up etcd on all of them.
pub struct Etcd {
    pub sealift: Sealift,
    pub hosts: Hosts,
    masters: String,
    key: String,
}

impl Etcd {
    /// Starts hosts and builds the image; nothing is brought up yet.
    pub fn on(count: usize) -> Self {
        let sealift = Sealift::new();
        let kubefile = repository("kubefiles/etcd/Kubefile").display().to_string();
        sealift.ok(&["build", "-t", ETCD, "-f", &kubefile, &etcd_context().display().to_string()]);
        let hosts = Hosts::up(count);
        let masters: Vec<String> = hosts.addresses().iter().map(ToString::to_string).collect();
        Etcd { sealift, masters: masters.join(","), key: hosts.key().display().to_string(), hosts }
    }

    /// The arguments of a run on all hosts.
    pub fn run_args(&self) -> Vec<&str> {
        vec!["run", ETCD, "--name", "db", "--masters", &self.masters, "--pk", &self.key]
    }

    /// Brings it up, or goes on; it must succeed. How many things changed.
    pub fn run(&self) -> u64 {
        let answer = self.sealift.json(&self.run_args());
        answer["changes"].as_u64().expect("a number of changes")
    }

    /// Brings up another image with one more file, `name`; it must succeed. How many things changed.
    pub fn run_with_file(&self, name: &str, content: &str) -> u64 {
        let (context, tag) = (self.sealift.home().join(name), format!("etcd:{name}"));
        std::fs::create_dir_all(&context).expect("a directory");
        std::fs::write(context.join("file"), content).expect("the file is written");
        std::fs::write(context.join("Kubefile"), format!("FROM {ETCD}\nCOPY file application/file\n")).expect("a Kubefile");
        self.sealift.ok(&["build", "-t", &tag, &context.display().to_string()]);
        let answer = self.sealift.json(&["run", &tag, "--name", "db", "--masters", &self.masters, "--pk", &self.key]);
        answer["changes"].as_u64().expect("a number of changes")
    }

    /// Runs a command on the cluster that this sealift knows.
    pub fn known(&self, command: &[&str]) -> Ended {
        self.sealift.run(&[&command[..1], &["--pk", &self.key], &command[1..]].concat())
    }

    /// Panics unless all members serve.
    pub fn assert_healthy(&self) {
        for number in 1..=self.hosts.addresses().len() {
            self.hosts.run(&format!("h{number}"), "etcdctl --endpoints http://127.0.0.1:2379 endpoint health");
        }
        let members = self.hosts.run("h1", "etcdctl --endpoints http://127.0.0.1:2379 member list");
        assert_eq!(members.matches(", started, ").count(), self.hosts.addresses().len(), "{members}");
    }

    /// What a reset must leave as it was.
    pub fn snapshot(&self, host: &str) -> String {
        self.hosts.snapshot(host)
    }
}
