//! `sealift build` makes images that other tools take, the same ones from the same inputs, as any user.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::registry::Settings;
use common::sealift::{Sealift, assert_says};
use common::{images, run};
use serde_json::Value;

const KUBEFILE: &str = r#"FROM scratch
ARG VERSION=1
ENV Mode=fast Version=$VERSION
LABEL team=shop
COPY bin bin
COPY <<motd etc/
welcome to $VERSION
motd
CNI net local://net.yaml
APP web local://web
RUN cp bin/tool bin/copy && echo $Mode > etc/mode && rm bin/gone
LAUNCH ["net", "web"]
"#;

/// A context for [`KUBEFILE`], its times fixed.
fn write_context(dir: &Path) {
    for (file, text) in [
        ("Kubefile", KUBEFILE),
        ("bin/tool", "tool"),
        ("bin/gone", "gone"),
        ("net.yaml", "kind: DaemonSet\nspec: {template: {spec: {containers: [{image: 'quay.io/net/cni:v1'}]}}}\n"),
        ("web/web.yaml", "kind: Deployment\nspec:\n  template:\n    spec:\n      containers:\n      - image: nginx:1\n"),
        ("web/imageList", "quay.io/extra/tool:2\n"),
    ] {
        write(&dir.join(file), text);
    }
    fs::write(dir.join("bin/noise"), images::noise(7, 300_000)).unwrap();
    run("find", &[dir.to_str().unwrap(), "-exec", "touch", "-h", "-d", "@1600000000", "{}", "+"]);
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// An OCI layout with these container images.
fn layout(sealift: &Sealift, names: &[&str]) -> PathBuf {
    let root = sealift.home().join("layout");
    let store = sealift::store::Store::open(&root).unwrap();
    for (seed, name) in (100..).zip(names) {
        let descriptor = images::container_image(&store, seed, &[5_000]);
        store.tag(&name.parse().unwrap(), &descriptor).unwrap();
    }
    root
}

const NAMES: [&str; 3] = ["docker.io/library/nginx:1", "quay.io/net/cni:v1", "quay.io/extra/tool:2"];

/// sealift, a context and a layout with the images that the context asks for.
fn shop() -> (Sealift, String, String) {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    write_context(&context);
    let layout = layout(&sealift, &NAMES);
    (sealift, context.display().to_string(), layout.display().to_string())
}

/// The document that a name or digest points at in a layout directory.
fn document(layout: &Path, digest: &str) -> Value {
    let path = layout.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn inspect(sealift: &Sealift, digest: &str) -> (Value, Value, Value) {
    let index = document(sealift.store_root(), digest);
    let manifest = |number: usize| document(sealift.store_root(), index["manifests"][number]["digest"].as_str().unwrap());
    let (rootfs, workloads) = (manifest(0), manifest(1));
    (index, rootfs, workloads)
}

#[test]
fn an_image_says_what_its_kubefile_says() {
    let (sealift, context, layout) = shop();
    let built = sealift.json(&["build", "-t", "shop:1", "--from-archive", &layout, "--label", "a=b", "--annotation", "c=d", &context]);
    let (index, rootfs, workloads) = inspect(&sealift, built["digest"].as_str().unwrap());
    assert_eq!(index["artifactType"], "application/vnd.sealift.cluster.v1");
    assert_eq!(index["manifests"][0]["platform"]["os"], "linux");
    assert_eq!(index["manifests"][1]["platform"]["os"], "unknown");

    let annotation = |name: &str| serde_json::from_str::<Value>(rootfs["annotations"][name].as_str().unwrap()).unwrap();
    let (ours, sealers) = (annotation("io.sealift.cluster"), annotation("sealer.image.extension"));
    assert_eq!(ours["apps"][0]["role"], "cni");
    assert_eq!(ours["launch"]["apps"], serde_json::json!(["net", "web"]));
    assert_eq!(ours["env"], serde_json::json!({"Mode": "fast", "Version": "1"}));
    assert_eq!((&sealers["applications"][1]["type"], &sealers["labels"]["team"]), (&"kube".into(), &"shop".into()));
    assert_eq!(rootfs["annotations"]["c"], "d");
    let config = document(sealift.store_root(), rootfs["config"]["digest"].as_str().unwrap());
    assert_eq!((&config["config"]["Labels"]["a"], &config["config"]["Env"][0]), (&"b".into(), &"Mode=fast".into()));

    assert_eq!(workloads["artifactType"], "application/vnd.sealift.workloads.v1");
    let roots: Vec<(&str, Option<&str>)> = workloads["layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|layer| {
            let annotations = &layer["annotations"];
            Some((annotations["org.opencontainers.image.ref.name"].as_str()?, annotations["io.sealift.app"].as_str()))
        })
        .collect();
    assert_eq!(roots, [(NAMES[0], Some("web")), (NAMES[2], Some("web")), (NAMES[1], Some("net"))]);
}

#[test]
fn other_tools_take_the_image_and_registries_keep_it() {
    let (sealift, context, layout) = shop();
    let built = sealift.json(&["build", "-t", "shop:1", "--compression", "gzip", "--from-archive", &layout, &context]);
    let digest = built["digest"].as_str().unwrap();
    let source = format!("oci:{}:docker.io/library/shop:1", sealift.store_root().display());
    let seen: Value = serde_json::from_str(&run("skopeo", &["inspect", &source])).unwrap();
    assert_eq!((&seen["Labels"]["team"], &seen["Os"]), (&"shop".into(), &"linux".into()));

    let registry = Settings::default().start();
    let name = registry.name("team/shop:1");
    run("skopeo", &["copy", "-q", "--all", "--dest-tls-verify=false", &source, &format!("docker://{name}")]);
    sealift.ok(&["push", "shop:1", &name]);
    let other = Sealift::new();
    assert_eq!(other.ok(&["pull", &name]).trim(), digest);

    let home = sealift.home().display();
    run("skopeo", &["copy", "-q", &source, &format!("oci:{home}/one:shop")]);
    run("umoci", &["unpack", "--rootless", "--image", &format!("{home}/one:shop"), &format!("{home}/bundle")]);
    let read = |file: &str| fs::read_to_string(sealift.home().join("bundle/rootfs").join(file)).unwrap();
    assert_eq!((read("bin/copy"), read("etc/mode"), read("etc/motd")), ("tool".into(), "fast\n".into(), "welcome to 1\n".into()));
    assert!(!sealift.home().join("bundle/rootfs/bin/gone").exists());
    run("umoci", &["stat", "--image", &format!("{home}/one:shop")]);
    // buildah makes a name of the path, which must be in lower case
    let buildah = |args: &[&str]| {
        let mut command = Command::new("buildah");
        command.current_dir(sealift.home()).args(["--storage-driver", "vfs", "--root", "c", "--runroot", "r"]).args(args);
        let output = command.output().unwrap();
        assert!(output.status.success(), "buildah {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let container = buildah(&["from", "-q", "oci:one:shop"]);
    buildah(&["rm", &container]);
}

#[test]
fn an_unchanged_build_is_unchanged_and_packs_nothing() {
    let (sealift, context, layout) = shop();
    let args = ["build", "-t", "shop:1", "--from-archive", &layout, &context];
    let first = sealift.run(&args).expect_code(0);
    assert_says(&first.stderr, &["pack", "built shop:1"]);
    let again = sealift.run(&args).expect_code(0);
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(again.stderr.trim(), "unchanged shop:1 (5 layers, 3 container images)");

    // touched, but the same: what is in the cache counts, not the clock
    run("find", &[&context, "-exec", "touch", "{}", "+"]);
    assert_eq!(sealift.run(&args).expect_code(0).stdout, first.stdout);
    write(&Path::new(&context).join("web/web.yaml"), "kind: Pod\nspec: {containers: [{image: 'nginx:1'}]}\n");
    let changed = sealift.run(&args).expect_code(0);
    assert_ne!(changed.stdout, first.stdout);
    assert_eq!(packed(&changed.stderr), 2, "only what changed is done again, and RUN after it:\n{}", changed.stderr);
    let anew = sealift.run(&[&args[..], &["--no-cache"]].concat()).expect_code(0);
    assert_eq!(packed(&anew.stderr), 5, "{}", anew.stderr);
}

/// How many instructions made layers.
fn packed(stderr: &str) -> usize {
    stderr.lines().filter(|line| line.contains(" pack ")).count()
}

#[test]
fn the_same_inputs_give_the_same_digest_elsewhere_and_as_another_user() {
    let (sealift, context, layout) = shop();
    let here = sealift.ok(&["build", "-t", "shop:1", "-j", "1", "--from-archive", &layout, &context]);

    let other = tempfile::tempdir().unwrap();
    fs::set_permissions(other.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let theirs = other.path().join("some/where/else");
    write_context(&theirs);
    fs::copy(env!("CARGO_BIN_EXE_sealift"), other.path().join("sealift")).unwrap();
    run("cp", &["-r", &layout, other.path().join("layout").to_str().unwrap()]);
    run("chown", &["-R", "12345:12345", other.path().to_str().unwrap()]);
    let at = |path: &str| other.path().join(path).display().to_string();
    let there = run(
        "setpriv",
        &[
            "--reuid=12345",
            "--regid=12345",
            "--clear-groups",
            "env",
            "-i",
            "PATH=/usr/bin:/bin",
            &format!("HOME={}", at("")),
            &at("sealift"),
            "--store",
            &at("store"),
            "-j",
            "3",
            "build",
            "-t",
            "shop:1",
            "--from-archive",
            &at("layout"),
            &at("some/where/else"),
        ],
    );
    assert_eq!(here, there);
}

#[test]
fn a_killed_build_leaves_nothing_behind_and_the_next_one_works() {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    write(&context.join("Kubefile"), "FROM scratch\nCOPY a a\nRUN echo started; exec sleep 3600.12345\n");
    write(&context.join("a"), "a");
    let context = context.display().to_string();
    let mut child = sealift.command(&["build", "-t", "shop:1", &context]).spawn().unwrap();
    let sleeping = || {
        let found = Command::new("pgrep").args(["-f", "^sleep 3600.12345"]).output().unwrap();
        !found.stdout.is_empty()
    };
    common::wait_until("the command runs", sleeping);
    child.kill().unwrap();
    child.wait().unwrap();
    common::wait_until("the command ends with the build", || !sleeping());

    write(&Path::new(&context).join("Kubefile"), "FROM scratch\nCOPY a a\nRUN echo b > b\n");
    sealift.ok(&["build", "-t", "shop:1", &context]);
    let left: Vec<_> = fs::read_dir(sealift.store_root().join("build/work")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[test]
fn run_uses_the_rootfs_own_shell_when_it_has_one() {
    let sealift = Sealift::new();
    let context = sealift.home().join("context");
    for file in run("ldd", &["/bin/sh"]).split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/sh"]) {
        let target = context.join("root").join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
    write(
        &context.join("Kubefile"),
        "FROM scratch\nARG WHO=me\nCOPY root /\nRUN echo $WHO > /made && pwd >> /made && echo >/dev/null && test -e /proc/self && ! test -e /usr/bin/env\n",
    );
    let context = context.display().to_string();
    let built = sealift.json(&["build", "-t", "shop:1", "--compression", "gzip", &context]);
    let index = document(sealift.store_root(), built["digest"].as_str().unwrap());
    let rootfs = document(sealift.store_root(), index["manifests"][0]["digest"].as_str().unwrap());
    let last = rootfs["layers"].as_array().unwrap().last().unwrap()["digest"].as_str().unwrap().to_owned();
    let blob = sealift.store_root().join("blobs/sha256").join(last.strip_prefix("sha256:").unwrap());
    assert_eq!(run("tar", &["-tzf", blob.to_str().unwrap()]), "made\n");
    assert_eq!(run("tar", &["-xzOf", blob.to_str().unwrap(), "made"]), "me\n/\n");
}

#[test]
fn a_failing_run_says_what_where_and_why() {
    let sealift = Sealift::new();
    let context = sealift.home().display().to_string();
    write(&sealift.home().join("Kubefile"), "FROM scratch\n\nRUN echo one; echo two >&2; exit 9\n");
    let said = sealift.fails(1, &["build", "-t", "shop:1", &context]);
    assert_says(&said, &["Kubefile:3: RUN echo one", "exit code 9", "| one", "| two"]);
    let began = Instant::now();
    assert_eq!(sealift.json(&["images"]).as_array().map(Vec::len).unwrap_or(0), 0);
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_image_is_built_from_another_one() {
    let (sealift, context, layout) = shop();
    let base = sealift.json(&["build", "-t", "base:1", "--from-archive", &layout, &context]);
    let app = sealift.home().join("app");
    write(
        &app.join("Kubefile"),
        "ARG BASE=base:1\nFROM $BASE\nENV Extra=1\nCOPY list bin\nAPP shop local://shop.sh\nIMAGES quay.io/net/cni:v1\nLAUNCH [\"web\", \"shop\"]\n",
    );
    write(&app.join("list"), "x");
    write(&app.join("shop.sh"), "true");
    // without the layout: what the base has is not fetched again
    let built = sealift.json(&["build", "-t", "shop:1", "--type", "app-installer", app.to_str().unwrap()]);
    assert_eq!(built["images"], 3);
    let (_, base, _) = inspect(&sealift, base["digest"].as_str().unwrap());
    let (_, rootfs, _) = inspect(&sealift, built["digest"].as_str().unwrap());
    let layers = |manifest: &Value| manifest["layers"].as_array().unwrap().clone();
    assert_eq!(layers(&rootfs)[..layers(&base).len()], layers(&base)[..]);
    let cluster: Value = serde_json::from_str(rootfs["annotations"]["io.sealift.cluster"].as_str().unwrap()).unwrap();
    let apps: Vec<&str> = cluster["apps"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!((apps, &cluster["type"]), (vec!["net", "web", "shop"], &"app-installer".into()));
    assert_eq!(cluster["env"], serde_json::json!({"Mode": "fast", "Version": "1", "Extra": "1"}));
    assert_eq!(cluster["launch"]["apps"], serde_json::json!(["web", "shop"]));

    // bin is a directory of the base: the file goes into it, as in docker, also when the base was pulled
    let registry = Settings::default().start();
    sealift.ok(&["push", "base:1", &registry.name("base:1")]);
    let other = Sealift::new();
    let arg = format!("BASE={}", registry.name("base:1"));
    let pulled = other.json(&["build", "-t", "shop:1", "--type", "app-installer", "--build-arg", &arg, app.to_str().unwrap()]);
    let (_, theirs, _) = inspect(&other, pulled["digest"].as_str().unwrap());
    assert_eq!(layers(&theirs), layers(&rootfs));
}

#[test]
fn one_changed_file_of_a_large_tree_makes_one_new_layer() {
    let sealift = Sealift::new();
    let context = sealift.home().join("large");
    fs::create_dir_all(context.join("tree")).unwrap();
    for number in 0..8 {
        fs::write(context.join(format!("tree/blob-{number}")), common::images::noise(number, 30 << 20)).unwrap();
    }
    fs::write(context.join("tree/small"), "one").unwrap();
    fs::write(context.join("Kubefile"), "FROM scratch\nCOPY tree /\n").unwrap();
    let layers = |tag: &str| -> Vec<String> {
        sealift.ok(&["build", "-t", tag, context.to_str().unwrap()]);
        let layers = sealift.json(&["inspect", "--layers", tag]);
        layers.as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    };
    let before = layers("large:1");
    let times = |digests: &[String]| -> Vec<std::time::SystemTime> {
        let place = |digest: &String| sealift.store_root().join("blobs/sha256").join(digest.replace("sha256:", ""));
        digests.iter().map(|digest| fs::metadata(place(digest)).unwrap().modified().unwrap()).collect()
    };
    let written = times(&before);
    fs::write(context.join("tree/small"), "two").unwrap();
    let after = layers("large:2");
    assert!(before.len() > 3, "{before:?}");
    let new: Vec<&String> = after.iter().filter(|layer| !before.contains(layer)).collect();
    // the piece with the file, and that with the directory's time
    assert!((1..=2).contains(&new.len()), "{new:?}");
    assert_eq!(times(&before), written, "the others are not written again");
    // what is remembered gives the same bytes as what is packed anew
    let other = Sealift::new();
    other.ok(&["build", "-t", "large:2", context.to_str().unwrap()]);
    let digest = |sealift: &Sealift| sealift.json(&["inspect", "large:2"])["digest"].clone();
    assert_eq!(digest(&other), digest(&sealift));
}
