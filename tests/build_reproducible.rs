//! The same inputs are the same image: in another directory, on another file system, as another user, at another time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::building::write;
use common::run;
use common::sealift::Sealift;

const KUBEFILE: &str = "FROM scratch AS tools\nCOPY tool bin/\nRUN echo made > made\n\
    FROM scratch\nCOPY --from=tools bin/tool usr/bin/\nCOPY etc etc\nAPP web local://web.yaml\n\
    RUN cp etc/a copied && ln copied again && mkdir dir && touch dir/file && ln -s dir link\n";

/// The files of a context, in the order of writing.
fn files(kubefile: &str) -> Vec<(&'static str, String)> {
    let fixed = [("tool", "tool"), ("etc/a", "a"), ("etc/deep/b", "b"), ("etc/z", "z"), ("web.yaml", "kind: ConfigMap\napiVersion: v1\n")];
    let mut files: Vec<_> = fixed.into_iter().map(|(path, text)| (path, text.to_owned())).collect();
    files.push(("Kubefile", kubefile.to_owned()));
    files
}

/// Writes a context; all is from `time`.
fn context(dir: &Path, files: &[(&str, String)], time: &str) -> String {
    files.iter().for_each(|(path, text)| write(&dir.join(path), text));
    fs::hard_link(dir.join("etc/a"), dir.join("etc/same")).unwrap();
    std::os::unix::fs::symlink("deep/b", dir.join("etc/link")).unwrap();
    let dir = dir.display().to_string();
    run("chmod", &["-R", "u=rwX,go=rX", &dir]);
    run("find", &[&dir, "-exec", "touch", "-h", "-m", "-d", time, "{}", "+"]);
    dir
}

/// Runs a script with `sealift` as `$0` and a context as `$1`; what it printed last.
fn scripted(sealift: &Sealift, script: &str, context: &str) -> String {
    let command = sealift.command(&[]);
    let mut shell = Command::new("sh");
    shell.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))));
    let output = shell.args(["-euc", script]).arg(command.get_program()).arg(context).output().unwrap();
    assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

const BUILD: &str = "exec \"$0\" build -t shop:1 \"$1\"";

#[test]
fn surroundings_do_not_show_in_the_image() {
    let sealift = Sealift::new();
    let here = context(&sealift.home().join("context"), &files(KUBEFILE), "@1600000000");
    let expected = scripted(&sealift, BUILD, &here);
    let user = "mkdir -p \"$HOME\"/u; cp \"$0\" \"$HOME\"/u/sealift; cp -a \"$1\" \"$HOME\"/u/context; \
        chown -R 12345:12345 \"$HOME\"; cd \"$HOME\"/u; unset SEALIFT_STORE SEALIFT_HOME; \
        exec setpriv --reuid=12345 --regid=12345 --clear-groups ./sealift build -t shop:1 context";
    let tmpfs = "mkdir \"$HOME\"/ram; mount -t tmpfs none \"$HOME\"/ram; cp -a \"$1\" \"$HOME\"/ram/c; \
        export SEALIFT_STORE=\"$HOME\"/ram/store; \"$0\" build -t shop:1 \"$HOME\"/ram/c";
    for (name, script) in [
        ("a umask that hides everything", format!("umask 077; {BUILD}")),
        ("one that hides nothing", format!("umask 0; {BUILD}")),
        ("another time zone", format!("export TZ=Pacific/Kiritimati; {BUILD}")),
        ("another language", format!("export LC_ALL=tr_TR.UTF-8 LANG=tr_TR.UTF-8; {BUILD}")),
        ("one thing at once", "exec \"$0\" -j 1 build -t shop:1 \"$1\"".to_owned()),
        ("eight", "exec \"$0\" -j 8 build -t shop:1 \"$1\"".to_owned()),
        ("another working directory", "cd \"$1\"; exec \"$0\" build -t shop:1 .".to_owned()),
        ("an ordinary user", user.to_owned()),
        ("another file system", format!("exec unshare --mount sh -euc '{tmpfs}' \"$0\" \"$1\"")),
    ] {
        let other = Sealift::new();
        let mut files = files(KUBEFILE);
        files.reverse();
        let there = context(&other.home().join("some/where/else"), &files, "@1600000000");
        assert_eq!(scripted(&other, &script, &there), expected, "{name}");
    }
}

#[test]
fn what_run_makes_has_no_time_of_its_own_also_beside_files_of_the_future() {
    let mut digests = Vec::new();
    for time in ["@1600000000", "@4000000000"] {
        for _ in 0..2 {
            let sealift = Sealift::new();
            let context = context(&sealift.home().join("context"), &files(KUBEFILE), time);
            digests.push(scripted(&sealift, BUILD, &context));
            // times count in seconds
            std::thread::sleep(std::time::Duration::from_millis(1050));
        }
    }
    assert_eq!(digests[0], digests[1]);
    assert_eq!(digests[2], digests[3], "with files of the future");
    assert_ne!(digests[0], digests[2], "what the files say of themselves counts");
}

#[test]
fn commands_that_see_another_year_make_the_same_layers() {
    let layers = |faketime: &[&str], year: &str| {
        let sealift = Sealift::new();
        let kubefile = format!(
            "FROM scratch\nARG LD_PRELOAD\nARG FAKETIME\nCOPY etc etc\nRUN test \"$(date +%Y)\" {year} && mkdir dir && cp etc/a dir/b && touch new\n"
        );
        let context = context(&sealift.home().join("context"), &files(&kubefile), "@1600000000");
        sealift.ok(&[&["build", "-t", "shop:1", &context], faketime].concat());
        sealift.json(&["inspect", "--layers", "shop:1"])
    };
    let library = run("sh", &["-c", "find /usr/lib -name libfaketime.so.1"]);
    let library = format!("LD_PRELOAD={}", library.lines().next().expect("Debian's package faketime is installed"));
    let later = layers(&["--build-arg", &library, "--build-arg", "FAKETIME=@2037-01-02 03:04:05"], "= 2037");
    let digests = |layers: &serde_json::Value| -> Vec<String> {
        layers.as_array().unwrap().iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(digests(&later), digests(&layers(&[], "!= 2037")));
}

#[test]
fn checkouts_of_any_day_are_the_same_with_source_date_epoch() {
    let kubefile = format!("{KUBEFILE}ARG SOURCE_DATE_EPOCH\nRUN echo $SOURCE_DATE_EPOCH > epoch\n");
    let build = |time: &str, script: &str| {
        let sealift = Sealift::new();
        let context = context(&sealift.home().join("context"), &files(&kubefile), time);
        scripted(&sealift, script, &context)
    };
    let by_environment = format!("export SOURCE_DATE_EPOCH=1500000000; {BUILD}");
    let by_argument = "exec \"$0\" build -t shop:1 --build-arg SOURCE_DATE_EPOCH=1500000000 \"$1\"";
    let expected = build("@1600000000", &by_environment);
    assert_eq!(build("@1700000000", &by_environment), expected);
    assert_eq!(build("@4000000000", by_argument), expected);
    assert_ne!(build("@1600000000", &format!("export SOURCE_DATE_EPOCH=1500000001; {BUILD}")), expected);
}
