//! `ADD`: files from URLs, archives in every compression, owners by name.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;

use common::building::{built, context, write};
use common::run;
use common::sealift::{Sealift, assert_says};
use common::web::{Answer, Web};
use sealift::image::Digest;

fn build(sealift: &Sealift, context: &str) -> String {
    sealift.run(&["build", "-t", "shop:1", "--compression", "gzip", context]).expect_code(0).stderr
}

fn kubefile(context: &str, text: &str) {
    write(&Path::new(context).join("Kubefile"), text);
}

#[test]
fn files_come_from_urls_once_and_again_when_they_changed() {
    let web = Web::start();
    web.put("dir/tool", Answer::File(b"one".to_vec()));
    web.put("latest", Answer::Redirect(web.url("dir/tool")));
    let (sealift, context) = context(&[("Kubefile", "")]);
    let host = web.host();
    kubefile(
        &context,
        &format!("FROM scratch\nARG V=dir\nADD --chmod=755 http://{host}/$V/tool bin/\nADD {} /etc/latest\n", web.url("latest")),
    );
    let found = built(&sealift, &context);
    assert_eq!(found["bin/tool"], "-rwxr-xr-x 0/0");
    assert_eq!(found["etc/latest"], "-rw------- 0/0");
    assert_eq!(web.log(), ["200 dir/tool", "302 latest", "200 dir/tool"]);

    assert_says(&build(&sealift, &context), &["unchanged shop:1"]);
    assert_eq!(web.log(), ["304 dir/tool", "302 latest", "304 dir/tool"], "only asked whether they changed");

    web.put("dir/tool", Answer::File(b"two".to_vec()));
    assert_says(&build(&sealift, &context), &["built shop:1"]);
    assert_eq!(web.log(), ["200 dir/tool", "302 latest", "200 dir/tool"]);
}

#[test]
fn a_file_with_a_checksum_is_that_file_or_an_error() {
    let web = Web::start();
    web.put("tool", Answer::File(b"one".to_vec()));
    let (sealift, context) = context(&[("Kubefile", "")]);
    let add = |checksum: Digest| kubefile(&context, &format!("FROM scratch\nADD --checksum={checksum} {} bin/\n", web.url("tool")));
    add(Digest::of(b"one"));
    build(&sealift, &context);
    build(&sealift, &context);
    assert_eq!(web.log(), ["200 tool"], "what is here with that checksum is not asked for");

    add(Digest::of(b"other"));
    let said = sealift.fails(6, &["build", "-t", "shop:1", &context]);
    assert_says(&said, &["Kubefile:2: ADD --checksum=", "tool: checksum is sha256:", "hint:"]);

    kubefile(&context, &format!("FROM scratch\nCOPY Kubefile .\n\nADD {} bin/\n", web.url("none")));
    assert_says(&sealift.fails(1, &["build", "-t", "shop:2", &context]), &["Kubefile:4: ADD http", "404 not found", "check the URL"]);
    web.put("none", Answer::Status(503));
    web.log();
    assert_says(&sealift.fails(7, &["build", "-t", "shop:2", &context]), &["503 service unavailable"]);
    assert_eq!(web.log().len(), 5, "a server that is busy is asked again");
}

#[test]
fn a_proxy_of_the_environment_is_asked() {
    let proxy = Web::start();
    proxy.put("a/tool", Answer::File(b"by proxy".to_vec()));
    let (sealift, context) = context(&[("Kubefile", "FROM scratch\nADD http://files.example.invalid/a/tool .\n")]);
    let output =
        sealift.command(&["build", "-t", "shop:1", &context]).env("http_proxy", format!("http://{}", proxy.host())).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(proxy.log(), ["200 a/tool"]);
}

#[test]
fn archives_of_every_compression_are_unpacked() {
    let (sealift, context) = context(&[("Kubefile", ""), ("d/a", "a")]);
    let inside = |file: &str| Path::new(&context).join(file).display().to_string();
    let mut text = "FROM scratch\n".to_owned();
    for (flag, name) in [("-z", "a.tar.gz"), ("-J", "b.tar.xz"), ("-j", "c.tbz2"), ("--zstd", "d.tar.zst"), ("-h", "e.tar")] {
        run("tar", &["-C", &inside("d"), flag, "-cf", &inside(name), "a"]);
        text += &format!("ADD {name} {}/\n", &name[..1]);
    }
    kubefile(&context, &text);
    let found = built(&sealift, &context);
    assert_eq!(found.keys().map(String::as_str).filter(|path| path.contains('/')).collect::<Vec<_>>(), ["a/a", "b/a", "c/a", "d/a", "e/a"]);

    fs::write(inside("b.tar.xz"), &fs::read(inside("b.tar.xz")).unwrap()[..40]).unwrap();
    assert_says(&sealift.fails(6, &["build", "-t", "shop:1", &context]), &["Kubefile:3", "b.tar.xz: xz: "]);
}

#[test]
fn owners_are_looked_up_in_the_rootfs() {
    let (sealift, context) = context(&[
        (
            "Kubefile",
            "FROM scratch\nCOPY etc etc\nCOPY --chown=etcd a one/\nCOPY --chown=etcd:wheel a two/\nCOPY --chown=9:wheel a three/\n",
        ),
        ("etc/passwd", "root:x:0:0\netcd:x:52:53\n"),
        ("etc/group", "wheel:x:10:\n"),
        ("a", "a"),
    ]);
    let found = built(&sealift, &context);
    let owner = |path: &str| found[path].rsplit(' ').next().unwrap().to_owned();
    assert_eq!([owner("one/a"), owner("two/a"), owner("three/a")], ["52/53", "52/10", "9/10"]);
    assert_says(&build(&sealift, &context), &["unchanged"]);
    kubefile(&context, "FROM scratch\nCOPY etc etc\nCOPY --chown=nobody a .\n");
    assert_says(&sealift.fails(1, &["build", "-t", "shop:1", &context]), &["Kubefile:3", "no user `nobody`", "hint:"]);
}

#[test]
fn without_its_server_a_build_takes_what_it_has_only_if_it_is_told_to() {
    let web = Web::start();
    web.put("tool", Answer::File(b"one".to_vec()));
    let (sealift, context) = context(&[("Kubefile", "")]);
    kubefile(&context, &format!("FROM scratch\nADD {} bin/\n", web.url("tool")));
    let with = |pull: &'static str| ["build", "-t", "shop:1", "--pull", pull, &context];
    let digest = sealift.ok(&with("never"));
    assert_eq!(web.log(), ["200 tool"], "what was never here has to come from somewhere");
    assert_eq!(sealift.ok(&with("never")), digest);
    assert_eq!(web.log(), [] as [String; 0], "nobody is asked");

    web.put("tool", Answer::Status(503));
    let said = sealift.fails(7, &with("missing"));
    assert_says(&said, &["Kubefile:2: ADD", "503 service unavailable", "hint: `--pull never` uses the last download of the file"]);
    let ended = sealift.run(&with("newer")).expect_code(0);
    assert_says(&ended.stderr, &["503 service unavailable", "using the last download of the file"]);
    assert_eq!(ended.stdout, digest);

    web.put("tool", Answer::Dated(b"two".to_vec(), "Wed, 21 Oct 2015 07:28:00 GMT".to_owned()));
    assert_ne!(sealift.ok(&with("newer")), digest);
    web.log();
    sealift.ok(&with("missing"));
    assert_eq!(web.log(), ["304 tool"], "a server without entity tags is asked by time");
}
