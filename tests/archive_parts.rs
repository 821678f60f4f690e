//! Delta archives, and split archives with missing parts.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};

use common::images::{cluster_image, noise};
use common::run;
use common::sealift::{Sealift, assert_says};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A new version of a workload's image: one container image and one small layer are other ones.
fn two_versions() -> Sealift {
    let sealift = Sealift::new();
    let same = [600_000, 500_000];
    cluster_image(&sealift.store(), "docker.io/library/shop:1", 1, &same, &["quay.io/a/one:1", "quay.io/a/two:1"]);
    // the same rootfs layers (their content goes by the seed), one layer more, and one container image more
    let layers = [same[0], same[1], 300_000];
    cluster_image(&sealift.store(), "docker.io/library/shop:2", 1, &layers, &["quay.io/a/one:1", "quay.io/a/two:1", "quay.io/a/three:1"]);
    sealift
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().len()
}

#[test]
fn a_delta_has_the_changed_blobs_and_little_else() {
    let one = two_versions();
    let (base, delta) = (one.home().join("base.tar"), one.home().join("delta.tar"));
    one.ok(&["save", "-o", text(&base), "shop:1"]);
    one.ok(&["save", "-o", text(&delta), "--base", "shop:1", "shop:2"]);
    let before: u64 = one.store().blobs().unwrap().iter().map(|blob| blob.size).sum();
    let other = Sealift::new();
    let refused = other.fails(1, &["load", "-i", text(&delta)]);
    assert_says(&refused, &["depends on shop:1 (sha256:", "not in the store", "hint: load or pull shop:1"]);
    assert_eq!(other.ok(&["images", "-q"]), "", "nothing is named");
    other.ok(&["load", "-i", text(&base)]);
    let after: u64 = other.store().blobs().unwrap().iter().map(|blob| blob.size).sum();
    assert!(size(&delta) * 10 <= (before - after) * 11, "{} bytes for {} changed", size(&delta), before - after);
    assert_eq!(other.ok(&["load", "-i", text(&delta)]), "shop:2\n");
    other.ok(&["fsck"]);
    assert_eq!(other.json(&["inspect", "shop:2"]), one.json(&["inspect", "shop:2"]));
}

#[test]
fn an_inventory_decides_what_a_delta_leaves_out() {
    let one = two_versions();
    let (base, delta, inventory) = (one.home().join("base.tar"), one.home().join("delta.tar"), one.home().join("site.json"));
    one.ok(&["save", "-o", text(&base), "shop:1"]);
    let site = Sealift::new();
    site.ok(&["load", "-i", text(&base)]);
    site.ok(&["inventory", "-o", text(&inventory)]);
    assert_eq!(site.ok(&["inventory"]), std::fs::read_to_string(&inventory).unwrap());
    one.ok(&["save", "-o", text(&delta), "--for", text(&inventory), "shop:2"]);
    assert!(size(&delta) * 2 < size(&base), "{} of {}", size(&delta), size(&base));
    site.ok(&["load", "-i", text(&delta)]);
    site.ok(&["fsck"]);
    // a site that has lost what it had
    let empty = Sealift::new();
    assert_says(&empty.fails(1, &["load", "-i", text(&delta)]), &["when the inventory was written", "hint: write a new inventory"]);
    std::fs::write(&inventory, "{}").unwrap();
    assert_says(&one.fails(2, &["save", "-o", text(&delta), "--for", text(&inventory), "shop:2"]), &["site.json", "not an inventory"]);
}

#[test]
fn blobs_on_all_hosts_are_left_out_even_if_the_store_lost_them() {
    let one = two_versions();
    let (delta, inventory) = (one.home().join("delta.tar"), one.home().join("site.json"));
    // a site whose store is new, and whose two hosts have different things
    let site = Sealift::new();
    let mut known: serde_json::Value = serde_json::from_str(&site.ok(&["inventory"])).unwrap();
    let all = one.store().reachable_blobs().unwrap();
    let layer = all.iter().max_by_key(|blob| blob.size).unwrap();
    // of the rootfs, and of a container image
    let workload = all.iter().find(|blob| (100_000..200_000).contains(&blob.size)).unwrap();
    known["hosts"] = serde_json::json!([{"name": "h1", "blobs": all}, {"name": "h2", "blobs": [layer, workload]}]);
    std::fs::write(&inventory, known.to_string()).unwrap();
    one.ok(&["save", "-o", text(&delta), "--for", text(&inventory), "shop:1"]);
    let said = site.run(&["load", "-i", text(&delta)]).expect_code(0).stderr;
    assert_says(&said, &["1 blobs are only on the hosts"]);
    assert!(site.store().has(layer), "a run looks into the rootfs");
    assert!(!site.store().has(workload) && site.json(&["inspect", "shop:1"])["digest"] == one.json(&["inspect", "shop:1"])["digest"]);
    assert_says(&site.run(&["fsck"]).expect_code(6).stdout, &[&workload.digest.to_string(), "missing"]);
}

/// An image of about 1 MB, saved in parts of 200 kB; the archive's path, which the parts' names begin with.
fn in_parts(parity: &str) -> (Sealift, PathBuf) {
    let sealift = Sealift::new();
    cluster_image(&sealift.store(), "docker.io/library/shop:1", 1, &[400_000, 400_000], &["quay.io/a/one:1", "quay.io/a/two:1"]);
    let whole = sealift.home().join("shop.tar");
    sealift.ok(&["save", "-o", text(&whole), "--split", "200000", "--parity", parity, "shop:1"]);
    (sealift, whole)
}

fn part(whole: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}.{ending}", text(whole)))
}

fn damage(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn parts_load_directly_and_joined_are_the_archive() {
    let (one, whole) = in_parts("0");
    let full = one.home().join("full.tar");
    one.ok(&["save", "-o", text(&full), "shop:1"]);
    let joined: Vec<u8> = (1..=9)
        .map(|number| part(&whole, &format!("{number:03}")))
        .take_while(|path| path.exists())
        .flat_map(|path| std::fs::read(path).unwrap())
        .collect();
    assert!(joined == std::fs::read(&full).unwrap());
    for named in ["001", "003", "parts"] {
        let other = Sealift::new();
        assert_eq!(other.ok(&["load", "-i", text(&part(&whole, named))]), "shop:1\n", "{named}");
        other.ok(&["fsck"]);
    }
    let other = Sealift::new();
    assert_eq!(other.ok(&["load", "-i", text(&whole)]), "shop:1\n", "the name without a number does too");
    let joined_file = one.home().join("joined.tar");
    std::fs::write(&joined_file, joined).unwrap();
    run("skopeo", &["inspect", &format!("oci-archive:{}:docker.io/library/shop:1", text(&joined_file))]);
    // without the list, what is there is read in order
    std::fs::remove_file(part(&whole, "parts")).unwrap();
    let other = Sealift::new();
    assert_says(&other.run(&["load", "-i", text(&part(&whole, "001"))]).expect_code(0).stderr, &["the list of parts is missing"]);
}

#[test]
fn a_damaged_part_is_named_and_only_it_is_copied_again() {
    let (_one, whole) = in_parts("0");
    let other = Sealift::new();
    let good = std::fs::read(part(&whole, "004")).unwrap();
    damage(&part(&whole, "004"));
    assert_says(&other.fails(6, &["load", "-i", text(&part(&whole, "001"))]), &["`shop.tar.004`", "copy these parts again"]);
    assert_eq!(other.ok(&["images", "-q"]), "");
    std::fs::remove_file(part(&whole, "004")).unwrap();
    assert_says(&other.fails(1, &["load", "-i", text(&part(&whole, "001"))]), &["`shop.tar.004` is missing", "5 of 6 parts are loaded"]);
    std::fs::write(part(&whole, "004"), good).unwrap();
    for number in [1, 2, 3, 5, 6] {
        std::fs::remove_file(part(&whole, &format!("{number:03}"))).unwrap();
    }
    let loaded = other.json(&["load", "-i", text(&part(&whole, "004"))]);
    assert!(loaded["knownBlobs"].as_u64() > Some(0), "{loaded}");
    other.ok(&["fsck"]);
}

#[test]
fn parts_load_from_one_disk_after_another_in_any_order() {
    let (one, whole) = in_parts("0");
    let other = Sealift::new();
    for (number, left) in [(3, 5), (6, 4), (1, 3), (2, 2), (5, 1)] {
        let disk = one.home().join(format!("disk-{number}"));
        std::fs::create_dir(&disk).unwrap();
        let ending = format!("{number:03}");
        for ending in [ending.as_str(), "parts"] {
            std::fs::copy(part(&whole, ending), disk.join(format!("shop.tar.{ending}"))).unwrap();
        }
        let said = other.fails(1, &["load", "-i", text(&disk.join(format!("shop.tar.{ending}")))]);
        assert_says(&said, &["missing", &format!("{} of 6 parts are loaded", 6 - left), "from the next disk", "`shop.tar.004`"]);
        assert!(!said.contains(&format!("`shop.tar.{ending}`")), "{said}");
        assert_eq!(other.ok(&["images", "-q"]), "", "nothing is named before all is in");
        std::fs::remove_dir_all(disk).unwrap();
    }
    let disk = one.home().join("last");
    std::fs::create_dir(&disk).unwrap();
    for ending in ["004", "parts"] {
        std::fs::copy(part(&whole, ending), disk.join(format!("shop.tar.{ending}"))).unwrap();
    }
    assert_eq!(other.ok(&["load", "-i", text(&disk.join("shop.tar.parts"))]), "shop:1\n");
    other.ok(&["fsck", "--layers"]);
    let pruned = other.json(&["prune"]);
    assert_eq!((&pruned["blobs"], &pruned["leftovers"]), (&0.into(), &0.into()), "no piece is left over");
}

#[test]
fn as_many_parts_may_be_missing_or_damaged_as_there_are_parity_parts() {
    let (_one, whole) = in_parts("2");
    let first = part(&whole, "001");
    std::fs::remove_file(&first).unwrap();
    let other = Sealift::new();
    let said = other.run(&["load", "-i", text(&first)]).expect_code(0).stderr;
    assert_says(&said, &["rebuilt from parity, missing or damaged: `shop.tar.001`"]);
    other.ok(&["fsck"]);
    damage(&part(&whole, "003"));
    let other = Sealift::new();
    let said = other.run(&["load", "-i", text(&first)]).expect_code(0).stderr;
    assert_says(&said, &["`shop.tar.001`, `shop.tar.003`"]);
    other.ok(&["fsck"]);
    std::fs::write(part(&whole, "p02"), noise(9, 200_000)).unwrap();
    let other = Sealift::new();
    assert_says(&other.fails(6, &["load", "-i", text(&first)]), &["`shop.tar.001`, `shop.tar.003`, `shop.tar.p02`", "2 parity parts"]);
    let last = (1..).map(|number| part(&whole, &format!("{number:03}"))).skip(1).take_while(|path| path.exists()).last().unwrap();
    assert_ne!(size(&last), 200_000, "the last part is shorter, and replaced all the same");
    let (_one, whole) = in_parts("1");
    std::fs::remove_file(part(&whole, last.extension().unwrap().to_str().unwrap())).unwrap();
    let other = Sealift::new();
    other.ok(&["load", "-i", text(&part(&whole, "001"))]);
    other.ok(&["fsck"]);
}

#[test]
fn a_smaller_archive_of_the_same_name_leaves_no_parts_of_the_larger_one() {
    let (one, whole) = in_parts("2");
    one.ok(&["save", "-o", text(&whole), "--split", "1M", "shop:1"]);
    assert!(!part(&whole, "003").exists() && !part(&whole, "p01").exists());
    let left: Vec<_> = std::fs::read_dir(one.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".new-")), "{left:?}");
    Sealift::new().ok(&["load", "-i", text(&part(&whole, "001"))]);
    assert_says(&one.fails(2, &["save", "-o", text(&whole), "--split", "1K", "shop:1"]), &["at least 64K"]);
    assert_says(&one.fails(2, &["save", "-o", "-", "--split", "1M", "shop:1"]), &["stdout"]);
    assert_says(&one.fails(2, &["save", "-o", text(&whole), "--split", "1X", "shop:1"]), &["unit"]);
    std::fs::write(part(&whole, "parts"), noise(1, 100)).unwrap();
    assert_says(&one.fails(6, &["load", "-i", text(&part(&whole, "001"))]), &["shop.tar.parts", "not a list of parts"]);
}
