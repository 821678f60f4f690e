//! Kubernetes, end to end: built, brought up on a master and a worker, killed again and again, reset. Real kubeadm, kubelet,
//! etcd, containerd, sshd.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use common::hosts::Hosts;
use common::kubefiles::{container_images, kubernetes_context, repository};
use common::sealift::{Sealift, assert_says};

/// When runs are killed, in seconds after their start: in every stage of a bring-up.
const KILLS: [u64; 10] = [1, 2, 4, 6, 9, 14, 20, 12, 16, 10];

struct Kubernetes {
    sealift: Sealift,
    hosts: Hosts,
}

impl Kubernetes {
    fn on_two_hosts() -> Self {
        let sealift = Sealift::new();
        let images = container_images().display().to_string();
        let build = |tag: &str, folder: &str, context: String, more: &[&str]| {
            let kubefile = repository(&format!("kubefiles/{folder}/Kubefile")).display().to_string();
            let args = ["build", "-t", tag, "-f", &kubefile, "--from-archive", &images, &context];
            sealift.ok(&[&args[..], more].concat());
        };
        build("kubernetes:test", "kubernetes", kubernetes_context().display().to_string(), &[]);
        build("demo:test", "demo", repository("kubefiles/demo").display().to_string(), &["--build-arg", "BASE=kubernetes:test"]);
        Kubernetes { sealift, hosts: Hosts::up(2) }
    }

    fn args(&self) -> Vec<String> {
        let key = self.hosts.key().display().to_string();
        let [master, worker] = [0, 1].map(|number| self.hosts.addresses()[number].to_string());
        ["run", "demo:test", "--name", "k", "-m", &master, "-n", &worker, "--pk", &key].map(str::to_owned).to_vec()
    }

    fn run(&self) -> u64 {
        let args = self.args();
        let answer = self.sealift.json(&args.iter().map(String::as_str).collect::<Vec<_>>());
        answer["changes"].as_u64().expect("a number of changes")
    }

    fn known(&self, command: &[&str]) -> String {
        let key = self.hosts.key().display().to_string();
        self.sealift.ok(&[command, &["--pk", &key]].concat())
    }

    fn kill_a_run_after(&self, seconds: u64) {
        let args = self.args();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut run = self.sealift.command(&args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sealift starts");
        std::thread::sleep(Duration::from_secs(seconds));
        run.kill().expect("it runs, or has ended");
        run.wait().expect("it has ended");
    }

    /// Every node answers with its own name, through its own port.
    fn assert_demo_answers(&self) {
        for (number, address) in (1..).zip(self.hosts.addresses()) {
            let expected = format!("hello from h{number}");
            let deadline = Instant::now() + Duration::from_secs(60);
            let ask = || {
                common::run("curl", &["-s", "--max-time", "3", "--retry", "5", "--retry-connrefused", &format!("http://{address}:30080/")])
            };
            while ask().trim() != expected {
                assert!(Instant::now() < deadline, "{address} does not answer `{expected}`");
                std::thread::sleep(Duration::from_millis(300));
            }
        }
    }
}

#[test]
fn a_kubernetes_cluster_comes_up_through_ten_kills_and_a_reset_leaves_clean_hosts() {
    let kubernetes = Kubernetes::on_two_hosts();
    for seconds in KILLS {
        kubernetes.kill_a_run_after(seconds);
    }
    kubernetes.run();
    kubernetes.assert_demo_answers();
    assert_eq!(kubernetes.run(), 0, "a second run changes nothing");
    let status = kubernetes.known(&["status"]);
    assert_eq!(status.matches("Ready v1.").count(), 2, "{status}");
    assert_says(&kubernetes.known(&["kubeconfig"]), &["clusters:", &kubernetes.hosts.addresses()[0].to_string()]);
    kubernetes.known(&["reset", "--yes"]);
    for host in ["h1", "h2"] {
        let left = "ls -d /etc/kubernetes /var/lib/kubelet /var/lib/etcd /var/lib/containerd /etc/cni /var/lib/sealift /usr/bin/kube* 2>/dev/null; \
            ip -br link | grep -v -e '^lo' -e '^eth0'; pgrep -a 'containerd|kubelet|etcd'; grep -e kubelet -e containerd /proc/mounts; \
            iptables-save 2>/dev/null | grep -e KUBE -e CNI; ip route | grep -v -e 'dev eth0 proto kernel' -e '^default'; true";
        assert_eq!(kubernetes.hosts.run(host, left), "", "{host} after the reset");
    }
    kubernetes.run();
    kubernetes.assert_demo_answers();
}
