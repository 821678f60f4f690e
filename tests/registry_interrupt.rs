//! Killed transfers are resumed, and damaged blobs are detected and named.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::Duration;

use common::images::cluster_image;
use common::proxy::Proxy;
use common::registry::DockerRegistry;
use common::sealift::{Sealift, assert_says};
use common::serve::Serve;
use common::wait_until;
use sealift::image::{Blob, Content, content_of};

const MB: usize = 1_000_000;

/// Starts sealift and kills it when `when` says so; whether it was still running.
fn kill_when(who: &Sealift, args: &[&str], when: impl FnMut() -> bool) -> bool {
    let mut when = when;
    let mut child = who.command(args).spawn().expect("sealift starts");
    wait_until("the moment to kill", || when() || child.try_wait().expect("it is a child").is_some());
    let running = child.try_wait().expect("it is a child").is_none();
    child.kill().ok();
    child.wait().expect("it ends");
    running
}

#[test]
fn a_pull_killed_repeatedly_fetches_nothing_twice() {
    let registry = DockerRegistry::start();
    let here = Sealift::new();
    let layers = [9 * MB, 7 * MB, 5 * MB, 3 * MB];
    let digest = cluster_image(&here.store(), &registry.name("shop:1"), 11, &layers, &[]).digest().to_string();
    here.ok(&["push", &registry.name("shop:1")]);

    let (there, proxy) = (Sealift::new(), Proxy::to(&registry.host()));
    proxy.slow_down(Duration::from_millis(4));
    let name = proxy.name("shop:1");
    let mut kills = 0;
    for moment in [1, 4, 5, 10, 14, 19] {
        let threshold = (moment * MB) as u64;
        kills += u64::from(kill_when(&there, &["pull", &name], || proxy.down() > threshold));
    }
    assert!(kills >= 4, "{kills} kills");
    assert_eq!(there.ok(&["pull", &name]).trim(), digest);
    let (fetched, size) = (proxy.down(), layers.iter().sum::<usize>() as u64);
    // each kill may lose what four connections had under way
    assert!(fetched < size + (kills + 1) * MB as u64 * 3 / 2, "{fetched} bytes for {size} after {kills} kills");
    // and the result is whole: it can be pushed elsewhere
    there.ok(&["push", &name, &registry.name("other:1")]);
}

#[test]
fn a_push_killed_repeatedly_sends_no_finished_blob_twice() {
    let registry = DockerRegistry::start();
    let proxy = Proxy::to(&registry.host());
    proxy.slow_down(Duration::from_millis(4));
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = proxy.name("shop:1");
    let layers = [2 * MB; 12];
    let digest = cluster_image(&here.store(), &name, 12, &layers, &[]).digest().to_string();
    let mut kills = 0;
    for moment in [1, 5, 9, 14, 20] {
        let threshold = (moment * MB) as u64;
        kills += u64::from(kill_when(&here, &["push", &name], || proxy.up() > threshold));
    }
    assert!(kills >= 4, "{kills} kills");
    assert_eq!(here.ok(&["push", &name]).trim(), digest);
    let (sent, size) = (proxy.up(), layers.iter().sum::<usize>() as u64);
    // docker-registry 2.8 forgets the upload whose connection broke: at most the four blobs under way are sent again
    assert!(sent < size + kills * 4 * 2 * MB as u64 + MB as u64, "{sent} bytes for {size} after {kills} kills");
    assert_eq!(there.ok(&["pull", &registry.name("shop:1")]).trim(), digest);
}

/// Kills a transfer of 64 MB at six random moments, then lets it end; its answer, and the bytes beyond the image's for each kill.
fn kill_repeatedly(who: &Sealift, args: &[&str], moved: impl Fn() -> u64) -> (String, u64) {
    let mut moments: Vec<u64> = (0..6).map(|_| rand::random_range(0..64 * MB as u64)).collect();
    moments.sort();
    let kills = moments.iter().filter(|moment| kill_when(who, args, || moved() > **moment)).count() as u64;
    assert!(kills >= 2, "{kills} kills at {moments:?}");
    let answer = who.ok(args).trim().to_owned();
    (answer, moved().saturating_sub(65 * MB as u64) / kills)
}

#[test]
fn pushes_and_pulls_killed_at_random_moments_lose_at_most_a_chunk_each_time() {
    let (site, here, there) = (Sealift::new(), Sealift::new(), Sealift::new());
    site.store();
    let serve = Serve::start(&site, &["--writable"]);
    let proxy = Proxy::to(&serve.host());
    proxy.slow_down(Duration::from_millis(1));
    let name = proxy.name("shop:1");
    let digest = cluster_image(&here.store(), &name, 19, &[30 * MB, 20 * MB, 14 * MB], &[]).digest().to_string();
    for (verb, who, moved) in [("push", &here, Proxy::up as fn(&Proxy) -> u64), ("pull", &there, Proxy::down)] {
        let before = moved(&proxy);
        let (answer, extra) = kill_repeatedly(who, &[verb, &name], || moved(&proxy) - before);
        assert_eq!(answer, digest, "{verb}");
        assert!(extra <= 8 << 20, "{verb}: {extra} bytes more than needed for each kill");
        assert_eq!(std::fs::read_dir(who.store_root().join("ingest")).unwrap().count(), 0, "{verb}: nothing is left to go on with");
    }
    there.ok(&["fsck"]);
}

#[test]
fn an_upload_resumes_after_the_registry_was_killed() {
    let (site, here) = (Sealift::new(), Sealift::new());
    site.store();
    let first = Serve::start(&site, &["--writable"]);
    let proxy = Proxy::to(&first.host());
    proxy.slow_down(Duration::from_millis(4));
    let name = proxy.name("shop:1");
    let digest = cluster_image(&here.store(), &name, 20, &[20 * MB], &[]).digest().to_string();
    assert!(kill_when(&here, &["push", &name], || proxy.up() > 12 * MB as u64));
    let listen = first.host();
    drop(first);
    let _second = Serve::start_at(&site, &listen, &["--writable"]);
    assert_eq!(here.ok(&["push", &name]).trim(), digest);
    assert!(proxy.up() < 24 * MB as u64, "{} bytes for 20000000", proxy.up());
}

/// The largest blob of the image's first manifest.
fn largest_blob(who: &Sealift, name: &str) -> Blob {
    let store = who.store();
    let root = store.resolve(&name.parse().unwrap()).unwrap().unwrap();
    let read = |descriptor: &oci_spec::image::Descriptor| {
        content_of(descriptor.media_type(), &store.read(&descriptor.try_into().unwrap()).unwrap()).unwrap()
    };
    let Content::Index(index) = read(&root) else { panic!("not an index") };
    let Content::Manifest(manifest) = read(&index.manifests()[0]) else { panic!("not a manifest") };
    let largest = manifest.layers().iter().max_by_key(|layer| layer.size()).unwrap();
    Blob::try_from(largest).unwrap()
}

#[test]
fn a_damaged_blob_in_the_registry_is_reported() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = registry.name("shop:1");
    cluster_image(&here.store(), &name, 13, &[MB, 1000], &[]);
    here.ok(&["push", &name]);
    let blob = largest_blob(&here, &name);
    let file = registry.blob_file(&blob.digest.to_string());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[500_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let said = there.fails(6, &["pull", &name]);
    assert_says(&said, &[&format!("blob {} from {}/shop is damaged", blob.digest, registry.host()), "trying again", "hint:"]);
    assert!(there.store().refs().unwrap().is_empty(), "an image that is not whole has no name");
    assert!(!there.store().has(&blob));
}

#[test]
fn a_byte_changed_in_transit_is_detected_and_fetched_again() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let digest = cluster_image(&here.store(), &registry.name("shop:1"), 14, &[4 * MB], &[]).digest().to_string();
    here.ok(&["push", &registry.name("shop:1")]);
    let blob = largest_blob(&here, &registry.name("shop:1"));
    let proxy = Proxy::to(&registry.host());
    proxy.flip_at(2_000_000);
    let ended = there.run(&["pull", &proxy.name("shop:1")]).expect_code(0);
    assert_eq!(ended.stdout.trim(), digest);
    assert_says(&ended.stderr, &[&format!("blob {} from {}/shop is damaged", blob.digest, proxy.host()), "trying again"]);
}

#[test]
fn a_closed_connection_is_resumed() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let digest = cluster_image(&here.store(), &registry.name("shop:1"), 15, &[6 * MB], &[]).digest().to_string();
    here.ok(&["push", &registry.name("shop:1")]);
    let proxy = Proxy::to(&registry.host());
    proxy.cut_at(4_000_000);
    assert_eq!(there.ok(&["pull", &proxy.name("shop:1")]).trim(), digest);
    assert!(proxy.down() < 7_000_000, "{} bytes for 6000000", proxy.down());
}

#[test]
fn a_damaged_blob_in_the_store_is_not_pushed() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = registry.name("shop:1");
    cluster_image(&here.store(), &name, 16, &[3 * MB], &[]);
    let blob = largest_blob(&here, &name);
    let file = here.store_root().join("blobs/sha256").join(blob.digest.hex());
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[2_000_000] ^= 1;
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, bytes).unwrap();
    let said = here.fails(6, &["push", &name]);
    assert_says(&said, &[&blob.digest.to_string(), "hint:"]);
    assert!(!registry.blob_file(&blob.digest.to_string()).exists());
    assert_says(&there.fails(1, &["pull", &name]), &["no such image:", "404"]);
}

#[test]
fn unreachable_registries_and_missing_images_give_a_hint() {
    let here = Sealift::new();
    let registry = DockerRegistry::start();
    let closed = format!("127.0.0.1:{}/shop:1", common::free_port());
    let missing = registry.name("shop:1");
    let https_only = format!("https-host.invalid:{}/shop:1", 5000);
    for (code, args, parts) in [
        (7, vec!["pull", closed.as_str()], vec!["connection refused", "hint: check the registry's name and port"]),
        (7, vec!["pull", https_only.as_str()], vec!["https-host.invalid:5000"]),
        (1, vec!["pull", missing.as_str()], vec!["no such image: ", "404"]),
        (1, vec!["push", "nothing:1"], vec!["no such image: nothing:1 (not in the store)", "sealift images"]),
        (2, vec!["pull", "UPPER:1"], vec!["UPPER:1"]),
    ] {
        assert_says(&here.fails(code, &args), &parts);
    }
}

#[test]
fn a_mirror_is_used_instead_of_the_registry() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let digest = cluster_image(&here.store(), "shop:1", 17, &[1000], &[]).digest().to_string();
    here.ok(&["push", "shop:1", &registry.name("library/shop:1")]);
    let mirror = format!("docker.io={}", registry.host());
    assert_eq!(there.ok(&["pull", "shop:1", "--mirror", &mirror]).trim(), digest);
    assert!(there.store().resolve(&"docker.io/library/shop:1".parse().unwrap()).unwrap().is_some());
}

#[test]
fn a_pull_without_disk_space_is_refused_before_it_starts() {
    let registry = DockerRegistry::start();
    let (here, there) = (Sealift::new(), Sealift::new());
    let name = registry.name("shop:1");
    cluster_image(&here.store(), &name, 18, &[5 * MB], &[]);
    here.ok(&["push", &name]);
    let small = there.home().join("small");
    std::fs::create_dir(&small).unwrap();
    // a filesystem of its own in a mount namespace of its own: gone with the process
    let script = r#"mount -t tmpfs -o size=2m small "$1" && exec "$2" --store "$1/store" pull "$3""#;
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .args([small.to_str().unwrap(), env!("CARGO_BIN_EXE_sealift"), &name])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_says(&said, &["not enough disk space in", "MiB to pull", "sealift prune"]);
}
