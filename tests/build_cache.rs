//! What `sealift build` remembers: what did not change is neither read nor written nor made again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use common::proxy::Proxy;
use common::registry::DockerRegistry;
use common::sealift::{Sealift, assert_says};
use common::{images, run};

const KUBEFILE: &str = "FROM scratch AS tools\nCOPY tool bin/\nRUN echo made > made\n\
    FROM scratch\nCOPY --from=tools bin/tool usr/bin/\nCOPY etc etc\nAPP web local://web.yaml\nRUN cp etc/a copied\n";

const FILES: [(&str, &str); 5] =
    [("Kubefile", KUBEFILE), ("tool", "tool"), ("etc/a", "a"), ("etc/deep/b", "b"), ("web.yaml", "kind: ConfigMap\napiVersion: v1\n")];

/// Writes files, their times fixed.
fn write_context(dir: &Path, files: &[(&str, &str)]) -> String {
    write_at(dir, files, "@1600000000")
}

fn write_at(dir: &Path, files: &[(&str, &str)], time: &str) -> String {
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let dir = dir.display().to_string();
    run("find", &[&dir, "-exec", "touch", "-h", "-m", "-d", time, "{}", "+"]);
    // what changed just now is read again: it might change once more within the clock's tick
    std::thread::sleep(std::time::Duration::from_millis(250));
    dir
}

/// Everything below a directory: how big it is, and when it was written.
fn written(dir: &Path) -> BTreeMap<PathBuf, String> {
    look(dir, &|metadata| format!("{} {} {}.{}", metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// When each file below a directory was read.
fn read(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut times = look(dir, &|metadata| format!("{}.{} {}", metadata.atime(), metadata.atime_nsec(), metadata.is_file()));
    times.retain(|_, time| time.ends_with("true"));
    times
}

fn look(dir: &Path, what: &dyn Fn(&fs::Metadata) -> String) -> BTreeMap<PathBuf, String> {
    let metadata = fs::symlink_metadata(dir).unwrap();
    let mut found = BTreeMap::from([(dir.to_owned(), what(&metadata))]);
    if metadata.is_dir() {
        fs::read_dir(dir).unwrap().for_each(|entry| found.extend(look(&entry.unwrap().path(), what)));
    }
    found
}

#[test]
fn an_unchanged_build_reads_no_file_of_the_context_and_writes_nothing() {
    let sealift = Sealift::new();
    let dir = sealift.home().join("context");
    // a file that was written later than read shows every read (`relatime`), so it was written in the future
    let context = write_at(&dir, &FILES, "@4000000000");
    let build = || sealift.ok(&["build", "-t", "shop:1", &context]);
    let (before, first, after) = (read(&dir), build(), read(&dir));
    assert_ne!(before[&dir.join("etc/a")], after[&dir.join("etc/a")], "reads can be seen");
    let store = written(sealift.store_root());
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(build(), first);
    let mut again = read(&dir);
    // the Kubefile is read, and the first bytes of an application's file, which may be an archive
    for file in ["Kubefile", "web.yaml"] {
        again.insert(dir.join(file), after[&dir.join(file)].clone());
    }
    assert_eq!(again, after);
    assert_eq!(written(sealift.store_root()), store);
}

#[test]
fn an_archive_that_is_added_is_unpacked_once() {
    let sealift = Sealift::new();
    let dir = sealift.home().join("context");
    let context =
        write_context(&dir, &[("Kubefile", "FROM scratch\nADD a.tar /\n"), ("in/file", "text"), ("in/web/imageList", "# none\n")]);
    run("tar", &["-C", dir.join("in").to_str().unwrap(), "-cf", dir.join("a.tar").to_str().unwrap(), "file", "web"]);
    std::thread::sleep(std::time::Duration::from_millis(250));
    let first = sealift.ok(&["build", "-t", "shop:1", &context]);
    let store = written(sealift.store_root());
    assert_eq!(sealift.ok(&["build", "-t", "shop:1", &context]), first);
    assert_eq!(written(sealift.store_root()), store);
}

#[test]
fn one_changed_file_of_a_large_tree_makes_one_new_layer() {
    let sealift = Sealift::new();
    let dir = sealift.home().join("context");
    for number in 0..24 {
        let path = dir.join(format!("tree/{:02}/blob", number));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, images::noise(number, 5 << 20)).unwrap();
    }
    let context = write_context(&dir, &[("Kubefile", "FROM scratch\nCOPY tree /\n"), ("tree/20/small", "one")]);
    let layers = || {
        sealift.ok(&["build", "-t", "big:1", &context]);
        let layers = sealift.json(&["inspect", "--layers", "big:1"]);
        let texts = layers.to_string();
        let digests: Vec<String> = texts.split("sha256:").skip(1).map(|rest| rest[..64].to_owned()).collect();
        let mut blobs: Vec<(String, u64)> = digests
            .into_iter()
            .filter_map(|hex| Some((hex.clone(), fs::metadata(sealift.store_root().join("blobs/sha256").join(hex)).ok()?.len())))
            .collect();
        blobs.sort();
        blobs.dedup();
        blobs
    };
    let before = layers();
    assert!(before.len() >= 3, "{before:?}");
    write_context(&dir, &[("tree/20/small", "another")]);
    let after = layers();
    let new: Vec<_> = after.iter().filter(|layer| !before.contains(layer)).collect();
    assert!(new.len() == 1 && new[0].1 <= 80 << 20, "{new:?} of {after:?}");
}

#[test]
fn prune_forgets_what_is_gone_and_with_cache_everything() {
    let sealift = Sealift::new();
    let context = write_context(&sealift.home().join("context"), &FILES);
    let build = || sealift.run(&["build", "-t", "shop:1", &context]).expect_code(0);
    let first = build();
    let steps = || fs::read_dir(sealift.store_root().join("build/steps")).map_or(0, |entries| entries.count());
    assert_eq!(steps(), 6);
    // the layer of the first stage is in no image
    sealift.ok(&["prune"]);
    assert_eq!(steps(), 4);
    assert_says(&build().stderr, &["pack"]);
    assert_eq!(steps(), 6);
    assert_says(&sealift.ok(&["prune", "--cache", "--dry-run"]), &["would delete"]);
    assert_eq!(steps(), 6);
    sealift.ok(&["prune", "--cache"]);
    assert_eq!(steps(), 0);
    let again = build();
    assert_eq!(again.stdout, first.stdout);
    assert_says(&again.stderr, &["pack"]);
    sealift.ok(&["fsck"]);
}

#[test]
fn layers_are_taken_from_an_image_that_another_machine_pushed() {
    let (sealift, registry) = (Sealift::new(), DockerRegistry::start());
    let name = registry.name("shop:cache");
    let files = [
        (
            "Kubefile",
            "FROM scratch AS tools\nCOPY tool bin/\nFROM scratch\nCOPY etc etc\nCOPY --from=tools bin usr/\nRUN rm etc/a && mkdir manifests && echo quay.io/a/b:1 > manifests/imageList\n",
        ),
        ("tool", "tool"),
        ("etc/a", "a"),
        ("etc/deep/b", "b"),
        (".imageignore", "quay.io/a/b:1\n"),
    ];
    let context = write_context(&sealift.home().join("context"), &files);
    let expected = sealift.ok(&["build", "--plain-http", "-t", &name, &context]);
    sealift.ok(&["push", "--plain-http", &name]);

    let other = Sealift::new();
    let dir = other.home().join("context");
    let context = write_context(&dir, &files);
    let build = |more: &[&str]| other.run(&[&["build", "--plain-http", "-t", "shop:1", "--cache-from", &name, &context], more].concat());
    let first = build(&[]).expect_code(0);
    assert_eq!(first.stdout, expected);
    // the stage that nothing is taken from is not in the image: it alone is packed
    assert_eq!(first.stderr.lines().filter(|line| line.contains(" pack ")).count(), 1, "{}", first.stderr);
    assert_says(&build(&["--no-cache"]).expect_code(0).stderr, &["pack"]);
    write_context(&dir, &[("etc/a", "another")]);
    assert_ne!(build(&[]).expect_code(0).stdout, expected);
    let nowhere = registry.name("nowhere:1");
    let said = other.run(&["build", "--plain-http", "-t", "shop:1", "--cache-from", &nowhere, &context]).expect_code(0).stderr;
    assert_says(&said, &["--cache-from", "nowhere:1 is not used: "]);
}

#[test]
fn pieces_of_a_large_tree_are_taken_from_an_image_and_only_the_changed_one_is_packed() {
    let (sealift, registry) = (Sealift::new(), DockerRegistry::start());
    let proxy = Proxy::to(&registry.host());
    let fill = |dir: &Path, small: &str, time: &str| {
        for number in 0..10 {
            let path = dir.join(format!("tree/{number:02}/blob"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, images::noise(number, 11 << 20)).unwrap();
        }
        write_at(dir, &[("Kubefile", "FROM scratch\nCOPY tree /\n"), ("tree/03/small", small)], time)
    };
    let context = fill(&sealift.home().join("context"), "one", "@1600000000");
    sealift.ok(&["build", "-t", &registry.name("big:1"), &context]);
    sealift.ok(&["push", "--plain-http", &registry.name("big:1")]);

    // elsewhere, a checkout of another day, with one changed file
    let other = Sealift::new();
    let context = fill(&other.home().join("context"), "another", "@1700000000");
    other.ok(&["build", "--plain-http", "-t", "big:2", "--cache-from", &proxy.name("big:1"), &context]);
    let layers = |sealift: &Sealift, name: &str| -> BTreeMap<String, u64> {
        let layers = sealift.json(&["inspect", "--layers", name]);
        layers
            .as_array()
            .unwrap()
            .iter()
            .map(|layer| (layer["digest"].as_str().unwrap().to_owned(), layer["size"].as_u64().unwrap()))
            .collect()
    };
    let (before, after) = (layers(&sealift, &registry.name("big:1")), layers(&other, "big:2"));
    let taken: u64 = after.iter().filter(|(digest, _)| before.contains_key(*digest)).map(|(_, size)| size).sum();
    assert_eq!(after.keys().filter(|digest| !before.contains_key(*digest)).count(), 1, "{before:?} {after:?}");
    assert!(taken > 20 << 20, "{before:?} {after:?}");
    let fetched = proxy.down();
    assert!((taken..taken + (256 << 10)).contains(&fetched), "fetched {fetched}, used {taken}");

    // an image of the store lends as well
    let third = fill(&other.home().join("third"), "a third", "@1800000000");
    other.ok(&["prune", "--cache"]);
    other.ok(&["build", "-t", "big:3", "--cache-from", "big:2", &third]);
    let last = layers(&other, "big:3");
    assert_eq!(last.keys().filter(|digest| !after.contains_key(*digest)).count(), 1, "{after:?} {last:?}");
    assert_eq!(proxy.down(), fetched);
}
