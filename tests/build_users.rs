//! RUN as root, as a user with ids of his own (`/etc/subuid`), as one without: the same files of the same owners, or a reason why not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output, Stdio};

use common::building::built;
use common::namespace::UserNamespace;
use common::run;
use common::sealift::{Sealift, assert_says};

/// A context whose files have one time.
fn context(files: &[(&str, &str)]) -> (Sealift, String) {
    let (sealift, context) = common::building::context(files);
    run("find", &[&context, "-exec", "touch", "-h", "-m", "-d", "@1600000000", "{}", "+"]);
    (sealift, context)
}

/// An ordinary user's place: the binary, a context, a store.
struct User {
    dir: tempfile::TempDir,
}

impl User {
    fn new(context: &str) -> Self {
        let user = User { dir: tempfile::tempdir().unwrap() };
        fs::set_permissions(user.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        run("cp", &["-a", context, &user.at("context")]);
        fs::copy(env!("CARGO_BIN_EXE_sealift"), user.at("sealift")).unwrap();
        run("chown", &["-R", "12345:12345", &user.at("")]);
        user
    }

    fn at(&self, path: &str) -> String {
        self.dir.path().join(path).display().to_string()
    }

    /// The build as this user, in a mount namespace where he has the ids of these lines of `/etc/subuid`.
    fn build(&self, ids: &str) -> Output {
        let script = "cp -a /etc \"$HOME\"/etc; mount --bind \"$HOME\"/etc /etc; \
            echo 'builder:x:12345:12345::/:/bin/sh' >> /etc/passwd; echo 'builder:x:12345:' >> /etc/group; \
            printf '%s' \"$1\" > /etc/subuid; printf '%s' \"$1\" > /etc/subgid; cd /; rm -rf \"$HOME\"/.local; \
            exec setpriv --reuid=12345 --regid=12345 --clear-groups \
                \"$HOME\"/sealift build -t shop:1 --compression gzip -o json \"$HOME\"/context";
        self.command(&["unshare", "--mount", "sh", "-euc", script, "sh", ids]).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(args[0]);
        command.args(&args[1..]).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.at(""));
        command.stdin(Stdio::null());
        command
    }
}

fn digest(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["digest"].as_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const IDS: &str = "12345:200000:65536\n";

#[test]
fn files_of_others_stay_theirs_whoever_builds() {
    let (sealift, context) = context(&[
        (
            "Kubefile",
            "FROM scratch\nCOPY --chown=7:8 opt opt\n\
             RUN echo more >> opt/changed && rm opt/replaced && echo new > opt/replaced && echo new > opt/made && chmod 4755 opt/tool\n",
        ),
        ("opt/changed", "one"),
        ("opt/replaced", "one"),
        ("opt/tool", "tool"),
        ("opt/not", "touched"),
    ]);
    let found = built(&sealift, &context);
    let facts = ["opt", "opt/changed", "opt/replaced", "opt/made", "opt/tool"].map(|path| found[path].as_str());
    assert_eq!(facts, ["drwxr-xr-x 7/8", "-rw-r--r-- 7/8", "-rw-r--r-- 0/0", "-rw-r--r-- 0/0", "-rwsr-xr-x 7/8"]);
    let expected = sealift.json(&["build", "-t", "shop:1", "--compression", "gzip", &context])["digest"].clone();
    for (name, ids) in [("with ids of his own", IDS), ("without", "")] {
        let user = User::new(&context);
        assert_eq!(digest(&user.build(ids)), expected, "{name}");
        let left = run("sh", &["-c", "find \"$1\" -path '*/build/work/*' ! -name lock", "sh", &user.at(".local")]);
        assert_eq!(left, "", "nothing of the build is left");
    }
}

#[test]
fn commands_give_files_away_where_the_user_has_ids() {
    let (sealift, context) = context(&[
        (
            "Kubefile",
            "FROM scratch\nCOPY tool bin/\n\
             RUN mkdir -p var/web && chown 33:34 var/web && install -o 33 -g 34 -m 2750 bin/tool var/web/tool && \
                 chown 65000 bin/tool && chmod 4755 bin/tool && cp bin/tool bin/net && /sbin/setcap cap_net_raw+ep bin/net\n\
             RUN setpriv --reuid=33 --regid=34 --clear-groups sh -c 'umask 077; echo secret > var/web/secret'\n\
             RUN test \"$(stat -c %u:%g:%a var/web/secret)\" = 33:34:600 && echo more >> var/web/secret && /sbin/getcap bin/net > caps\n",
        ),
        ("tool", "tool"),
    ]);
    let found = built(&sealift, &context);
    let facts = ["var/web", "var/web/tool", "var/web/secret", "bin/tool"].map(|path| found.get(path).map_or("none", String::as_str));
    assert_eq!(facts, ["drwxr-xr-x 33/34", "-rwxr-s--- 33/34", "-rw------- 33/34", "-rwsr-xr-x 65000/0"]);
    let root = sealift.home().join("root");
    sealift.ok(&["unpack", "shop:1", root.to_str().unwrap()]);
    assert_says(&fs::read_to_string(root.join("caps")).unwrap(), &["cap_net_raw=ep"]);
    assert_says(&run("/sbin/getcap", &[root.join("bin/net").to_str().unwrap()]), &["cap_net_raw=ep"]);

    let user = User::new(&context);
    let expected = sealift.json(&["build", "-t", "shop:1", "--compression", "gzip", &context])["digest"].clone();
    assert_eq!(digest(&user.build(IDS)), expected);
    let refused = user.build("");
    assert_eq!(refused.status.code(), Some(1));
    assert_says(&said(&refused), &["Kubefile:3: RUN mkdir", "Invalid argument", "RUN has 1 user id here", "--add-subuids"]);
    let few = said(&user.build("12345:200000:1000\n"));
    assert_says(&few, &["Kubefile:3: RUN mkdir", "Invalid argument", "RUN has 1000 user ids here"]);
}

#[test]
fn a_kernel_that_forbids_user_namespaces_is_told_with_the_remedy() {
    let (_sealift, context) = context(&[("Kubefile", "FROM scratch\nCOPY a a\nRUN true\n"), ("a", "a")]);
    let user = User::new(&context);
    // in it no further ones may be made
    let namespace = UserNamespace::new();
    let script = "echo 0 > /proc/sys/user/max_user_namespaces; \
        exec setpriv --reuid=12345 --regid=12345 --clear-groups \"$HOME\"/sealift build -t shop:1 \"$HOME\"/context";
    let enter = namespace.enter(&[]);
    let command: Vec<&str> = enter.iter().map(String::as_str).chain([script]).collect();
    let output = user.command(&command).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let parts =
        ["Kubefile:3: RUN true", "cannot set up the sandbox for RUN", "hint: ", "sysctl -w user.max_user_namespaces=", "or build as root"];
    assert_says(&said(&output), &parts);
}
