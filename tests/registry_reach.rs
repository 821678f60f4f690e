//! Connecting to registries: credentials of docker and podman, certificates, proxies.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use common::images::cluster_image;
use common::registry::{DockerRegistry, Settings};
use common::sealift::{Sealift, assert_says};
use serde_json::json;

/// Runs it; whether it succeeded, and what it said.
fn run(mut command: Command) -> (bool, String) {
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn auths(host: &str, password: &str) -> String {
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("ann:{password}"));
    json!({"auths": {host: {"auth": auth}}}).to_string()
}

#[test]
fn credentials_are_read_in_the_documented_order() {
    let registry = Settings::default().user("ann", "secret").start();
    let here = Sealift::new();
    let name = registry.name("shop:1");
    cluster_image(&here.store(), &name, 41, &[1000], &[]);
    let file =
        |rank: usize| here.home().join(format!("{rank}")).join(["auth.json", "auth.json", "containers/auth.json", "config.json"][rank]);
    for right in 0..4 {
        for rank in 0..4 {
            std::fs::remove_dir_all(here.home().join(format!("{rank}"))).ok();
            if rank >= right {
                write(&file(rank), &auths(&registry.host(), if rank == right { "secret" } else { "wrong" }));
            }
        }
        let authfile = file(0).display().to_string();
        let mut command = here.command(&[vec!["push", &name], if right == 0 { vec!["--authfile", &authfile] } else { vec![] }].concat());
        if right <= 1 {
            command.env("REGISTRY_AUTH_FILE", file(1));
        }
        command.env("XDG_RUNTIME_DIR", here.home().join("2")).env("DOCKER_CONFIG", here.home().join("3"));
        let (pushed, said) = run(command);
        assert!(pushed, "{right}: {said}");
    }
    // and last where docker keeps it at home
    write(&here.home().join(".docker/config.json"), &auths(&registry.host(), "secret"));
    here.ok(&["push", &name]);
}

#[test]
fn credential_helpers_are_read_and_login_writes_to_them() {
    let registry = Settings::default().user("ann", "secret").start();
    let here = Sealift::new();
    let name = registry.name("shop:1");
    cluster_image(&here.store(), &name, 42, &[1000], &[]);
    let helper = here.home().join("bin/docker-credential-drawer");
    let script = format!(
        "#!/bin/sh\ncase $1 in\nget) read host; cat {0}/drawer 2>/dev/null || {{ echo 'credentials not found in native keychain'; exit 1; }} ;;\n\
         store) cat > {0}/drawer ;;\nerase) rm -f {0}/drawer ;;\nesac\n",
        here.home().display()
    );
    write(&helper, &script);
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    write(
        &here.home().join(".docker/config.json"),
        &json!({"credsStore": "drawer", "auths": {registry.host(): {"auth": "YW5uOm9sZA=="}}}).to_string(),
    );
    let path = format!("{}:{}", helper.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let command = |args: &[&str]| {
        let mut command = here.command(args);
        command.env("PATH", &path);
        command
    };
    let (pushed, said) = run(command(&["push", &name]));
    assert!(!pushed && said.contains("401"), "{said}");
    write(&here.home().join("password"), "secret");
    let mut login = command(&["login", &registry.host(), "-u", "ann", "--password-stdin"]);
    login.stdin(std::fs::File::open(here.home().join("password")).unwrap());
    assert!(run(login).0);
    let config = std::fs::read_to_string(here.home().join(".docker/config.json")).unwrap();
    assert!(!config.contains("YW5u"), "the helper has it, and the old entry is gone: {config}");
    let (pushed, said) = run(command(&["push", &name]));
    assert!(pushed, "{said}");
    assert!(run(command(&["logout", &registry.host()])).0);
    assert!(!here.home().join("drawer").exists());
    // a helper that is not there is named
    write(&here.home().join(".docker/config.json"), &json!({"credsStore": "nowhere"}).to_string());
    let (pushed, said) = run(command(&["push", &name]));
    assert!(!pushed, "{said}");
    assert_says(&said, &["nowhere"]);
}

#[test]
fn a_client_certificate_is_sent_to_registries_that_require_one() {
    let registry = Settings::default().client_certificates().start();
    let here = Sealift::new();
    let name = registry.name("shop:1");
    let digest = cluster_image(&here.store(), &name, 43, &[1_500_000], &[]).digest().to_string();
    let (ca, dir) = (registry.ca_file().display().to_string(), registry.client_dir().display().to_string());
    let refused = here.run(&["push", &name, "--ca-file", &ca]);
    assert_ne!(refused.code, 0);
    assert_says(&refused.stderr, &["requires a client certificate", "--cert-dir"]);
    assert_eq!(here.ok(&["push", &name, "--cert-dir", &dir]).trim(), digest);
    // found by itself where podman keeps it
    let certs_d = here.home().join(".config/containers/certs.d");
    std::fs::create_dir_all(&certs_d).unwrap();
    std::os::unix::fs::symlink(registry.client_dir(), certs_d.join(registry.host())).unwrap();
    assert_eq!(here.ok(&["push", &name]).trim(), digest);
}

/// A proxy that makes tunnels (`CONNECT`) to one place, whatever is asked for; how many it has made.
fn tunnels_to(host: &str) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (made, host) = (Arc::new(AtomicUsize::new(0)), host.to_owned());
    let count = made.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut reader = BufReader::new(client.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {}
            if !line.starts_with("CONNECT registry.invalid:443 ") {
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            let Ok(server) = TcpStream::connect(&host) else { continue };
            let mut answer = client.try_clone().unwrap();
            answer.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
            let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (mut from_server, mut to_client) = (server, client);
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
        }
    });
    (address, made)
}

#[test]
fn proxies_of_the_environment_are_used_except_for_no_proxy() {
    let (plain, tls) = (DockerRegistry::start(), Settings::default().tls().start());
    let here = Sealift::new();
    cluster_image(&here.store(), "shop:1", 44, &[1_500_000], &[]);
    // the plain registry is its own proxy: it answers absolute request targets too
    let push = |args: &[&str], environment: &[(&str, &str)]| {
        let mut command = here.command(&[&["push", "shop:1"], args].concat());
        run({
            command.envs(environment.iter().copied());
            command
        })
    };
    let (host, (tunnels, made)) = (format!("http://{}", plain.host()), tunnels_to(&tls.host()));
    let tunnels = format!("http://{tunnels}");
    let to_plain = ["registry.invalid:80/a:1", "--plain-http"];
    let to_tls = ["registry.invalid/a:1", "--insecure-skip-tls-verify"];
    for (args, environment, good) in [
        (&to_plain, vec![("HTTP_PROXY", host.as_str())], true),
        (&to_plain, vec![("http_proxy", host.as_str()), ("NO_PROXY", "other.invalid")], true),
        (&to_plain, vec![("HTTP_PROXY", host.as_str()), ("NO_PROXY", "registry.invalid")], false),
        (&to_plain, vec![], false),
        (&to_tls, vec![("HTTPS_PROXY", tunnels.as_str())], true),
        (&to_tls, vec![("HTTPS_PROXY", tunnels.as_str()), ("NO_PROXY", ".invalid")], false),
    ] {
        let (pushed, said) = push(args, &environment);
        assert_eq!(pushed, good, "{args:?} {environment:?}: {said}");
    }
    assert!(made.load(Ordering::SeqCst) >= 1);
    // loopback needs no proxy
    let direct = plain.name("b:1");
    let (pushed, said) = push(&[&direct], &[("HTTP_PROXY", "http://127.0.0.1:1"), ("HTTPS_PROXY", "http://127.0.0.1:1")]);
    assert!(pushed, "{said}");
}
