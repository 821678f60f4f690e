//! The local registry serves the images of the store to the clients that hosts run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::images::{cluster_image, noise, put};
use common::registry::write_certificates;
use common::sealift::{Sealift, assert_says};
use common::serve::Serve;
use common::{run, wait_until};
use oci_spec::image::MediaType;
use sealift::image::Blob;

const WORKLOADS: &[&str] = &["docker.io/library/nginx:1.25", "quay.io/team/proxy:2", "docker.io/team/proxy:2"];

/// A container image out of the site's registry, copied by skopeo; its manifest's text.
fn skopeo_copy(who: &Sealift, name: &str, more: &[&str]) -> String {
    let dir = who.home().join("copied");
    let (from, to) = (format!("docker://{name}"), format!("dir:{}", dir.display()));
    run("skopeo", &[&["copy", "--override-arch", "amd64", "--src-tls-verify=false"], more, &[&from, &to]].concat());
    std::fs::read_to_string(dir.join("manifest.json")).unwrap()
}

#[test]
fn skopeo_copies_container_images_out_of_a_cluster_image() {
    let site = Sealift::new();
    cluster_image(&site.store(), "registry.example.com/shop:1", 21, &[1000], WORKLOADS);
    let mut serve = Serve::start(&site, &[]);
    let host = serve.host();
    for name in ["docker.io/library/nginx:1.25", "library/nginx:1.25", "quay.io/team/proxy:2", "docker.io/team/proxy:2"] {
        let manifest = skopeo_copy(&site, &format!("{host}/{name}"), &[]);
        assert_says(&manifest, &["application/vnd.oci.image.layer.v1.tar+gzip"]);
    }
    // two registries have a team/proxy:2: neither is guessed
    let ended = Command::new("skopeo").args(["inspect", "--tls-verify=false", &format!("docker://{host}/team/proxy:2")]).output().unwrap();
    assert!(!ended.status.success());
    let log = std::fs::read_to_string(site.home().join("serve.log")).unwrap();
    assert_says(&log, &["docker.io/team/proxy:2 or quay.io/team/proxy:2"]);
    assert_eq!(serve.stop(), Some(0), "SIGTERM ends it well");
}

#[test]
fn images_tagged_while_it_runs_are_served() {
    let site = Sealift::new();
    site.store();
    let serve = Serve::start(&site, &[]);
    let name = format!("{}/docker.io/library/nginx:1.25", serve.host());
    let ask = || Command::new("skopeo").args(["inspect", "--raw", "--tls-verify=false", &format!("docker://{name}")]).output().unwrap();
    assert!(!ask().status.success());
    cluster_image(&site.store(), "shop:1", 22, &[1000], WORKLOADS);
    assert!(ask().status.success());
    site.store().untag(&"shop:1".parse().unwrap()).unwrap();
    assert!(!ask().status.success());
}

#[test]
fn tls_and_users_are_required_and_sealift_pulls_from_it() {
    let (site, there) = (Sealift::new(), Sealift::new());
    let digest = cluster_image(&site.store(), "shop:1", 23, &[3_000_000], WORKLOADS).digest().to_string();
    write_certificates(site.home(), &["127.0.0.1", "localhost"]);
    let file = |name: &str| site.home().join(name).display().to_string();
    std::fs::write(file("htpasswd"), format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let (cert, key, users, ca) = (file("cert.pem"), file("key.pem"), file("htpasswd"), file("ca.pem"));
    let serve = Serve::start(&site, &["--tls-cert", &cert, "--tls-key", &key, "--htpasswd", &users]);
    let name = format!("{}/library/shop:1", serve.host());
    assert_says(&there.fails(1, &["pull", &name]), &["not trusted"]);
    assert_says(&there.fails(1, &["pull", &name, "--ca-file", &ca]), &["401", "sealift login"]);
    there.run_with_stdin(&["login", &serve.host(), "-u", "ann", "--password-stdin", "--ca-file", &ca], "secret").expect_code(0);
    assert_eq!(there.ok(&["pull", &name, "--ca-file", &ca]).trim(), digest);
}

#[test]
fn blobs_ranges_and_errors_follow_the_specification() {
    let site = Sealift::new();
    let bytes = noise(1, 1_000_000);
    let digest = put(&site.store(), MediaType::ImageLayer, &bytes).digest().to_string();
    cluster_image(&site.store(), "shop:1", 24, &[10], WORKLOADS);
    let serve = Serve::start(&site, &[]);
    let base = format!("http://{}/v2", serve.host());
    let blob = format!("{base}/any/blobs/{digest}");
    let curl = |args: &[&str]| Command::new("curl").args(["-s"]).args(args).output().unwrap().stdout;
    let head = |args: &[&str]| String::from_utf8_lossy(&curl(&[&["-i", "--max-time", "10"], args].concat())).to_lowercase();
    assert!(curl(&[&blob]) == bytes);
    assert!(curl(&["-H", "Range: bytes=100-199", &blob]) == bytes[100..200]);
    assert!(curl(&["-H", "Range: bytes=999990-", &blob]) == bytes[999_990..]);
    let tags = format!("{base}/library/nginx/tags/list?ns=docker.io");
    for (args, parts) in [
        (vec!["-I", &*blob], vec!["200 ok", "content-length: 1000000", "docker-content-digest: sha256:"]),
        (vec!["-I", "-H", "Range: bytes=5-9", &*blob], vec!["206", "content-range: bytes 5-9/1000000"]),
        (vec!["-H", "Range: bytes=1000000-", &*blob], vec!["416", "bytes */1000000"]),
        (vec![&*tags], vec!["200", r#"{"name":"library/nginx","tags":["1.25"]}"#]),
    ] {
        assert_says(&head(&args), &parts);
    }
    for (path, parts) in [
        ("/", vec!["200 ok", "registry/2.0"]),
        ("/x/manifests/1", vec!["404", "manifest_unknown"]),
        ("/x/manifests/sha256:12", vec!["400", "digest_invalid"]),
        ("/x/tags/list", vec!["404", "name_unknown"]),
        ("/x/what", vec!["404"]),
        (
            "/library/nginx/referrers/sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            vec!["200", "application/vnd.oci.image.index.v1+json", r#""manifests":[]"#],
        ),
        ("/_catalog", vec!["docker.io/library/nginx", "quay.io/team/proxy"]),
    ] {
        assert_says(&head(&[&format!("{base}{path}")]), &parts);
    }
    assert_says(&head(&["-X", "POST", &format!("{base}/x/blobs/uploads/")]), &["405", "unsupported"]);
}

#[test]
fn images_pushed_by_skopeo_and_sealift_with_tokens_come_back_unchanged() {
    let (site, here, there) = (Sealift::new(), Sealift::new(), Sealift::new());
    site.store();
    let users = site.home().join("htpasswd").display().to_string();
    std::fs::write(&users, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let serve = Serve::start(&site, &["--writable", "--htpasswd", &users, "--tokens", "--anonymous-pull"]);
    let name = format!("{}/team/shop:1", serve.host());
    let digest = cluster_image(&here.store(), &name, 26, &[3_000_000, 10], WORKLOADS).digest().to_string();
    assert_says(&here.fails(1, &["push", &name]), &["401", "sealift login"]);
    assert_says(
        &here.run_with_stdin(&["login", &serve.host(), "-u", "ann", "--password-stdin"], "wrong").expect_code(1).stderr,
        &["(401)"],
    );
    here.run_with_stdin(&["login", &serve.host(), "-u", "ann", "--password-stdin"], "secret").expect_code(0);
    assert_eq!(here.ok(&["push", &name]).trim(), digest);
    assert_eq!(there.ok(&["pull", &name]).trim(), digest, "anybody may pull");
    assert_eq!(here.json(&["push", &name])["movedBytes"], 0);
    // named in the site's store under the registry's own name
    assert_eq!(site.json(&["images"])[0]["name"], "sea.hub:5000/team/shop:1");

    let copy = format!("docker://{}/copied/shop:1", serve.host());
    let (from, tls) = (format!("docker://{name}"), ["--src-tls-verify=false", "--dest-tls-verify=false"]);
    run("skopeo", &[&["copy", "--all", "--dest-creds", "ann:secret"], &tls[..], &[&from, &copy]].concat());
    run("skopeo", &["inspect", "--tls-verify=false", "--no-creds", &copy]);
    let refused = Command::new("skopeo").args(["copy", "--all"]).args(tls).args([&from, &copy.replace(":1", ":2")]).output().unwrap();
    assert!(!refused.status.success(), "nobody but a user pushes");
    assert_eq!(site.ok(&["fsck"]).lines().filter(|line| line.contains("broken")).count(), 0);
}

/// A containerd of the test's own; it ends when dropped.
struct Containerd(Child);

impl Drop for Containerd {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn containerd(dir: &Path) -> Containerd {
    let config = dir.join("containerd.toml");
    let text = format!(
        "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{0}/sock\"\n[ttrpc]\naddress = \"{0}/sock.ttrpc\"\n",
        dir.display()
    );
    std::fs::write(&config, text).unwrap();
    let log = std::fs::File::create(dir.join("containerd.log")).unwrap();
    let child =
        Command::new("containerd").arg("--config").arg(&config).stdout(Stdio::null()).stderr(log).spawn().expect("containerd is installed");
    let running = Containerd(child);
    wait_until("containerd answers", || dir.join("sock").exists());
    running
}

#[test]
fn containerd_pulls_images_under_their_original_names() {
    let site = Sealift::new();
    cluster_image(&site.store(), "shop:1", 25, &[1000], WORKLOADS);
    let serve = Serve::start(&site, &[]);
    let hosts = site.home().join("certs.d/_default");
    std::fs::create_dir_all(&hosts).unwrap();
    let text = format!("[host.\"http://{}\"]\n  capabilities = [\"pull\", \"resolve\"]\n", serve.host());
    std::fs::write(hosts.join("hosts.toml"), text).unwrap();
    let _running = containerd(site.home());
    let (sock, hosts) = (site.home().join("sock").display().to_string(), site.home().join("certs.d").display().to_string());
    for name in WORKLOADS {
        // fetches as `pull` does, and leaves out unpacking, which wants mounts
        run("ctr", &["-a", &sock, "-n", "test", "content", "fetch", "--hosts-dir", &hosts, "--platform", "linux/amd64", name]);
    }
    let images = run("ctr", &["-a", &sock, "-n", "test", "images", "ls", "-q"]);
    for name in WORKLOADS {
        assert_says(&images, &[name]);
    }
}

#[test]
fn buildah_pushes_and_containerd_fetches_with_tokens() {
    let site = Sealift::new();
    site.store();
    let users = site.home().join("htpasswd").display().to_string();
    std::fs::write(&users, format!("ann:{}\n", bcrypt::hash("secret", 4).unwrap())).unwrap();
    let serve = Serve::start(&site, &["--writable", "--htpasswd", &users, "--tokens"]);
    let name = format!("{}/team/built:1", serve.host());
    let dir = |part: &str| site.home().join(part).display().to_string();
    let storage =
        ["--root".to_owned(), dir("root"), "--runroot".to_owned(), dir("runroot"), "--storage-driver".to_owned(), "vfs".to_owned()];
    let buildah = |args: &[&str]| run("buildah", &[&storage.iter().map(String::as_str).collect::<Vec<_>>()[..], args].concat());
    std::fs::write(site.home().join("file"), noise(7, 2_000_000)).unwrap();
    let container = buildah(&["from", "scratch"]);
    buildah(&["copy", container.trim(), &dir("file"), "/file"]);
    buildah(&["commit", "-q", container.trim(), "built:1"]);
    for format in ["oci", "v2s2"] {
        let to = format!("docker://{name}-{format}");
        buildah(&["push", "-q", "--tls-verify=false", "--creds", "ann:secret", "--format", format, "built:1", &to]);
    }
    let _running = containerd(site.home());
    let sock = dir("sock");
    for format in ["oci", "v2s2"] {
        let name = format!("{name}-{format}");
        run("ctr", &["-a", &sock, "-n", "test", "content", "fetch", "--plain-http", "--user", "ann:secret", &name]);
    }
    let refused =
        Command::new("ctr").args(["-a", &sock, "-n", "other", "content", "fetch", "--plain-http", &format!("{name}-oci")]).output();
    assert!(!refused.unwrap().status.success(), "nobody but a user pulls");
}

#[test]
fn blobs_of_a_push_are_not_pruned_before_the_image_is_tagged() {
    let site = Sealift::new();
    site.store();
    let serve = Serve::start(&site, &["--writable"]);
    let base = format!("http://{}/v2/team/shop", serve.host());
    let curl = |args: &[&str]| run("curl", &[&["-sS", "--fail", "-o", "/dev/null", "-w", "%{http_code} %header{location}"], args].concat());
    let blob = noise(51, 100_000);
    let digest = Blob::of(&blob).digest;
    let file = site.home().join("blob");
    std::fs::write(&file, &blob).unwrap();
    let data = format!("@{}", file.display());

    // one upload is open, one blob is there and nothing names it
    let begun = curl(&["-X", "POST", &format!("{base}/blobs/uploads/")]);
    let open = format!("http://{}{}", serve.host(), begun.split_once(' ').unwrap().1);
    curl(&["-X", "PATCH", "--data-binary", "half", &open]);
    let put = format!("{base}/blobs/uploads/?digest={}", Blob::of(b"{}").digest);
    curl(&["-X", "POST", "--data-binary", "{}", &put]);
    let mut prune = site.command(&["prune"]).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(prune.try_wait().unwrap().is_none(), "a prune waits");

    // the push goes on to its end, and the prune with it
    curl(&["-X", "PUT", &format!("{open}?digest={}", Blob::of(b"half").digest)]);
    curl(&["-X", "POST", "--data-binary", &data, &format!("{base}/blobs/uploads/?digest={digest}")]);
    let layer =
        |blob: Blob| serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": blob.digest, "size": blob.size});
    let layers = [layer(Blob::of(b"half")), layer(Blob::of(&blob))];
    let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": layers,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": Blob::of(b"{}").digest, "size": 2}});
    let kind = "Content-Type: application/vnd.oci.image.manifest.v1+json";
    curl(&["-X", "PUT", "-H", kind, "--data-binary", &manifest.to_string(), &format!("{base}/manifests/1")]);
    wait_until("the prune ends", || prune.try_wait().unwrap().is_some());
    for name in ["manifests/1".to_owned(), format!("blobs/{digest}"), format!("blobs/{}", Blob::of(b"half").digest)] {
        curl(&[&format!("{base}/{name}")]);
    }
}

#[test]
fn containerd_buildah_and_umoci_read_archives_of_either_compression() {
    let here = Sealift::new();
    let at = |path: &str| here.home().join(path).display().to_string();
    for (name, compression, media_type) in [("packed:zstd", "zstd", "tar+zstd"), ("packed:gzip", "gzip", "tar+gzip")] {
        let context = here.home().join(compression);
        std::fs::create_dir_all(context.join("files")).unwrap();
        std::fs::write(context.join("files/hello"), compression).unwrap();
        std::fs::write(context.join("Kubefile"), "FROM scratch\nCOPY files /\n").unwrap();
        here.ok(&["build", "--compression", compression, "-t", name, context.to_str().unwrap()]);
        let archive = at(&format!("{compression}.tar"));
        here.ok(&["save", name, "-o", &archive]);

        // containerd takes the archive as any of its own
        let dir = tempfile::tempdir().unwrap();
        let _running = containerd(dir.path());
        let sock = dir.path().join("sock").display().to_string();
        run("ctr", &["-a", &sock, "-n", "test", "images", "import", "--no-unpack", "--all-platforms", &archive]);
        assert_says(&run("ctr", &["-a", &sock, "-n", "test", "images", "ls"]), &[&format!("docker.io/library/{name}")]);
        let digest = here.store().find(&name.parse().unwrap()).unwrap().digest().to_string();
        assert_says(&run("ctr", &["-a", &sock, "-n", "test", "content", "ls", "-q"]), &[&digest]);

        // skopeo takes the rootfs out of it, and umoci looks at it; umoci 0.4 unpacks gzip alone
        let layout = at(&format!("{compression}-layout"));
        run("skopeo", &["copy", "-q", &format!("oci-archive:{archive}:docker.io/library/{name}"), &format!("oci:{layout}:it")]);
        assert_says(&run("umoci", &["stat", "--image", &format!("{layout}:it")]), &["LAYER"]);
        let raw = run("skopeo", &["inspect", "--raw", &format!("oci:{layout}:it")]);
        assert_says(&raw, &[media_type]);
        let storage = ["--root", &at("root"), "--runroot", &at("runroot"), "--storage-driver", "vfs"];
        // buildah makes a name of the path, and wants it in lower case: a relative one has nothing of the temporary directory's
        let beside = at("");
        let buildah = |args: &[&str]| run("env", &[&["-C", &beside, "buildah"], &storage[..], args].concat()).trim().to_owned();
        let container = buildah(&["from", &format!("oci:{compression}-layout:it")]);
        let mounted = buildah(&["mount", &container]);
        assert_eq!(std::fs::read_to_string(format!("{mounted}/hello")).unwrap(), compression);
        buildah(&["umount", &container]);
        let bundle = at(&format!("{compression}-bundle"));
        let unpacked = Command::new("umoci").args(["unpack", "--image", &format!("{layout}:it"), &bundle]).output().unwrap();
        assert_eq!(unpacked.status.success(), compression == "gzip", "{}", String::from_utf8_lossy(&unpacked.stderr));
        if compression == "gzip" {
            assert_eq!(std::fs::read_to_string(format!("{bundle}/rootfs/hello")).unwrap(), "gzip");
        }
    }
}

#[test]
fn a_prune_beside_a_push_says_whom_it_waits_for_and_goes_on_when_that_ends() {
    let site = Sealift::new();
    site.store();
    let serve = Serve::start(&site, &["--writable"]);
    let answer = run("curl", &["-s", "-i", "-X", "POST", &format!("http://{}/v2/team/shop/blobs/uploads/", serve.host())]);
    let place = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap().trim().to_owned();
    let said = site.home().join("prune.log");
    let mut command = site.command(&["prune"]);
    let mut prune = command.stderr(std::fs::File::create(&said).unwrap()).spawn().unwrap();
    let told = || std::fs::read_to_string(&said).unwrap();
    wait_until("prune says whom it waits for", || told().contains("waiting for process "));
    assert_says(&told(), &["(sealift registry serve, for ", " s) to release the store"]);
    assert!(prune.try_wait().unwrap().is_none());
    run("curl", &["-s", "-X", "DELETE", &format!("http://{}{place}", serve.host())]);
    assert!(prune.wait().unwrap().success(), "{}", told());
    assert_eq!(told().matches("waiting for").count(), 1, "{}", told());
}
