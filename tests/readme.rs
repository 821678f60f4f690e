//! Every command of the README, typed as it stands there: the quickstart with a real cluster, and what is done at a desk.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::documents::{read, root};
use common::hosts::Hosts;
use common::registry::{DockerRegistry, Settings};
use common::sealift::{Sealift, assert_says};
use tempfile::TempDir;

/// The lines that a section of the README tells to type.
fn typed_in(section: &str) -> Vec<String> {
    let lines: Vec<String> = read(root().join("README.md")).section(section).commands().into_iter().map(|(_, line)| line).collect();
    assert!(lines.len() >= 3, "README, {section}: {lines:?}");
    lines
}

/// A person at a terminal: a directory, and `sealift` in PATH.
struct Person {
    sealift: Sealift,
    directory: PathBuf,
}

impl Person {
    fn in_directory(directory: impl Into<PathBuf>) -> Self {
        let (sealift, directory) = (Sealift::new(), directory.into());
        let bin = sealift.home().join("bin");
        fs::create_dir_all(&bin).expect("a directory for programs");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_sealift"), bin.join("sealift")).expect("a link");
        Person { sealift, directory }
    }

    fn command(&self, program: &str) -> Command {
        let path = format!("{}:{}", self.sealift.home().join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env("PATH", path).env("HOME", self.sealift.home()).env_remove("XDG_RUNTIME_DIR");
        command.env("SEALIFT_HOME", self.sealift.home().join("state")).stdin(Stdio::null());
        command
    }

    /// Types a line at a terminal, then `answers`; it must succeed. What the terminal showed.
    fn types(&self, line: &str, answers: &str, env: &[(&str, &Path)]) -> String {
        let stdin = self.sealift.home().join("typed");
        fs::write(&stdin, answers).expect("what is typed is written");
        let mut command = self.command("script");
        command.args(["--quiet", "--return", "--command", line, "/dev/null"]).envs(env.iter().copied());
        if !answers.is_empty() {
            command.stdin(fs::File::open(stdin).expect("it is there"));
        }
        succeeds(command, line)
    }
}

fn succeeds(mut command: Command, what: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{what}: {}\n{stdout}{stderr}", output.status);
    stdout.into_owned()
}

#[test]
fn what_the_readme_builds_and_shares_is_built_and_shared() {
    let desk = tempfile::tempdir().expect("a directory");
    fs::write(desk.path().join("Kubefile"), "FROM scratch\nCOPY shop.yaml manifests/\nLABEL shop=1\n").expect("a Kubefile");
    fs::write(desk.path().join("shop.yaml"), "kind: ConfigMap\napiVersion: v1\nmetadata: {name: shop}\n").expect("a manifest");
    let registry = Settings::default().domain("registry.example.com").user("me", "secret").start();
    let (person, hosts) = (Person::in_directory(desk.path()), names(&registry));
    let store = person.sealift.store_root().to_owned();
    for line in typed_in("Build").into_iter().chain(typed_in("Share")) {
        // where the registry's name leads to is this machine's matter
        let line = format!("unshare --mount sh -c 'mount --bind {} /etc/hosts && exec {line}'", hosts.path().join("hosts").display());
        let answers = if line.contains("login") { "me\nsecret\n" } else { "" };
        person.types(&line, answers, &[("SSL_CERT_FILE", &registry.ca_file()), ("SEALIFT_STORE", &store)]);
    }
    assert_says(&person.sealift.ok(&["images"]), &["shop", "registry.example.com/team/shop"]);
    assert!(registry.log().contains("/v2/team/shop/manifests/1.0"), "{}", registry.log());
}

#[test]
fn what_the_readme_installs_is_installed() {
    let desk = tempfile::tempdir().expect("a directory");
    let (clone, system, bin) = (desk.path().join("sealift"), desk.path().join("system"), desk.path().join("bin"));
    common::run("git", &["clone", "--quiet", root().to_str().expect("UTF-8"), clone.to_str().expect("UTF-8")]);
    // the packages are those of the binary under test, without what debuggers read
    let built = desk.path().join("built");
    common::run("strip", &["-o", built.to_str().expect("UTF-8"), env!("CARGO_BIN_EXE_sealift")]);
    // `dpkg` installs below a directory: this machine's programs stay what they are
    for directory in ["var/lib/dpkg/updates", "var/lib/dpkg/info"] {
        fs::create_dir_all(system.join(directory)).expect("a directory for dpkg");
    }
    fs::write(system.join("var/lib/dpkg/status"), "").expect("an empty list of packages");
    fs::create_dir_all(&bin).expect("a directory for programs");
    let dpkg = format!("#!/bin/sh\nexec /usr/bin/dpkg --root={} \"$@\"\n", system.display());
    fs::write(bin.join("dpkg"), dpkg).expect("a program");
    fs::set_permissions(bin.join("dpkg"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a program");
    let path = format!("{}:{}:{}", bin.display(), system.join("usr/bin").display(), std::env::var("PATH").unwrap_or_default());
    let mut said = String::new();
    for line in typed_in("Install") {
        let mut command = Command::new("bash");
        command.args(["-euc", &line]).current_dir(&clone).env("PATH", &path).env("SEALIFT", &built).stdin(Stdio::null());
        said = succeeds(command, &line);
    }
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    for file in ["usr/bin/sealift", "usr/share/man/man1/sealift.1.gz", "usr/share/bash-completion/completions/sealift"] {
        assert!(system.join(file).is_file(), "the package has no {file}");
    }
}

/// A directory with an `/etc/hosts` that knows where the registry is.
fn names(registry: &DockerRegistry) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!("127.0.0.1 localhost\n{} registry.example.com\n", registry.address());
    fs::write(directory.path().join("hosts"), text).expect("names are written");
    directory
}

/// The quickstart's cluster on hosts of this test.
struct Quickstart {
    person: Person,
    hosts: Hosts,
    work: PathBuf,
    port: u16,
}

impl Quickstart {
    fn on_hosts(count: usize) -> Self {
        let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quickstart");
        fs::create_dir_all(&work).expect("a directory");
        Quickstart { person: Person::in_directory(&work), hosts: Hosts::claimed(count), work, port: common::free_port() }
    }

    fn start(&self, args: &[&str]) -> String {
        let mut command = self.person.command("bash");
        command.arg(root().join("scripts/quickstart.sh")).args(args).env("SEALIFT", env!("CARGO_BIN_EXE_sealift"));
        command.env("QUICKSTART_DIR", &self.work).env("QUICKSTART_PORT", self.port.to_string()).env("TESTHOST_ID", self.hosts.id());
        // its caches are the machine's
        command.env("XDG_CACHE_HOME", std::env::home_dir().expect("a home").join(".cache"));
        succeeds(command, "quickstart.sh")
    }

    fn types(&self, line: &str, answers: &str) -> String {
        self.person.types(line, answers, &[("SEALIFT_STORE", &self.work.join("site"))])
    }

    /// Waits until a line on a host gives what is expected.
    fn becomes(&self, host: &str, line: &str, expected: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let said = self.hosts.run(host, &format!("{line} 2>&1 || true"));
            if expected(&said) {
                return;
            }
            assert!(Instant::now() < deadline, "{host}: {line}: {said}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

/// The lines below `title` in what the quickstart prints at its end.
fn lines_below(text: &str, title: &str) -> Vec<String> {
    let lines = text.lines().skip_while(|line| *line != title).skip(1).take_while(|line| line.starts_with("  "));
    lines.map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned()).collect()
}

const KUBECTL: &str = "kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 5s";

#[test]
fn quickstart_brings_up_a_kubernetes_cluster_on_hosts_and_it_lives_through_a_lost_master() {
    let shape = ["--masters", "3", "--nodes", "1"];
    let quickstart = Quickstart::on_hosts(4);
    let said = quickstart.start(&shape);
    assert_says(&said, &["hello from h1", "hello from h2", "hello from h3", "hello from h4", "in all"]);
    for line in lines_below(&said, "Look around:").iter().filter(|line| !line.contains("testhost.sh")) {
        let shown = quickstart.types(line, "");
        assert!(!line.contains(" apply ") || shown.contains("0 changes"), "{line}: {shown}");
    }
    assert_says(&quickstart.start(&shape), &["hello from h4"]);

    // the first master, which everything was set up with, loses its power
    quickstart.hosts.stop("h1");
    quickstart.becomes("h2", &format!("{KUBECTL} get nodes"), |said| said.matches("Ready").count() >= 4);
    quickstart.becomes("h2", &format!("{KUBECTL} get --raw /readyz"), |said| said == "ok");
    quickstart.becomes("h4", "curl -sk --max-time 5 https://apiserver.cluster.local:6443/healthz", |said| said == "ok");
    for (number, address) in (1..).zip(quickstart.hosts.addresses()).skip(1) {
        quickstart
            .becomes(&format!("h{number}"), &format!("curl -s --max-time 3 http://{address}:30080/"), |said| said.contains("hello from"));
    }
    let pod = "run afterwards --image=none --restart=Never --dry-run=server -o name";
    quickstart.becomes("h3", &format!("{KUBECTL} {pod}"), |said| said.contains("pod/afterwards"));
    let status = quickstart.person.command("sealift").args(["status", "quickstart", "--pk"]).arg(quickstart.hosts.key()).output();
    let status = status.expect("sealift starts");
    assert_eq!(status.status.code(), Some(4), "{}", String::from_utf8_lossy(&status.stderr));

    // and is switched on again
    quickstart.hosts.start("h1");
    quickstart.becomes("h1", &format!("{KUBECTL} get --raw /readyz"), |said| said == "ok");
    for line in typed_in("Run") {
        let line = line.replace("sealift status", "sealift status quickstart");
        quickstart.types(&line, if line.contains(" reset ") { "y\n" } else { "" });
    }
    assert_eq!(quickstart.hosts.run("h2", "ls -d /etc/kubernetes /var/lib/etcd /var/lib/sealift 2>/dev/null || true"), "");
    quickstart.start(&["--down"]);
}
