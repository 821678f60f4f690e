//! `load` and `save` killed at random moments: the store is sound after each, and the next command works.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::images::cluster_image;
use common::sealift::Sealift;

const KILLS: u32 = 8;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A moment that is another one each time: from `step` sixteenths of a millisecond upwards, spread by the clock.
fn moment(step: u32) -> Duration {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    Duration::from_micros(u64::from(clock % 20_000) + u64::from(step) * 6_000)
}

/// Starts the command and kills it with SIGKILL after a while, unless it was faster.
fn kill(mut command: Command, after: Duration) {
    let mut child = command.spawn().unwrap();
    std::thread::sleep(after);
    child.kill().ok();
    child.wait().unwrap();
}

/// A sealift whose image has layers of these sizes, and two container images.
fn with_image(layers: &[usize]) -> Sealift {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "docker.io/library/shop:1", 1, layers, &["docker.io/library/nginx:1", "quay.io/a/b:2"]);
    sealift
}

#[test]
fn a_load_killed_at_any_moment_leaves_a_sound_store_and_the_next_one_works() {
    let one = with_image(&[3_000_000; 6]);
    let (archive, parts) = (one.home().join("shop.tar"), one.home().join("parts.tar"));
    one.ok(&["save", "-o", text(&archive), "shop:1"]);
    one.ok(&["save", "-o", text(&parts), "--split", "1M", "--parity", "1", "shop:1"]);
    for input in [archive, parts] {
        let other = Sealift::new();
        for step in 0..KILLS {
            kill(other.command(&["load", "-i", text(&input)]), moment(step));
            // a command killed while it made the store leaves none
            other.ok(&["fsck", "--layers"]);
        }
        assert_eq!(other.ok(&["load", "-i", text(&input)]), "shop:1\n");
        other.ok(&["fsck", "--layers"]);
        assert_eq!(other.json(&["inspect", "shop:1"]), one.json(&["inspect", "shop:1"]));
        assert_eq!(other.json(&["prune"])["blobs"], 0, "nothing came in that the image does not have");
    }
}

#[test]
fn a_save_killed_at_any_moment_leaves_the_last_archive_and_the_next_one_works() {
    let one = with_image(&[3_000_000; 6]);
    let (archive, split) = (one.home().join("out/shop.tar"), one.home().join("split/shop.tar"));
    for file in [&archive, &split] {
        std::fs::create_dir(file.parent().unwrap()).unwrap();
    }
    let save: [&[&str]; 2] =
        [&["save", "-o", text(&archive), "shop:1"], &["save", "-o", text(&split), "--split", "1M", "--parity", "2", "shop:1"]];
    one.ok(save[0]);
    let good = std::fs::read(&archive).unwrap();
    for step in 0..KILLS {
        kill(one.command(save[0]), moment(step));
        assert!(std::fs::read(&archive).unwrap() == good, "the archive in its place is a whole one");
        kill(one.command(save[1]), moment(step));
        one.ok(&["fsck"]);
    }
    one.ok(save[0]);
    one.ok(save[1]);
    for file in [&archive, &split] {
        let other = Sealift::new();
        assert_eq!(other.ok(&["load", "-i", text(file)]), "shop:1\n");
        other.ok(&["fsck"]);
        let left: Vec<_> = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".new-")), "the next save clears up: {left:?}");
    }
}
