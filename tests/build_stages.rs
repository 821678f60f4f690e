//! Several stages, and files out of stages and images: what `COPY --from` takes, as whom, and when it is done again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::building::{built, context, write};
use common::registry::Settings;
use common::run;
use common::sealift::assert_says;

fn shown(found: &BTreeMap<String, String>) -> Vec<String> {
    found.iter().map(|(path, facts)| format!("{path} {facts}")).collect()
}

#[test]
fn the_last_stage_is_the_image_and_takes_from_others_what_it_names() {
    let (sealift, context) = context(&[
        (
            "Kubefile",
            "FROM scratch AS tools\n\
             COPY --chown=7:8 --chmod=0750 src opt\n\
             RUN ln opt/a opt/b && ln -s opt/a link && mkdir out && cp opt/a out/made && rm opt/gone\n\
             FROM scratch AS unused\n\
             RUN exit 1\n\
             FROM tools AS more\n\
             COPY note.md opt/sub/\n\
             FROM scratch\n\
             COPY --from=tools --exclude=*.md opt /usr/share/\n\
             COPY --from=0 /link /out/* etc/\n\
             COPY --from=more --chown=0:0 opt/sub/note.md notes/\n\
             CMDS [\"true\"]\n",
        ),
        ("src/a", "a"),
        ("src/c.md", "c"),
        ("src/gone", "gone"),
        ("note.md", "note"),
    ]);
    let found = built(&sealift, &context);
    assert_eq!(
        shown(&found),
        [
            "etc drwxr-xr-x 0/0",
            "etc/link -rwxr-x--- 7/8",
            "etc/made -rwxr-x--- 0/0",
            "notes drwxr-xr-x 0/0",
            "notes/note.md -rw-r--r-- 0/0",
            "usr drwxr-xr-x 0/0",
            "usr/share drwxr-x--- 7/8",
            "usr/share/a -rwxr-x--- 7/8",
            "usr/share/b hrwxr-x--- 7/8 link to usr/share/a",
        ]
    );

    let said = sealift.run(&["build", "-t", "shop:1", "--compression", "gzip", &context]).expect_code(0).stderr;
    assert_says(&said, &["unchanged shop:1"]);
    write(&Path::new(&context).join("src/a"), "other");
    let again = sealift.run(&["build", "-t", "shop:1", "--compression", "gzip", &context]).expect_code(0).stderr;
    assert_says(&again, &["built shop:1"]);
}

#[test]
fn files_are_copied_out_of_container_images() {
    let registry = Settings::default().start();
    let (sealift, context) = context(&[("Kubefile", ""), ("lower", "lower")]);
    let layout = sealift.home().join("layout").display().to_string();
    let image = format!("{layout}:tools");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    let inside = |file: &str| Path::new(&context).join(file).display().to_string();
    let bundle = sealift.home().join("bundle").display().to_string();
    run("umoci", &["unpack", "--rootless", "--image", &image, &bundle]);
    write(&Path::new(&bundle).join("rootfs/opt/lower"), "lower");
    run("umoci", &["repack", "--refresh-bundle", "--image", &image, &bundle]);
    fs::remove_file(Path::new(&bundle).join("rootfs/opt/lower")).unwrap();
    for file in ["x.so", "y.so", "z.txt"] {
        write(&Path::new(&bundle).join("rootfs/usr/lib").join(file), file);
    }
    run("umoci", &["repack", "--image", &image, &bundle]);
    let name = registry.name("team/tools:1");
    run("skopeo", &["copy", "--dest-tls-verify=false", &format!("oci:{image}"), &format!("docker://{name}")]);

    let kubefile = format!(
        "ARG TOOLS={name}\nFROM {name} AS mine\nFROM scratch\nCOPY --from={name} usr/lib/*.so lib/\nCOPY --from=mine usr/lib/z.txt .\n"
    );
    write(Path::new(&inside("Kubefile")), &kubefile);
    let found = built(&sealift, &context);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["lib", "lib/x.so", "lib/y.so", "z.txt"]);

    write(Path::new(&inside("Kubefile")), &format!("FROM scratch\nCOPY --from={name} opt/lower .\n"));
    let said = sealift.fails(1, &["build", "-t", "shop:2", &context]);
    assert_says(&said, &["Kubefile:2: COPY --from=", "`opt/lower` does not exist in `"]);
    write(Path::new(&inside("Kubefile")), &format!("FROM {name}\nCOPY lower .\n"));
    assert_says(&sealift.fails(2, &["build", "-t", "shop:2", &context]), &["is not a cluster image", "Kubefile:1:6"]);
}

#[test]
fn any_user_builds_the_same_stages_with_either_way_of_run() {
    let (sealift, context) = context(&[
        (
            "Kubefile",
            "FROM scratch AS made\n\
             COPY root /\n\
             COPY --chown=7:8 note opt/\n\
             RUN echo own > /made && echo x > /opt/x\n\
             FROM scratch\n\
             COPY --from=made made opt/x opt/note etc/\n\
             COPY note .\n\
             RUN cat note etc/made > both\n",
        ),
        ("note", "note\n"),
    ]);
    let root = Path::new(&context).join("root");
    for file in run("ldd", &["/bin/sh"]).split_whitespace().filter(|word| word.starts_with('/')).chain(["/bin/sh"]) {
        let target = root.join(file.trim_start_matches('/'));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(file, target).unwrap();
    }
    run("find", &[&context, "-exec", "touch", "-h", "-d", "@1600000000", "{}", "+"]);
    let mine = sealift.ok(&["build", "-t", "shop:1", &context]);

    let other = tempfile::tempdir().unwrap();
    let at = |path: &str| other.path().join(path).display().to_string();
    run("cp", &["-a", &context, &at("context")]);
    fs::copy(env!("CARGO_BIN_EXE_sealift"), at("sealift")).unwrap();
    run("chown", &["-R", "12345:12345", &at("")]);
    let home = format!("HOME={}", at(""));
    let user = ["--reuid=12345", "--regid=12345", "--clear-groups", "env", "-i", "PATH=/usr/bin:/bin", &home];
    let build = [&at("sealift"), "--store", &at("store"), "build", "-t", "shop:1", &at("context")];
    let theirs = run("setpriv", &[&user[..], &build].concat());
    assert_eq!(mine, theirs);
}

#[test]
fn stages_that_are_not_there_are_told_before_anything_is_built() {
    let (sealift, context) = context(&[(
        "Kubefile",
        "FROM scratch AS build\nFROM scratch\nCOPY --from=biuld a .\nCOPY --from=late a .\nCOPY --from=7 a .\nFROM scratch AS late\n",
    )]);
    let kubefile = format!("{context}/Kubefile");
    for said in [sealift.run(&["lint", &kubefile]).expect_code(2).stdout, sealift.fails(2, &["build", "-t", "shop:1", &context])] {
        assert_says(&said, &["no stage `biuld`", "did you mean `build`", "stage `late` comes only later", "no stage 7"]);
    }
}
