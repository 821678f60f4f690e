//! A Kubernetes cluster whose hosts come and go, end to end: the first master is lost and installed anew, hosts join, change their roles
//! and leave. Real kubeadm, kubelet, etcd, containerd, sshd.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::hosts::Hosts;
use common::kubefiles::{container_images, kubernetes_context, repository};
use common::sealift::{Ended, Sealift, assert_says};
use serde_json::Value;

const KUBECTL: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 10s";

/// An operator's machine, and the hosts that it knows by number.
struct Operator<'a> {
    sealift: &'a Sealift,
    hosts: &'a Hosts,
}

impl Operator<'_> {
    fn addresses(&self, numbers: &[usize]) -> String {
        numbers.iter().map(|number| self.hosts.addresses()[number - 1].to_string()).collect::<Vec<_>>().join(",")
    }

    fn ended(&self, args: &[&str]) -> Ended {
        let key = self.hosts.key().display().to_string();
        self.sealift.run(&[args, &["--pk", &key]].concat())
    }

    /// Plans and carries out a command: the plan lists the steps that it then does, no more and no less. The plan.
    fn does(&self, plan: &[&str], command: &[&str], code: i32) -> Value {
        let planned = self.ended(&[plan, &["-o", "json"]].concat()).expect_code(code);
        let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
        let steps = planned["stages"].as_array().unwrap().iter().flat_map(|stage| stage["steps"].as_array().unwrap());
        let expected: BTreeSet<&str> = steps.map(|step| step["id"].as_str().unwrap()).collect();
        let done = self.ended(&[command, &["-o", "json"]].concat()).expect_code(code);
        let done: Value = serde_json::from_str(&done.stdout).unwrap();
        let done: BTreeSet<&str> = done["steps"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(done, expected, "{command:?} did what its plan says");
        planned
    }

    fn changes_nothing(&self, code: i32) {
        let plan = self.ended(&["plan", "--name", "k"]).expect_code(code);
        assert_says(&plan.stdout, &["0 changes to k"]);
    }

    fn scales(&self, masters: &[usize], nodes: &[usize]) {
        let (masters, nodes) = (self.addresses(masters), self.addresses(nodes));
        let lists = ["--masters", masters.as_str(), "--nodes", nodes.as_str()];
        let done = self.ended(&[&["scale", "k", "--yes", "-o", "json"][..], &lists].concat()).expect_code(0);
        assert!(done.stdout.contains("\"steps\""), "{}", done.stdout);
        self.changes_nothing(0);
    }
}

/// The nodes, sorted: `*` for a control plane node, `!` for one that is not ready.
fn nodes(hosts: &Hosts, on: &str) -> String {
    let list: Value = serde_json::from_str(&hosts.run(on, &format!("{KUBECTL} get nodes -o json"))).unwrap();
    let node = |node: &Value| {
        let master = node["metadata"]["labels"].get("node-role.kubernetes.io/master").is_some();
        let ready = node["status"]["conditions"].as_array().unwrap().iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        format!("{}{}{}", node["metadata"]["name"].as_str().unwrap(), if master { "*" } else { "" }, if ready { "" } else { "!" })
    };
    let mut nodes: Vec<String> = list["items"].as_array().unwrap().iter().map(node).collect();
    nodes.sort();
    nodes.join(" ")
}

fn etcd_members(hosts: &Hosts, on: &str) -> usize {
    let certificates =
        "--cacert /etc/kubernetes/pki/etcd/ca.crt --cert /etc/kubernetes/pki/etcd/server.crt --key /etc/kubernetes/pki/etcd/server.key";
    hosts.run(on, &format!("ETCDCTL_API=3 etcdctl --endpoints https://127.0.0.1:2379 {certificates} member list")).lines().count()
}

fn becomes(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !ready() {
        assert!(Instant::now() < deadline, "{what}: not within 120 s");
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn a_kubernetes_cluster_keeps_its_identity_while_hosts_come_and_go() {
    let first = Sealift::new();
    let images = container_images().display().to_string();
    let build = |tag: &str, folder: &str, context: String, more: &[&str]| {
        let kubefile = repository(&format!("kubefiles/{folder}/Kubefile")).display().to_string();
        first.ok(&[&["build", "-t", tag, "-f", &kubefile, "--from-archive", &images, &context][..], more].concat());
    };
    build("kubernetes:test", "kubernetes", kubernetes_context().display().to_string(), &[]);
    build("demo:test", "demo", repository("kubefiles/demo").display().to_string(), &["--build-arg", "BASE=kubernetes:test"]);
    let hosts = Hosts::up(4);
    let operator = Operator { sealift: &first, hosts: &hosts };
    let (masters, all) = (operator.addresses(&[1, 2, 3]), operator.addresses(&[4]));
    let run = ["demo:test", "--name", "k", "--masters", &masters, "--nodes", &all];
    operator.does(&[&["plan"][..], &run].concat(), &[&["run"][..], &run].concat(), 0);
    operator.changes_nothing(0);
    let authority = hosts.run("h2", "sha256sum /etc/kubernetes/pki/ca.crt");

    // quorum is guarded, and nothing has changed after the refusal
    let refused = operator.ended(&["scale", "k", "--yes", "--masters", &operator.addresses(&[1])]).expect_code(3);
    assert_says(&refused.stderr, &["removing 2 of 3 etcd members would lose quorum", "one master at a time"]);
    operator.changes_nothing(0);

    // the first master loses its power: another machine takes the cluster over, and goes on with the others
    hosts.stop("h1");
    let second = Sealift::new();
    let store = first.store_root().display().to_string();
    let other = Operator { sealift: &second, hosts: &hosts };
    other.ended(&["adopt", "--host", &operator.addresses(&[2])]).expect_code(0);
    let other_args = ["--store", store.as_str()];
    becomes("h1 is not ready", || nodes(&hosts, "h2").contains("h1*!"));
    let unreachable = other.ended(&[&["apply", "k"][..], &other_args].concat()).expect_code(4);
    assert_says(&unreachable.stderr, &[&operator.addresses(&[1])]);
    let again = other.ended(&[&["plan", "--name", "k"][..], &other_args].concat()).expect_code(4);
    assert_says(&again.stdout, &["0 changes to k", "! "]);

    // it comes back with an empty disk: it joins the cluster that exists
    hosts.reinstall("h1");
    let plan = other.ended(&[&["plan", "--name", "k", "--host-key", "off"][..], &other_args].concat()).expect_code(0);
    assert_says(&plan.stdout, &["- ", "etcd member", "control plane node h1"]);
    other.ended(&[&["apply", "k", "--host-key", "off"][..], &other_args].concat()).expect_code(0);
    assert_eq!(hosts.run("h1", "sha256sum /etc/kubernetes/pki/ca.crt"), authority, "it is the same cluster");
    assert_eq!((nodes(&hosts, "h1").as_str(), etcd_members(&hosts, "h1")), ("h1* h2* h3* h4", 3));

    // one host fewer, a worker becomes a master, a master a worker
    std::fs::remove_file(first.home().join("state/known_hosts")).ok();
    operator.scales(&[1, 2, 3], &[]);
    assert_eq!(nodes(&hosts, "h1"), "h1* h2* h3*");
    assert_eq!(hosts.run("h4", "ls -d /etc/kubernetes /var/lib/kubelet /var/lib/sealift /usr/bin/kube* 2>/dev/null || true"), "");
    operator.scales(&[1, 2], &[4, 3]);
    assert_eq!((nodes(&hosts, "h1").as_str(), etcd_members(&hosts, "h1")), ("h1* h2* h3 h4", 2));
    operator.scales(&[1, 2, 4], &[3]);
    assert_eq!((nodes(&hosts, "h1").as_str(), etcd_members(&hosts, "h1")), ("h1* h2* h3 h4*", 3));
    // the first master leaves
    operator.scales(&[2, 4], &[3]);
    assert_eq!((nodes(&hosts, "h2").as_str(), etcd_members(&hosts, "h2")), ("h2* h3 h4*", 2));
    assert_eq!(hosts.run("h2", "sha256sum /etc/kubernetes/pki/ca.crt"), authority);

    operator.ended(&["reset", "--yes"]).expect_code(0);
    for host in ["h1", "h2", "h3", "h4"] {
        let left =
            "ls -d /etc/kubernetes /var/lib/kubelet /var/lib/etcd /var/lib/containerd /var/lib/sealift /usr/bin/kube* 2>/dev/null; true";
        assert_eq!(hosts.run(host, left), "", "{host} after the reset");
    }
}
