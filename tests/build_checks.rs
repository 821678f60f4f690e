//! What `sealift build` refuses and reports: all at once, with places, nothing half done.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::images;
use common::registry::Settings;
use common::sealift::{Sealift, assert_says};

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// sealift and a context with a Kubefile and other files.
fn context(kubefile: &str, files: &[(&str, &str)]) -> (Sealift, String) {
    let sealift = Sealift::new();
    let dir = sealift.home().join("context");
    write(&dir.join("Kubefile"), kubefile);
    for (file, text) in files {
        write(&dir.join(file), text);
    }
    (sealift, dir.display().to_string())
}

#[test]
fn five_errors_are_five_errors() {
    let (sealift, context) = context(
        "FROM scratch\nLANUCH [\"a\"]\nCOPY none /\nCOPY ../../etc/passwd /\nAPP web local://gone.yaml\nADD --chmod=999 a /\n",
        &[("a", "a")],
    );
    let said = sealift.fails(2, &["build", "-t", "shop:1", &context]);
    assert_says(&said, &["5 errors", "did you mean `LAUNCH`", "Kubefile:3:6", "`../../etc/passwd` is outside", "`gone.yaml`", "file mode"]);
    assert!(!sealift.store_root().join("blobs/sha256").read_dir().is_ok_and(|mut blobs| blobs.next().is_some()), "nothing was built");
}

#[test]
fn links_that_lead_out_of_the_context_are_refused() {
    let (sealift, context) = context("FROM scratch\nCOPY out/passwd /\n", &[]);
    std::os::unix::fs::symlink("/etc", Path::new(&context).join("out")).unwrap();
    assert_says(&sealift.fails(2, &["build", "-t", "shop:1", &context]), &["`out/passwd`", "outside of the context"]);
}

#[test]
fn a_kubefile_may_come_from_stdin_and_a_missing_one_is_told() {
    let (sealift, context) = context("", &[("a", "a")]);
    let ended = sealift.run_with_stdin(&["build", "-t", "shop:1", "-f", "-", &context], "FROM scratch\nCOPY a .\n");
    assert_says(&ended.expect_code(0).stderr, &["built shop:1"]);
    let ended = sealift.run_with_stdin(&["build", "-t", "shop:2", "-"], "FROM scratch\nLABEL a=b\n");
    assert_says(&ended.expect_code(0).stderr, &["built shop:2 (0 layers"]);
    assert_says(&sealift.fails(2, &["build", "-t", "shop:1", "-f", "nowhere", &context]), &["Kubefile nowhere", "hint:"]);
}

#[test]
fn all_missing_container_images_are_listed_with_who_asks() {
    let (sealift, context) = context(
        "FROM scratch\nIMAGES 127.0.0.1:1/a/b:1\nCOPY m manifests\n",
        &[("m/x.yaml", "spec:\n  image: 127.0.0.1:1/c/d:2\n"), ("m/imageList", "127.0.0.1:1/e/f:3\n")],
    );
    let said = sealift.fails(7, &["build", "-t", "shop:1", &context]);
    assert_says(&said, &["3 container images are missing", "(required by manifests/x.yaml:2)", "manifests/imageList:1", "Kubefile:2"]);
    assert_says(&said, &["--from-archive", "--allow-missing"]);
    assert_says(&sealift.fails(1, &["inspect", "shop:1"]), &["no such image"]);

    let built = sealift.json(&["build", "-t", "shop:1", "--allow-missing", &context]);
    assert_eq!((built["images"].as_u64(), built["missing"].as_array().map(Vec::len)), (Some(0), Some(3)));
    let built = sealift.json(&["build", "-t", "shop:1", "--build-mode", "lite", &context]);
    assert_eq!(built["images"], 0);
    write(&Path::new(&context).join(".imageignore"), "127.0.0.1:1/a/b:1\n127.0.0.1:1/c/*\n");
    let list = Path::new(&context).join("ignored");
    write(&list, "127.0.0.1:1/e/f:3\n");
    sealift.ok(&["build", "-t", "shop:1", "--ignored-image-list", list.to_str().unwrap(), &context]);
}

#[test]
fn container_images_come_from_mirrors_and_archives_and_are_kept() {
    let registry = Settings::default().start();
    let (sealift, context) = context("FROM scratch\nIMAGES quay.io/a/b:1\n", &[("list", "docker.io/c/d:2\n")]);
    let other = Sealift::new();
    let root = images::container_image(&other.store(), 1, &[4_000, 3_000]);
    other.store().tag(&"quay.io/a/b:1".parse().unwrap(), &root).unwrap();
    other.ok(&["push", "quay.io/a/b:1", &registry.name("a/b:1")]);
    let root = images::container_image(&other.store(), 2, &[2_000]);
    other.store().tag(&"docker.io/c/d:2".parse().unwrap(), &root).unwrap();
    let archive = other.home().join("cd.tar").display().to_string();
    let source = format!("oci:{}:docker.io/c/d:2", other.store_root().display());
    common::run("skopeo", &["copy", "-q", &source, &format!("oci-archive:{archive}:docker.io/c/d:2")]);

    let list = format!("{context}/list");
    let args = ["build", "-t", "shop:1", "--image-list", &list, &context];
    let mirror = format!("quay.io={}", registry.host());
    let built = sealift.json(&[&args[..], &["--mirror", &mirror, "--from-archive", &archive]].concat());
    assert_eq!(built["images"], 2);
    for blob in fs::read_dir(other.store_root().join("blobs/sha256")).unwrap() {
        let name = blob.unwrap().file_name();
        assert!(sealift.store_root().join("blobs/sha256").join(&name).exists(), "{name:?} came along untouched");
    }
    drop(registry);
    // what the store has is not asked for again
    assert_eq!(sealift.json(&args)["unchanged"], true);
}

#[test]
fn a_check_tells_what_is_wanted_and_builds_nothing() {
    let (sealift, context) = context(
        "FROM scratch\nIMAGES nginx:1\nCOPY m manifests\nCOPY c charts/web\nAPP net local://net.yaml\n",
        &[
            ("m/x.yaml", "image: \"{{ .Image }}\"\n"),
            ("m/y.yaml.tmpl", "{{ if .X }}\nimage: {{ .Image }}\n{{ end }}\nb: {image: c/d:1}\n"),
            ("net.yaml", "kind: DaemonSet\nspec: {template: {spec: {containers: [{image: 'nginx:1'}]}}}\n"),
            ("c/Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\n"),
            ("c/templates/x.yaml", "image: \"{{ .Chart.Name }}:3\"\n"),
        ],
    );
    let ended = sealift.run(&["build", "--check", &context]).expect_code(0);
    assert_says(
        &ended.stdout,
        &[
            "3 container images required",
            "web:3  charts/web/templates/x.yaml:1",
            "nginx:1",
            "Kubefile:2",
            "application/apps/net/net.yaml:2",
            "manifests/y.yaml.tmpl:4",
        ],
    );
    assert_says(&ended.stdout, &["undecided", "manifests/y.yaml.tmpl:2"]);
    assert_eq!(fs::read_dir(sealift.store_root().join("blobs/sha256")).map_or(0, Iterator::count), 0);
}

#[test]
fn a_check_lists_the_images_that_the_build_requires() {
    let image = |name: &str| format!("spec: {{containers: [{{image: '127.0.0.1:1/{name}:1'}}]}}\n");
    let kubefile = "FROM scratch AS one\nCOPY m manifests\nCOPY replaced.yaml manifests/x.yaml\nFROM one\nADD more.tar.gz .\n";
    let files = [("m/x.yaml", image("x")), ("m/y.yaml", image("y")), ("replaced.yaml", image("replaced")), ("more/y.yaml", image("more"))];
    let (sealift, context) = context(kubefile, &files.each_ref().map(|(file, text)| (*file, text.as_str())));
    common::run("tar", &["-czf", &format!("{context}/more.tar.gz"), "-C", &context, "--transform", "s,^more,manifests,", "more"]);
    let checked = sealift.json(&["build", "--check", &context]);
    let required: Vec<&str> = checked["wanted"]["images"].as_object().unwrap().keys().map(String::as_str).collect();
    let built = sealift.json(&["build", "-t", "shop:1", "--allow-missing", &context]);
    let missing: Vec<&str> = built["missing"].as_array().unwrap().iter().filter_map(|name| name.as_str()).collect();
    assert_eq!((&required, checked["runs"].as_bool()), (&missing, Some(false)));
    assert_eq!(missing, ["127.0.0.1:1/more:1", "127.0.0.1:1/replaced:1"]);
}

#[test]
fn archives_are_unpacked_by_add_and_evil_ones_refused() {
    let (sealift, context) = context("FROM scratch\nADD x.tar.gz opt/\nCOPY x.tar.gz opt/\n", &[("good/a/b", "b")]);
    let archive = format!("{context}/x.tar.gz");
    common::run("tar", &["-czf", &archive, "-C", &format!("{context}/good"), "a"]);
    sealift.ok(&["build", "-t", "shop:1", "--compression", "gzip", &context]);
    let source = format!("oci:{}:docker.io/library/shop:1", sealift.store_root().display());
    let home = sealift.home().display();
    common::run("skopeo", &["copy", "-q", &source, &format!("oci:{home}/one:shop")]);
    common::run("umoci", &["unpack", "--rootless", "--image", &format!("{home}/one:shop"), &format!("{home}/bundle")]);
    let rootfs = sealift.home().join("bundle/rootfs");
    assert_eq!(fs::read_to_string(rootfs.join("opt/a/b")).unwrap(), "b");
    assert!(rootfs.join("opt/x.tar.gz").exists());

    common::run("tar", &["-czPf", &archive, "-C", &format!("{context}/good"), "--transform", "s,^a,../../evil,", "a"]);
    assert_says(
        &sealift.fails(1, &["build", "-t", "shop:1", &context]),
        &["Kubefile:2: ADD x.tar.gz", "has a path outside of the archive"],
    );
}

#[test]
fn every_kubefile_that_sealer_reads_builds_or_says_why_not() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/cases");
    let index = fs::read_to_string(folder.join("INDEX.tsv")).unwrap();
    let rows = index.lines().skip(1).map(|row| row.split('\t').collect::<Vec<_>>());
    let sealift = Sealift::new();
    let (mut built, mut refused) = (0, Vec::new());
    for row in rows.filter(|row| row[1] == "Kubefile" && !row[6].contains("template") && row[6].contains("parses")) {
        let text = fs::read_to_string(folder.join(row[0])).unwrap().replace("${TAG}", "1");
        let dir = sealift.home().join("case").join(row[0]);
        generate(&sealift, &dir, row[0], &text);
        let ended = sealift.run(&["build", "-q", "-t", "case:1", "--build-mode", "lite", "--pull", "never", dir.to_str().unwrap()]);
        match ended.code {
            0 => built += 1,
            2 => refused.push(format!("{}\n{}", row[0], ended.stderr)),
            _ => panic!("{}: exit code {}\n{}\n{text}", row[0], ended.code, ended.stderr),
        }
    }
    let reasons = ["is not carried out yet", "is declared or inherited"];
    for said in &refused {
        assert!(reasons.iter().any(|reason| said.contains(reason)), "{said}");
    }
    assert!(built >= 40 && refused.len() <= built / 4, "{built} built, refused:\n{}", refused.join("\n"));
}

/// Makes all that a Kubefile names: its base image, and its sources as files with fitting content.
fn generate(sealift: &Sealift, dir: &Path, name: &str, text: &str) {
    write(
        &dir.join("Kubefile"),
        &text.lines().map(|line| if line.starts_with("RUN") { "RUN true" } else { line }).collect::<Vec<_>>().join("\n"),
    );
    let parsed = sealift::kubefile::parse(name, text);
    for stage in &parsed.kubefile.stages {
        if !stage.from.value.is_scratch() {
            images::cluster_image(&sealift.store(), &stage.from.value.image.value, 1, &[100], &[]);
        }
        for step in &stage.steps {
            use sealift::kubefile::{Instruction, Source};
            let sources: Vec<String> = match &step.instruction {
                Instruction::Copy(files) | Instruction::Add(files) => {
                    let paths = files.sources.iter().filter_map(|source| match source {
                        Source::Path(word) => Some(word.value.clone()),
                        Source::Inline(_) => None,
                    });
                    paths.collect()
                }
                Instruction::App(app) => {
                    app.sources.iter().filter_map(|word| word.value.strip_prefix("local://").map(str::to_owned)).collect()
                }
                _ => Vec::new(),
            };
            for source in sources {
                let source = source.replace("${ARCH}", "amd64").replace("$ARCH", "amd64").replace('*', "x");
                let path = dir.join(source.trim_start_matches(['/', '.']));
                if source.contains("://") || source.contains('$') || path.exists() || path == dir.join("") {
                    continue;
                }
                if path.extension().is_some() { write(&path, "a: 1\n") } else { write(&path.join("a.yaml"), "a: 1\n") }
            }
        }
    }
}
