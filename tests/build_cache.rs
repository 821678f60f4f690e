//! What `sealift build` remembers: what did not change is neither read nor written nor made again, and the same inputs are the same
//! image in whatever surroundings.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use common::sealift::{Sealift, assert_says};
use common::{images, run};

const KUBEFILE: &str = "FROM scratch AS tools\nCOPY tool bin/\nRUN echo made > made\n\
    FROM scratch\nCOPY --from=tools bin/tool usr/bin/\nCOPY etc etc\nAPP web local://web.yaml\nRUN cp etc/a copied\n";

/// Files, and a time later than any clock: with it every read of a file leaves its mark (`relatime`).
const FILES: [(&str, &str); 5] =
    [("Kubefile", KUBEFILE), ("tool", "tool"), ("etc/a", "a"), ("etc/deep/b", "b"), ("web.yaml", "kind: ConfigMap\napiVersion: v1\n")];
const LATER: &str = "@4000000000";

fn write_context(dir: &Path, files: &[(&str, &str)]) -> String {
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let dir = dir.display().to_string();
    run("find", &[&dir, "-exec", "touch", "-h", "-m", "-d", LATER, "{}", "+"]);
    // what changed just now is read again: it might change once more within the clock's tick
    std::thread::sleep(std::time::Duration::from_millis(250));
    dir
}

/// Everything below a directory: what it is, how big, when written, and when read if it is a file.
fn state(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let metadata = fs::symlink_metadata(dir).unwrap();
    let (written, read) = ((metadata.mtime(), metadata.mtime_nsec()), (metadata.atime(), metadata.atime_nsec()));
    let read = if metadata.is_file() { format!("{read:?}") } else { String::new() };
    found.insert(dir.to_owned(), format!("{} {} {written:?} {read}", metadata.ino(), metadata.len()));
    if metadata.is_dir() {
        fs::read_dir(dir).unwrap().for_each(|entry| found.extend(state(&entry.unwrap().path())));
    }
    found
}

/// As [`state`], but not when anything was read.
fn writings(dir: &Path) -> BTreeMap<PathBuf, String> {
    state(dir).into_iter().map(|(path, state)| (path, state.rsplit_once(' ').unwrap().0.to_owned())).collect()
}

#[test]
fn an_unchanged_build_reads_no_file_of_the_context_and_writes_nothing() {
    let sealift = Sealift::new();
    let dir = sealift.home().join("context");
    let context = write_context(&dir, &FILES);
    let build = || sealift.ok(&["build", "-t", "shop:1", &context]);
    let before = state(&dir);
    let first = build();
    let (read, written) = (state(&dir), writings(sealift.store_root()));
    assert_ne!(before[&dir.join("etc/a")], read[&dir.join("etc/a")], "what is read can be seen");
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(build(), first);
    let mut again = state(&dir);
    again.insert(dir.join("Kubefile"), read[&dir.join("Kubefile")].clone());
    assert_eq!(again, read, "only the Kubefile is read");
    assert_eq!(writings(sealift.store_root()), written);
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
    let written = writings(sealift.store_root());
    assert_eq!(sealift.ok(&["build", "-t", "shop:1", &context]), first);
    assert_eq!(writings(sealift.store_root()), written);
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
fn the_same_inputs_give_the_same_image_in_any_surroundings() {
    let sealift = Sealift::new();
    let context = write_context(&sealift.home().join("context"), &FILES);
    let build = |command: &mut std::process::Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = build(&mut sealift.command(&["build", "-t", "shop:1", &context]));
    let mut shuffled = FILES;
    shuffled.reverse();
    for (name, files, mask, variables) in [
        ("another order of files", &shuffled, "022", vec![]),
        ("another umask", &FILES, "077", vec![]),
        ("another time zone", &FILES, "022", vec![("TZ", "Pacific/Kiritimati")]),
        ("another language", &FILES, "022", vec![("LC_ALL", "tr_TR.UTF-8"), ("LANG", "tr_TR.UTF-8")]),
    ] {
        let other = Sealift::new();
        let context = write_context(&other.home().join("some/where/else"), files);
        run("chmod", &["-R", "u=rwX,go=rX", &context]);
        let mut command = other.command(&[]);
        let mut shell = std::process::Command::new("sh");
        shell.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())))).envs(variables);
        shell.args(["-c", "umask \"$1\"; shift; exec \"$@\"", "sh", mask]).arg(command.get_program());
        assert_eq!(build(shell.args(["-j", "1", "build", "-t", "shop:1", &context])), expected, "{name}");
        command.stdin(std::process::Stdio::null());
    }
    // and on another day: nothing of the clock goes in
    let later = Sealift::new();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let context = write_context(&later.home().join("context"), &FILES);
    assert_eq!(later.ok(&["build", "-t", "shop:1", &context]), expected);
    fs::set_permissions(later.home(), fs::Permissions::from_mode(0o700)).unwrap();
}
