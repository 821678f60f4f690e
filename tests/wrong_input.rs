//! Wrong input and a wrong world get a clear error: where, what, why and what to type next, with the documented exit code, and
//! nothing is left half done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::free_port;
use common::hosts::{Hosts, PASSWORD};
use common::images::{cluster_image, noise};
use common::registry::{DockerRegistry, Settings};
use common::sealift::{Ended, Sealift, assert_says};

const SHOP: &str = "docker.io/library/shop:1";

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn write(path: PathBuf, content: impl AsRef<[u8]>) -> String {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, content).unwrap();
    path.display().to_string()
}

/// Every file of the store with its size, and its names. Locks and places for downloads are made by looking.
fn contents(sealift: &Sealift) -> Vec<String> {
    let root = sealift.store_root();
    let mut found = vec![fs::read_to_string(root.join("index.json")).unwrap_or_default()];
    for dir in ["blobs/sha256", "ingest"] {
        for entry in fs::read_dir(root.join(dir)).into_iter().flatten() {
            let entry = entry.unwrap();
            found.push(format!("{dir}/{} {}", entry.file_name().display(), entry.metadata().unwrap().len()));
        }
    }
    found.sort();
    found
}

/// Asserts that it ended with this code, said these parts and what to do next, and left the store as it was.
fn refuses(sealift: &Sealift, code: i32, args: &[&str], says: &[&str]) -> String {
    sealift.store();
    let before = contents(sealift);
    let ended = sealift.run(args);
    assert_refused(ended, code, says, &format!("{args:?}"), sealift, &before)
}

fn assert_refused(ended: Ended, code: i32, says: &[&str], what: &str, sealift: &Sealift, before: &[String]) -> String {
    let said = ended.expect_code(code).stderr;
    assert_says(&said, says);
    assert!(said.contains("error: "), "{what}: no error line in:\n{said}");
    assert!(["hint: ", "help: ", "tip: ", "try '--help'"].iter().any(|next| said.contains(next)), "{what}: nothing to do next in:\n{said}");
    assert!(!said.contains("panicked"), "{what}: {said}");
    assert_eq!(contents(sealift), before, "{what}: the store changed");
    said
}

#[test]
fn a_kubefile_with_five_errors_shows_all_five_with_their_lines_and_builds_nothing() {
    let sealift = Sealift::new();
    let kubefile = "FROM scratch\nCOYP a b\nCOPY a\nAPP web web.yaml\nKUBEVERSION latest\nLAUNCH [\"wbe\"]\n";
    let context = sealift.home().join("context");
    write(context.join("Kubefile"), kubefile);
    let said = refuses(
        &sealift,
        2,
        &["build", "-t", "shop:1", text(&context)],
        &["5 errors", "did you mean `COPY`?", "a destination is missing", "did you mean `local://web.yaml`?", "Kubefile:2:1"],
    );
    for line in 2..=6 {
        assert_says(&said, &[&format!("Kubefile:{line}:")]);
    }
    assert_eq!(sealift.ok(&["images", "-q"]), "");
}

#[test]
fn an_image_that_is_nowhere_is_named_by_every_command() {
    let registry = DockerRegistry::start();
    let sealift = Sealift::new();
    let missing = registry.name("nope:1");
    let not_here = format!("no such image: {missing} (not in the store)");
    let archive = sealift.home().join("nope.tar");
    for args in [
        &["push", &missing][..],
        &["inspect", &missing],
        &["tag", &missing, "b:1"],
        &["rmi", &missing],
        &["save", "-o", text(&archive), &missing],
    ] {
        refuses(&sealift, 1, args, &[&not_here, "`sealift images`"]);
    }
    assert!(!archive.exists());
    let not_there = format!("no such image: {missing} (not in {}: 404)", registry.host());
    refuses(&sealift, 1, &["pull", &missing], &[&not_there, "check the spelling"]);
    refuses(&sealift, 1, &["run", &missing, "--masters", "127.0.0.1"], &[&not_there, "check the spelling"]);
    let context = sealift.home().join("context");
    write(context.join("Kubefile"), format!("FROM {missing}\n"));
    refuses(&sealift, 1, &["build", "-t", "shop:1", text(&context)], &[&not_there, "check the spelling"]);
}

#[test]
fn a_registry_that_is_not_reached_is_worth_a_retry() {
    let sealift = Sealift::new();
    let host = format!("127.0.0.1:{}", free_port());
    let name = format!("{host}/shop:1");
    let refused = format!("registry {host}: connection refused");
    refuses(&sealift, 7, &["pull", &name], &[&refused, "check the registry's name and port"]);
    refuses(&sealift, 7, &["run", &name, "--masters", "127.0.0.1"], &[&refused, &name, "check the registry's name and port"]);
    cluster_image(&sealift.store(), &name, 1, &[1000], &[]);
    refuses(&sealift, 7, &["push", &name], &[&refused, "check the registry's name and port"]);
}

#[test]
fn a_wrong_password_and_a_wrong_certificate_name_the_command_and_the_flag() {
    let registry = Settings::default().tls().user("ann", "secret").start();
    let (sealift, host, name) = (Sealift::new(), registry.host(), registry.name("shop:1"));
    let ca = registry.ca_file();
    cluster_image(&sealift.store(), &name, 1, &[1000], &[]);
    for verb in ["push", "pull"] {
        refuses(&sealift, 1, &[verb, &name], &[&host, "certificate is not trusted", "`--ca-file"]);
        refuses(&sealift, 1, &[verb, &name, "--ca-file", text(&ca)], &[&host, "401", &format!("sealift login {host}")]);
    }
    let before = contents(&sealift);
    let login = ["login", &host, "-u", "ann", "--password-stdin", "--ca-file", text(&ca)];
    assert_refused(sealift.run_with_stdin(&login, "wrong\n"), 1, &[&host, "ann", "(401)"], "login", &sealift, &before);
    assert!(!sealift.home().join(".docker/config.json").exists(), "a wrong password is not kept");
    let none = sealift.home().join("none.pem");
    refuses(&sealift, 2, &["push", &name, "--ca-file", text(&none)], &["none.pem"]);
}

const CLUSTERFILE: &str = "\
apiVersion: sealift.io/v1
kind: Cluster
metadata: {name: shop}
spec:
  image: shop:1
  envs: [A=1]
  ssh: {port: \"99999\", user: root}
  hosts:
    - {ips: [10.0.0.1], roles: [master]}
    - {ips: [10.0.0.2, 10.0.0.1], roles: [node]}
    - {ips: [10.0.0.300], roles: [node], taints: [\"x\"]}
";

#[test]
fn a_clusterfile_with_many_errors_and_an_address_twice_shows_all_before_any_host_is_touched() {
    let sealift = Sealift::new();
    let file = write(sealift.home().join("Clusterfile"), CLUSTERFILE);
    let places = ["6:3", "7:15", "10:24", "11:14", "11:51"].map(|place| format!("Clusterfile:{place}"));
    let mut says =
        vec!["unknown field `envs`", "`env`", "not a port", "duplicate address 10.0.0.1", "10.0.0.300", "taint `x` has no effect"];
    says.extend(places.iter().map(String::as_str));
    says.push("5 errors");
    for verb in ["run", "apply", "plan", "check", "reset", "status", "kubeconfig"] {
        refuses(&sealift, 2, &[verb, "-f", &file], &says);
    }
    for verb in ["run", "check"] {
        let none = format!("{file}.none");
        refuses(&sealift, 2, &[verb, "-f", &none], &[&none, "No such file"]);
    }
}

#[test]
fn unknown_commands_and_flags_are_reported_with_the_usage() {
    let sealift = Sealift::new();
    for (args, says) in [
        (&["biuld"][..], &["'biuld'", "'build'"][..]),
        (&["ls"], &["'ls'", "`sealift images`"]),
        (&["upgrade"], &["'upgrade'", "not there yet"]),
        (&["images", "--qiuet"], &["'--qiuet'", "'--quiet'", "Usage: sealift images"]),
        (&["build", "--tga", "a:1", "."], &["'--tga'", "Usage: sealift build"]),
        (&["push"], &["<NAME>", "Usage: sealift push"]),
        (&["images", "-o", "yaml"], &["'yaml'", "text", "json"]),
        (&["images", "--jobs", "0"], &["'0'", "--jobs"]),
    ] {
        refuses(&sealift, 2, args, says);
    }
    refuses(&sealift, 2, &["run", "shop:1", "--masters", "10.0.0.300"], &["command line: ", "10.0.0.300", "`sealift run --help`"]);
    refuses(&sealift, 2, &["inspect", "UPPER CASE"], &["UPPER CASE"]);
}

#[test]
fn a_wrong_command_line_is_an_error_object_where_json_is_requested() {
    let sealift = Sealift::new();
    for (args, message) in [
        (&["images", "--qiuet", "-o", "json"][..], "unexpected argument '--qiuet' found"),
        (&["-o=json", "biuld"], "unrecognized subcommand 'biuld'"),
        (&["push", "--output=json"], "the following required arguments were not provided: <NAME>"),
    ] {
        let stderr = sealift.fails(2, args);
        let error: serde_json::Value = serde_json::from_str(&stderr).unwrap_or_else(|error| panic!("{args:?}: {error}: {stderr}"));
        let error = &error["error"];
        assert_eq!((&error["kind"], &error["code"], &error["message"]), (&"usage".into(), &2.into(), &message.into()));
        assert!(error["hints"].as_array().is_some_and(|hints| !hints.is_empty()), "{error}");
    }
}

#[test]
fn broken_archives_are_named_and_leave_nothing_that_is_offered() {
    let one = Sealift::new();
    cluster_image(&one.store(), SHOP, 1, &[300_000], &["docker.io/library/nginx:1"]);
    let archive = one.home().join("shop.tar");
    one.ok(&["save", "-o", text(&archive), "shop:1"]);
    let bytes = fs::read(&archive).unwrap();
    let mut flipped = bytes.clone();
    let layer = one.store_root().join("blobs/sha256").read_dir().unwrap().map(|blob| fs::read(blob.unwrap().path()).unwrap());
    let layer = layer.max_by_key(Vec::len).unwrap();
    let begin = bytes.windows(64).position(|window| window == &layer[..64]).unwrap();
    flipped[begin + layer.len() / 2] ^= 1;
    for (case, content, code, says) in [
        ("cut off", bytes[..bytes.len() / 2].to_vec(), 6, "truncated"),
        ("one byte is another", flipped, 6, "blob sha256:"),
        ("no tar", noise(1, 5000), 6, "not a tar archive"),
    ] {
        let other = Sealift::new();
        let file = write(other.home().join("broken.tar"), content);
        let said = other.fails(code, &["load", "-i", &file]);
        assert_says(&said, &["error: ", "broken.tar", says, "hint: "]);
        assert_eq!(other.ok(&["images", "-q"]), "", "{case}: nothing is offered");
        other.ok(&["fsck"]);
        other.ok(&["load", "-i", text(&archive)]);
        other.ok(&["fsck"]);
    }
}

#[test]
fn a_broken_blob_in_the_store_is_named_by_whoever_meets_it() {
    let registry = DockerRegistry::start();
    let (sealift, name) = (Sealift::new(), registry.name("shop:1"));
    let root = cluster_image(&sealift.store(), &name, 1, &[300_000], &[]).digest().to_string();
    let blobs = sealift.store_root().join("blobs/sha256");
    let largest = blobs.read_dir().unwrap().map(|blob| blob.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let archive = sealift.home().join("shop.tar");
    for (path, commands) in [
        (largest.clone(), vec![vec!["push", &name], vec!["save", "-o", text(&archive), &name]]),
        (
            blobs.join(&root["sha256:".len()..]),
            vec![vec!["inspect", &name], vec!["push", &name], vec!["save", "-o", text(&archive), &name]],
        ),
    ] {
        let whole = fs::read(&path).unwrap();
        let mut broken = whole.clone();
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        replace(&path, &broken);
        let digest = format!("sha256:{}", path.file_name().unwrap().display());
        for args in &commands {
            refuses(&sealift, 6, args, &[&format!("blob {digest} is damaged"), "hint: "]);
        }
        assert!(!archive.exists(), "half an archive");
        assert_says(&sealift.run(&["fsck"]).expect_code(6).stdout, &[&digest, &name]);
        replace(&path, &whole);
    }
    sealift.fails(1, &["pull", &name]); // none of it was offered by the registry
    sealift.ok(&["push", &name]);
}

/// Blobs are read-only files.
fn replace(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// What must stay on a host where nothing may happen.
const SNAPSHOT: &str = "find /etc /usr /opt -xdev -printf '%p %y %m %l\\n' | sort | sha256sum; find /etc -xdev -type f -exec sha256sum {} + | sort; \
    systemctl list-unit-files --no-legend; cat /proc/sys/net/ipv4/ip_forward; ls /var/lib/sealift/rootfs /var/lib/sealift/state 2>&1; swapon --show";

/// A host and an image of runtime `none` for it, with 24 MiB of data.
struct Site {
    hosts: Hosts,
    sealift: Sealift,
}

impl Site {
    fn new() -> Self {
        let sealift = Sealift::new();
        let context = sealift.home().join("context");
        let kubefile = "FROM scratch\nLABEL cluster.alpha.sealer.io/cluster-runtime-type=none\nCOPY data data\nCOPY scripts scripts\n";
        write(context.join("Kubefile"), kubefile);
        write(context.join("data"), noise(7, 24 << 20));
        for (script, line) in [
            ("install", "mkdir -p /opt/tiny && touch /opt/tiny/installed"),
            ("check", "test -e /opt/tiny/installed"),
            ("verify", "test -e /opt/tiny/installed"),
            ("uninstall", "rm -rf /opt/tiny"),
        ] {
            write(context.join(format!("scripts/{script}.sh")), format!("#!/bin/sh\n{line}\n"));
        }
        sealift.ok(&["build", "-t", "tiny:1", text(&context)]);
        Site { hosts: Hosts::up(1), sealift }
    }

    fn address(&self) -> String {
        self.hosts.addresses()[0].to_string()
    }

    /// `sealift run` refuses, and neither host nor store have changed.
    fn refuses(&self, code: i32, more: &[&str], says: &[&str]) -> String {
        let (address, key) = (self.address(), self.hosts.key());
        let pk = if more.contains(&"--passwd") { &[][..] } else { &["--pk", text(&key)] };
        let usual = [&["--masters", address.as_str(), "--name", "tiny"], pk].concat();
        let args = [&["run", "tiny:1"], &usual[..], more].concat();
        let mut all = vec![address.as_str()];
        all.extend(says);
        refuses(&self.sealift, code, &args, &all)
    }

    fn snapshot(&self) -> String {
        self.hosts.run("h1", &format!("{SNAPSHOT}; true"))
    }
}

#[test]
fn a_host_that_is_not_reached_or_does_not_let_in_is_named_and_stays_as_it_is() {
    let site = Site::new();
    let before = site.snapshot();
    site.refuses(7, &["--port", "2"], &[":2: connection refused", "--port"]);
    let said = site.refuses(1, &["--passwd", "wrong"], &["root@", "permission denied", "check the user and its password"]);
    assert!(!said.contains(PASSWORD), "{said}");

    let known = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    let known = write(site.sealift.home().join("known"), format!("{} ssh-ed25519 {known}\n", site.address()));
    site.refuses(6, &["--known-hosts", &known], &["host key changed", "known line 1", "ssh-keygen -f"]);
    assert_eq!(site.snapshot(), before, "the host changed");

    site.hosts.stop("h1");
    site.refuses(7, &[], &[":22: ", "hint: "]);
    let nobody = site.address().replace(".11", ".99");
    refuses(&site.sealift, 7, &["run", "tiny:1", "--masters", &nobody], &[&nobody, "unreachable", "the host is up"]);
    site.hosts.start("h1");
    assert_eq!(site.snapshot(), before, "the host changed");
}

#[test]
fn a_host_without_room_is_refused_before_anything_is_changed() {
    let site = Site::new();
    let agent = fs::metadata(env!("CARGO_BIN_EXE_sealift")).unwrap().len();
    let before = site.snapshot();
    for (case, size, code, says) in [
        ("no room for the agent", 1 << 20, 1, &["No space left on device"][..]),
        (
            "no room for the image",
            agent + (12 << 20),
            3,
            &["DiskSpace", "MiB free below /var/lib/sealift", "MiB needed", "free disk space"],
        ),
    ] {
        site.hosts.run("h1", &format!("mkdir -p /var/lib/sealift && mount -t tmpfs -o size={size} tmpfs /var/lib/sealift"));
        let said = site.refuses(code, &[], says);
        assert!(!said.contains("up on"), "{case}: {said}");
        assert_eq!(site.snapshot(), before, "{case}: the host changed");
        site.hosts.run("h1", "umount -l /var/lib/sealift");
    }
    // the disk fills although there seemed to be room; with room the same command goes on
    let size = agent + (12 << 20);
    site.hosts.run("h1", &format!("mount -t tmpfs -o size={size} tmpfs /var/lib/sealift"));
    site.refuses(1, &["--ignore", "DiskSpace"], &["No space left on device"]);
    assert!(!site.hosts.succeeds("h1", "test -e /opt/tiny"), "the scripts did not run");
    site.hosts.run("h1", "mount -o remount,size=1g /var/lib/sealift");
    let (address, key) = (site.address(), site.hosts.key());
    site.sealift.ok(&["run", "tiny:1", "--masters", &address, "--name", "tiny", "--pk", text(&key)]);
    assert!(site.hosts.succeeds("h1", "test -e /opt/tiny/installed"));
}
