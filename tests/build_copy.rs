//! The corners of COPY: what is there afterwards, under which name, with which mode.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use common::building::{built, context, write};
use common::run;
use common::sealift::{Sealift, assert_says};

fn kubefile(context: &str, text: &str) {
    write(&Path::new(context).join("Kubefile"), text);
}

/// What is in the image after all layers.
fn unpacked(sealift: &Sealift, context: &str) -> PathBuf {
    let root = sealift.home().join("root");
    fs::remove_dir_all(&root).ok();
    sealift.ok(&["build", "-t", "shop:1", context]);
    sealift.ok(&["unpack", "shop:1", root.to_str().unwrap()]);
    root
}

fn facts<'a>(found: &'a BTreeMap<String, String>, paths: &[&str]) -> Vec<&'a str> {
    paths.iter().map(|path| found.get(*path).map_or("none", String::as_str)).collect()
}

#[test]
fn parents_links_and_modes_are_as_in_docker() {
    let (sealift, context) =
        context(&[("Kubefile", ""), ("a/b/c/x.txt", "x"), ("a/b/y.txt", "y"), ("a/tool", "tool"), ("lib/real", "real")]);
    let dir = Path::new(&context);
    fs::set_permissions(dir.join("a/b"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(dir.join("a/tool"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("../lib/real", dir.join("a/link")).unwrap();
    kubefile(
        &context,
        "FROM scratch AS from\n\
         COPY --parents a/b/c/x.txt a/./b/*.txt one\n\
         COPY --link a/link two/\n\
         COPY a/ three\n\
         COPY --chmod=u=rwX,go=rX a four/\n\
         COPY a/tool a/b/y.txt lib/* five/\n\
         COPY a/tool /six\n\
         COPY <<-one <<\"two\" seven/\n\
         \tunder $ARCH\n\
         one\n\
         raw $ARCH\n\
         two\n\
         FROM scratch\n\
         COPY --from=from --parents one/./a/b/*/x.txt six /copied\n\
         COPY --from=from . /\n",
    );
    let found = built(&sealift, &context);
    let modes = [
        "one/a/b",
        "one/a/b/c/x.txt",
        "one/b",
        "one/b/y.txt",
        "two/link",
        "three/link",
        "three/b",
        "four/b",
        "four/tool",
        "five/tool",
        "six",
    ];
    let expected = [
        "drwx------ 0/0",
        "-rw-r--r-- 0/0",
        "drwx------ 0/0",
        "-rw-r--r-- 0/0",
        "-rw-r--r-- 0/0",
        "lrwxrwxrwx 0/0 -> ../lib/real",
        "drwx------ 0/0",
        "drwxr-xr-x 0/0",
        "-rwxr-xr-x 0/0",
        "-rws--x--x 0/0",
        "-rws--x--x 0/0",
    ];
    assert_eq!(facts(&found, &modes), expected);
    assert_eq!(
        facts(&found, &["copied/a/b", "copied/a/b/c/x.txt", "copied/six", "copied/one"]),
        ["drwx------ 0/0", "-rw-r--r-- 0/0", "-rws--x--x 0/0", "none"]
    );
    let root = unpacked(&sealift, &context);
    assert_eq!(
        fs::read_to_string(root.join("seven/one")).unwrap(),
        "under amd64\n".replace("amd64", std::env::consts::ARCH.replace("x86_64", "amd64").as_str())
    );
    assert_eq!(fs::read_to_string(root.join("seven/two")).unwrap(), "raw $ARCH\n");
}

#[test]
fn names_holes_and_second_names_come_through() {
    let (sealift, context) =
        context(&[("Kubefile", "FROM scratch\nCOPY . /\nRUN test -e tree/empty && rm tree/gone\n"), ("tree/gone", "gone")]);
    let tree = Path::new(&context).join("tree");
    fs::create_dir(tree.join("empty")).unwrap();
    let long = "n".repeat(255);
    fs::write(tree.join(&long), "long").unwrap();
    let odd = OsStr::from_bytes(b"od\xff d\n\\name");
    fs::write(tree.join(odd), "odd").unwrap();
    fs::hard_link(tree.join(odd), tree.join("same")).unwrap();
    symlink(odd, tree.join("link")).unwrap();
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    fs::set_permissions(tree.join("same"), fs::Permissions::from_mode(0o4755)).unwrap();
    let root = unpacked(&sealift, &context).join("tree");
    assert_eq!(fs::read_dir(root.join("empty")).unwrap().count(), 0);
    assert_eq!(fs::read_to_string(root.join(&long)).unwrap(), "long");
    assert_eq!(fs::read_to_string(root.join(odd)).unwrap(), "odd");
    assert_eq!(fs::read_link(root.join("link")).unwrap(), odd);
    let metadata = |path: &Path| fs::metadata(root.join(path)).unwrap();
    assert_eq!(metadata(Path::new("same")).ino(), metadata(Path::new(odd)).ino());
    assert_eq!(metadata(Path::new("same")).mode() & 0o7777, 0o4755);
    assert_eq!(metadata(Path::new("sparse")).len(), 64 << 20);
    assert!(!root.join("gone").exists());
    let layers = sealift.json(&["inspect", "--layers", "shop:1"]);
    let size: u64 = layers.as_array().unwrap().iter().map(|layer| layer["size"].as_u64().unwrap()).sum();
    assert!(size < 1 << 20, "holes are small: {size}");
}

#[test]
fn files_become_directories_and_directories_files_from_stage_to_stage() {
    let (sealift, context) = context(&[("Kubefile", ""), ("file", "file"), ("dir/inner", "inner")]);
    kubefile(
        &context,
        "FROM scratch AS one\n\
         COPY file a\n\
         COPY dir b\n\
         FROM one AS two\n\
         RUN rm a && mkdir a && echo in > a/in && rm -r b && echo now a file > b\n\
         FROM two\n\
         COPY dir c\n\
         RUN rm -r a && ln -s c a\n\
         COPY file a/more\n",
    );
    let root = unpacked(&sealift, &context);
    assert_eq!(fs::read_link(root.join("a")).unwrap(), Path::new("c"));
    assert_eq!(fs::read_to_string(root.join("b")).unwrap(), "now a file\n");
    assert_eq!(fs::read_to_string(root.join("c/more")).unwrap(), "file");
    assert_eq!(fs::read_to_string(root.join("c/inner")).unwrap(), "inner");
}

#[test]
fn pipes_and_sockets_are_left_out_with_a_warning_and_refused_by_name() {
    let (sealift, context) = context(&[("Kubefile", "FROM scratch\nCOPY tree /\n"), ("tree/file", "file")]);
    run("mkfifo", &[&format!("{context}/tree/pipe")]);
    let _socket = std::os::unix::net::UnixListener::bind(format!("{context}/tree/socket")).unwrap();
    let ended = sealift.run(&["build", "-t", "shop:1", &context]).expect_code(0);
    for name in ["pipe", "socket"] {
        assert_says(&ended.stderr, &[&format!("tree/{name} is left out: an image has no sockets, pipes and devices")]);
        kubefile(&context, &format!("FROM scratch\nCOPY tree/{name} /\n"));
        let said = sealift.fails(2, &["build", "-t", "shop:2", &context]);
        assert_says(&said, &["Kubefile:2:6", &format!("`tree/{name}` is a socket, pipe or device: only files and directories")]);
    }
    kubefile(&context, "FROM scratch\nADD https://example.com/a/b.git /src\n");
    assert_says(
        &sealift.fails(2, &["build", "-t", "shop:2", &context]),
        &["git repository is not supported", "clone it into the build context"],
    );
}

#[test]
fn a_kubefile_may_have_an_ignore_file_of_its_own() {
    let (sealift, context) = context(&[
        ("Kubefile", "FROM scratch\nCOPY . /\n"),
        ("other/Kubefile", "FROM scratch\nCOPY . /\n"),
        (".dockerignore", "b\n"),
        ("a", "a"),
        ("b", "b"),
        ("c", "c"),
    ]);
    let files = |more: &[&str]| {
        sealift.ok(&[&["build", "-t", "shop:1", &context][..], more].concat());
        let files = sealift.json(&["inspect", "--files", "shop:1"]).to_string();
        ["a", "b", "c"].into_iter().filter(|name| files.contains(&format!("\"path\":\"{name}\""))).collect::<String>()
    };
    let other = format!("{context}/other/Kubefile");
    assert_eq!((files(&[]), files(&["-f", &other])), ("ac".to_owned(), "ac".to_owned()));
    write(Path::new(&format!("{context}/.kubeignore")), "a\n");
    write(Path::new(&format!("{other}.dockerignore")), "c\n");
    assert_eq!((files(&[]), files(&["-f", &other])), ("bc".to_owned(), "ab".to_owned()));
    write(Path::new(&format!("{other}.kubeignore")), "*\n!b\n");
    assert_eq!(files(&["-f", &other]), "b");
}
