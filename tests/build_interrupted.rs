//! Builds that are interrupted, killed, run side by side, or have no room: nothing is left of them, and the next one finishes them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use common::building::write;
use common::sealift::{Sealift, assert_says};
use common::{images, run};

const KUBEFILE: &str = "FROM scratch AS one\nCOPY tree /\nRUN mkdir -p etc && for n in 1 2 3 4 5 6 7 8 9; do echo $n > etc/$n; sleep 0.02; done\n\
    FROM scratch\nCOPY --from=one etc etc\nADD in.tar opt/\nRUN cp -r etc copy\nAPP web local://web.yaml\n";

/// A context of some MiB, all from one time.
fn context(dir: &Path, kubefile: &str) -> String {
    write(&dir.join("Kubefile"), kubefile);
    write(&dir.join("web.yaml"), "kind: ConfigMap\napiVersion: v1\n");
    fs::create_dir_all(dir.join("tree")).unwrap();
    for number in 0..4 {
        fs::write(dir.join(format!("tree/{number}")), images::noise(number, 3 << 20)).unwrap();
    }
    let dir = dir.display().to_string();
    fix_times(&dir);
    run("tar", &["-C", &dir, "-cf", &format!("{dir}/in.tar"), "tree/0"]);
    fix_times(&dir);
    dir
}

fn fix_times(dir: &str) {
    run("find", &[dir, "-exec", "touch", "-h", "-m", "-d", "@1600000000", "{}", "+"]);
}

/// What builds have left in the store's work directory.
fn left(sealift: &Sealift) -> Vec<String> {
    let work = sealift.store_root().join("build/work");
    let names = fs::read_dir(work).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name != "lock").collect()
}

fn signal(child: &Child, signal: &str) {
    run("kill", &[signal, &child.id().to_string()]);
}

#[test]
fn an_interrupt_in_a_run_leaves_no_process_mount_or_directory() {
    let sealift = Sealift::new();
    let context =
        context(&sealift.home().join("context"), "FROM scratch\nCOPY tree /\nRUN sleep 3600.54321 & echo going on; sleep 3600.54321\n");
    let child = sealift.command(&["build", "-t", "shop:1", &context]).spawn().unwrap();
    let sleeping = || !Command::new("pgrep").args(["-f", "^sleep 3600.54321"]).output().unwrap().stdout.is_empty();
    common::wait_until("the command runs", sleeping);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert_says(&said, &["RUN | going on", "Kubefile:3: RUN sleep", "interrupted", "hint: run the same command again"]);
    common::wait_until("the command's processes end", || !sleeping());
    assert_eq!(left(&sealift), [] as [String; 0]);
    let store = sealift.store_root().display().to_string();
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&store));
    assert_eq!(sealift.ok(&["images", "-q"]), "");
}

#[test]
fn a_build_that_was_killed_ten_times_is_the_same_in_the_end() {
    let undisturbed = Sealift::new();
    let there = context(&undisturbed.home().join("context"), KUBEFILE);
    let expected = undisturbed.ok(&["build", "-t", "shop:1", &there]);

    let sealift = Sealift::new();
    let context = context(&sealift.home().join("context"), KUBEFILE);
    let mut killed = 0;
    for number in 0..10_u64 {
        // what was finished is not done again, so that each one would be killed later
        if number % 3 == 2 {
            fs::remove_dir_all(sealift.store_root().join("build/steps")).ok();
        }
        let mut child = sealift.command(&["build", "-t", "shop:1", &context]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15 + number * 7919 % 470));
        child.kill().unwrap();
        killed += u32::from(child.wait().unwrap().signal() == Some(9));
    }
    assert!(killed > 0, "none was killed while it ran");
    assert_eq!(sealift.ok(&["build", "-t", "shop:1", &context]), expected);
    assert_eq!(left(&sealift), [] as [String; 0]);
    sealift.ok(&["fsck"]);
}

#[test]
fn builds_side_by_side_in_one_store_do_not_disturb_each_other() {
    let sealift = Sealift::new();
    let same = context(&sealift.home().join("same"), KUBEFILE);
    let other = context(&sealift.home().join("other"), &format!("{KUBEFILE}RUN echo other > other\n"));
    let builds: Vec<(Child, &str)> = [("a:1", &same), ("a:1", &same), ("b:1", &same), ("c:1", &other)]
        .into_iter()
        .map(|(name, context)| (sealift.command(&["build", "-t", name, context]).spawn().unwrap(), name))
        .collect();
    let mut digests = Vec::new();
    for (child, name) in builds {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        digests.push(String::from_utf8(output.stdout).unwrap());
    }
    assert!(digests[0] == digests[1] && digests[0] == digests[2] && digests[0] != digests[3], "{digests:?}");
    assert_eq!(left(&sealift), [] as [String; 0]);
    sealift.ok(&["fsck"]);
    assert_eq!(sealift.ok(&["images", "-q"]).lines().count(), 3);
}

#[test]
fn no_room_and_no_right_to_write_are_told_and_leave_the_store_whole() {
    let sealift = Sealift::new();
    let context = context(&sealift.home().join("context"), "FROM scratch\nCOPY tree /\n");
    // a disk of 8 MiB, then a larger one, then one that may only be read; in a mount namespace of the test
    let script = "mkdir m; mount -t tmpfs -o size=8m none m; exec 2>&1; export SEALIFT_STORE=$PWD/m/s\n\
        \"$0\" build -t shop:1 \"$1\" || echo \"code $?\"; find m -size +64k\n\
        mount -o remount,size=64m m; \"$0\" build -t shop:1 \"$1\" && \"$0\" fsck\n\
        mount -o remount,ro m; \"$0\" build -t shop:1 \"$1\"; echo 'COPY web.yaml /' >> \"$1\"/Kubefile\n\
        \"$0\" build -t shop:1 \"$1\" || echo \"code $?\"; \"$0\" images -q | wc -l\n";
    let mut command = sealift.command(&[]);
    let program = command.get_program().to_owned();
    command = {
        let mut shell = Command::new("unshare");
        shell.env_clear().envs(command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))));
        shell.args(["--mount", "sh", "-uc", script]).arg(program).arg(&context).current_dir(sealift.home());
        shell
    };
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_says(
        &said,
        &[
            "Kubefile:2: COPY tree /: no disk space for blobs",
            "hint: `sealift prune`",
            "code 1\n✓ pack",
            "built shop:1",
            "unchanged shop:1",
            "Kubefile:3: COPY web.yaml /: store ",
            "Read-only file system",
            "use a writable store with `--store DIR`",
            "code 1\n1\n",
        ],
    );
}
