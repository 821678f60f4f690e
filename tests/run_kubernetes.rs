//! Kubernetes, end to end: built, brought up on a master and a worker, killed again and again, grown by a worker, reset. Real
//! kubeadm, kubelet, etcd, containerd, sshd.

mod common;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::hosts::{Hosts, assert_same_snapshot};
use common::kubefiles::{container_images, kubernetes_context, repository};
use common::sealift::{Sealift, assert_says};

/// When runs are killed, in seconds after their start: in every stage of a bring-up.
const KILLS: [u64; 10] = [1, 2, 4, 6, 9, 14, 20, 12, 16, 10];

/// A pod that asks for names, in a namespace of its own, and a headless Service.
const NAMES: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: names}
---
apiVersion: v1
kind: Pod
metadata: {name: asker, namespace: names}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: asker, image: 'registry.k8s.io/coredns:1.7.0', command: [sleep, '100000']}
---
apiVersion: v1
kind: Service
metadata: {name: pods, namespace: default}
spec: {clusterIP: None, selector: {app: demo}, ports: [{name: http, port: 8080}]}
";
/// A Service that comes and goes.
const LATE: &str = "
apiVersion: v1
kind: Service
metadata: {name: late, namespace: names}
spec: {ports: [{port: 80}]}
";

struct Kubernetes {
    sealift: Sealift,
    hosts: Hosts,
    /// How many of the hosts are in the cluster: a master and workers.
    members: usize,
}

impl Kubernetes {
    fn on_two_of_three_hosts() -> Self {
        let sealift = Sealift::new();
        let images = container_images().display().to_string();
        let build = |tag: &str, folder: &str, context: String, more: &[&str]| {
            let kubefile = repository(&format!("kubefiles/{folder}/Kubefile")).display().to_string();
            let args = ["build", "-t", tag, "-f", &kubefile, "--from-archive", &images, &context];
            sealift.ok(&[&args[..], more].concat());
        };
        build("kubernetes:test", "kubernetes", kubernetes_context().display().to_string(), &[]);
        build("demo:test", "demo", repository("kubefiles/demo").display().to_string(), &["--build-arg", "BASE=kubernetes:test"]);
        Kubernetes { sealift, hosts: Hosts::up(3), members: 2 }
    }

    fn args(&self) -> Vec<String> {
        let key = self.hosts.key().display().to_string();
        let members: Vec<String> = self.hosts.addresses()[..self.members].iter().map(ToString::to_string).collect();
        let (secret, file) = (self.sealift.home().join("secret"), self.sealift.home().join("Clusterfile"));
        std::fs::write(&secret, "pull me").expect("the registry's password is written");
        let text = format!(
            "apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {{name: k}}\nspec:\n  image: demo:test\n  ssh: {{pk: {key}}}\n  \
                hosts:\n  - {{ips: [{}], roles: [master]}}\n  - {{ips: [{}], roles: [node]}}\n  \
                registry: {{localRegistry: {{username: puller, passwordFrom: {{file: {}}}}}}}\n",
            members[0],
            members[1..].join(", "),
            secret.display()
        );
        std::fs::write(&file, text).expect("the Clusterfile is written");
        ["run".to_owned(), "-f".to_owned(), file.display().to_string()].to_vec()
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

    fn refuses_applications_for_another_kubernetes(&self) {
        let context = self.sealift.home().join("newer");
        std::fs::create_dir_all(&context).expect("a directory");
        std::fs::write(context.join("Kubefile"), "FROM kubernetes:test\nKUBEVERSION \">=1.99\"\n").expect("a Kubefile");
        self.sealift.ok(&["build", "-t", "newer:test", &context.display().to_string()]);
        let args = [self.args(), vec!["newer:test".to_owned()]].concat();
        let stderr = self.sealift.fails(2, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_says(&stderr, &[">=1.99", "v1.20.2", "KUBEVERSION", "hint: "]);
    }

    /// An image of the next minor is refused, and nothing has changed afterwards.
    fn refuses_another_kubernetes_than_it_runs(&self) {
        let context = self.sealift.home().join("next");
        std::fs::create_dir_all(&context).expect("a directory");
        let label = "cluster.alpha.sealer.io/cluster-runtime-version=v1.21.14";
        std::fs::write(context.join("Kubefile"), format!("FROM demo:test\nLABEL {label}\n")).expect("a Kubefile");
        self.sealift.ok(&["build", "-t", "next:test", &context.display().to_string()]);
        let args = [self.args(), vec!["next:test".to_owned()]].concat();
        let stderr = self.sealift.fails(2, &args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_says(&stderr, &["next:test", "v1.21.14", "the cluster runs v1.20.2", "hint: use an image with Kubernetes v1.20.2"]);
        assert_eq!(self.run(), 0, "the refusal has changed nothing");
    }

    /// The local registry serves HTTPS, and authenticates only the user that the hosts have.
    fn assert_only_its_user_pulls(&self) {
        let ask = "curl -s -o /dev/null -w '%{http_code}' --cacert /var/lib/sealift/registry/ca.crt https://sea.hub:5000/v2/";
        assert_eq!(self.hosts.run("h2", ask), "401");
        assert_eq!(self.hosts.run("h2", &format!("{ask} -u 'puller:pull me'")), "200");
        assert_eq!(
            self.hosts.run("h2", "grep -rl 'pull me' /etc/containerd /etc/systemd /var/lib/sealift --include='*' 2>/dev/null || true"),
            ""
        );
        assert_eq!(self.hosts.run("h2", "stat -c %a /etc/containerd/certs.d/_default/hosts.toml").trim(), "600");
    }

    /// Every pod of the demo answers to every host by its own address: the routes between hosts are right.
    fn assert_pods_reach_each_other(&self) {
        let kubectl =
            "kubectl --cache-dir /run/kubectl --kubeconfig /etc/kubernetes/admin.conf get pods -o jsonpath='{.items[*].status.podIP}'";
        let pods = self.hosts.run("h1", kubectl);
        assert_eq!(pods.split_whitespace().count(), self.members, "{pods}");
        for number in 1..=self.members {
            for pod in pods.split_whitespace() {
                self.hosts.run(&format!("h{number}"), &format!("curl -s --max-time 5 --retry 5 --retry-connrefused http://{pod}:8080/"));
            }
        }
    }

    fn kubectl(&self, arguments: &str) -> String {
        self.hosts.run("h1", &format!("kubectl --cache-dir /run/kubectl --kubeconfig /etc/kubernetes/admin.conf {arguments}"))
    }

    /// Waits for what a pod of another namespace is answered from a URL, or for curl's exit code: 6 is a name that nobody knows.
    fn pod_is_answered(&self, url: &str, expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let ask = format!("exec -n names asker -- curl -sk -m 3 -w ' %{{exitcode}}' {url} || true");
        loop {
            let answer = self.kubectl(&ask);
            if answer.contains(expected) {
                return;
            }
            assert!(Instant::now() < deadline, "{url}: {answer}, not `{expected}`");
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Pods find Services by their names, of other namespaces and headless ones too; new ones come soon, and those of old ones go.
    fn assert_names_resolve(&self) {
        self.kubectl(&format!("apply -f - << 'END'\n{NAMES}\nEND"));
        self.kubectl("wait -n names --for=condition=Ready --timeout=60s pod/asker");
        self.pod_is_answered("https://kubernetes.default/healthz", "ok 0");
        self.pod_is_answered("http://demo.default/", "hello from h");
        self.pod_is_answered("http://pods.default.svc.cluster.local:8080/", "hello from h");
        let late = "http://late/";
        self.pod_is_answered(late, " 6");
        self.kubectl(&format!("apply -f - << 'END'\n{LATE}\nEND"));
        self.pod_is_answered(late, " 7"); // it is known, and nobody is behind it
        self.kubectl("delete service -n names late");
        self.pod_is_answered(late, " 6");
    }

    /// crictl works, the real one or its stand-in.
    fn assert_crictl_shows(&self) {
        let crictl = |arguments: &str| self.hosts.run("h1", &format!("crictl {arguments}"));
        assert_says(&crictl("ps"), &["CONTAINER", "POD ID", "Running", "kube-apiserver", " ago"]);
        assert_says(&crictl("pods --namespace kube-system"), &["Ready", "etcd-h1"]);
        assert_says(&crictl("images"), &["IMAGE ID", "kube-apiserver", "v1.20.2", "MiB"]);
        assert_says(&crictl("logs --tail 100 $(crictl ps -q --name kube-scheduler) 2>&1"), &["scheduler"]);
    }

    /// Other content of a manifest with the same name reaches the API server.
    fn runs_what_changed_in_an_application(&self) {
        for text in ["first", "other"] {
            let context = self.sealift.home().join(format!("change-{text}"));
            std::fs::create_dir_all(&context).expect("the context is written");
            let manifest =
                format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: change, namespace: default}}\ndata: {{text: {text}}}\n");
            std::fs::write(context.join("change.yaml"), manifest).expect("the context is written");
            let kubefile = String::from("FROM demo:test\nAPP change local://change.yaml\nLAUNCH [\"demo\", \"change\"]\n");
            std::fs::write(context.join("Kubefile"), kubefile).expect("the context is written");
            self.sealift.ok(&["build", "-t", "change:test", &context.display().to_string()]);
            let args = [self.args(), vec!["change:test".to_owned()]].concat();
            self.sealift.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
            let kubectl =
                "kubectl --cache-dir /run/kubectl --kubeconfig /etc/kubernetes/admin.conf get configmap change -o jsonpath={.data.text}";
            assert_eq!(self.hosts.run("h1", kubectl), text);
        }
        assert!(self.run() > 0, "back to the image without it");
    }

    /// Every node answers with its own name, through its own port.
    fn assert_demo_answers(&self) {
        for (number, address) in (1..).zip(&self.hosts.addresses()[..self.members]) {
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
    let mut kubernetes = Kubernetes::on_two_of_three_hosts();
    let before: BTreeMap<&str, String> = ["h1", "h2", "h3"].map(|host| (host, kubernetes.hosts.snapshot(host))).into();
    kubernetes.refuses_applications_for_another_kubernetes();
    for seconds in KILLS {
        kubernetes.kill_a_run_after(seconds);
    }
    kubernetes.run();
    kubernetes.assert_demo_answers();
    assert_eq!(kubernetes.run(), 0, "a second run changes nothing");
    kubernetes.runs_what_changed_in_an_application();
    let status = kubernetes.known(&["status"]);
    assert_eq!(status.matches("Ready v1.").count(), 2, "{status}");
    kubernetes.members = 3;
    assert!(kubernetes.run() > 0, "a host more is a change");
    let log = kubernetes.sealift.ok(&["logs", "k", "last"]);
    assert_says(&log, &["[preflight] Running pre-flight checks"]);
    assert!(!log.contains("Service-Kubelet"), "kubeadm found the kubelet enabled:\n{log}");
    kubernetes.refuses_another_kubernetes_than_it_runs();
    kubernetes.assert_demo_answers();
    kubernetes.assert_pods_reach_each_other();
    kubernetes.assert_names_resolve();
    kubernetes.assert_crictl_shows();
    kubernetes.assert_only_its_user_pulls();
    assert_says(&kubernetes.known(&["kubeconfig"]), &["clusters:", &kubernetes.hosts.addresses()[0].to_string()]);
    kubernetes.known(&["reset", "--yes"]);
    for host in ["h1", "h2", "h3"] {
        let left = kubernetes.hosts.run(host, "pgrep -a 'containerd|kubelet|etcd'; true");
        assert_eq!(left, "", "{host} after the reset");
        assert_same_snapshot(&before[&host], &kubernetes.hosts.snapshot(host), host);
    }
    kubernetes.run();
    kubernetes.assert_demo_answers();
}
