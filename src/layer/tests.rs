use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;
use crate::error::{Kind, kind_of};
use crate::events::{Context, Silent};
use crate::image::Blob;
use crate::store::Store;

const OPTIONS: PackOptions = PackOptions { compression: Compression::Zstd, newest_mtime: i64::MAX, max_layers: 100 };

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("store")).unwrap();
        Fixture { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn pack(&self, tree: &Tree, options: &PackOptions) -> Vec<Layer> {
        pack(tree, options, &self.store, &Context::silent()).unwrap()
    }

    fn unpack(&self, layers: &[Layer], root: &Path) {
        for layer in layers {
            unpack_blob(&self.store, &layer.descriptor, &layer.diff_id, root, &UnpackOptions::default()).unwrap();
        }
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A tree without the paths of its files on this machine, to compare.
fn facts(root: &Path) -> BTreeMap<PathBuf, (Entry, Vec<u8>)> {
    let fact = |(path, mut entry): (PathBuf, Entry)| {
        let bytes = match &entry.source {
            Source::File(source, _) => fs::read(source).unwrap(),
            _ => Vec::new(),
        };
        if let Source::File(source, _) = &mut entry.source {
            *source = PathBuf::new();
        }
        (path, (entry, bytes))
    };
    walk(root).unwrap().into_iter().map(fact).collect()
}

fn set_mtime(path: &Path, seconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A tree with everything that is hard to keep.
fn create_nasty_tree(root: &Path) {
    fs::create_dir_all(root.join("etc/empty")).unwrap();
    fs::create_dir_all(root.join("x".repeat(90)).join("y".repeat(120))).unwrap();
    fs::write(root.join("x".repeat(90)).join("y".repeat(120)).join("z".repeat(110)), "long").unwrap();
    fs::write(root.join("etc/a"), "hello\n").unwrap();
    fs::write(root.join("中文 name"), vec![7; 70_000]).unwrap();
    fs::write(root.join("etc/nothing"), "").unwrap();
    fs::hard_link(root.join("etc/a"), root.join("etc/also a")).unwrap();
    symlink("../../../../etc/passwd", root.join("etc/out")).unwrap();
    symlink("t".repeat(300), root.join("etc/far")).unwrap();
    fs::write(root.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("program"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(root.join("etc"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::set_permissions(root.join("etc/empty"), fs::Permissions::from_mode(0o500)).unwrap();
    for (number, path) in walk(root).unwrap().keys().rev().enumerate() {
        set_mtime(&root.join(path), 1_600_000_000 + number as i64);
    }
    set_mtime(&root.join("etc/a"), -5);
}

#[test]
fn an_unpacked_tree_is_the_one_that_was_packed() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let fixture = Fixture::new();
        create_nasty_tree(&fixture.path("tree"));
        let layers = fixture.pack(&walk(&fixture.path("tree")).unwrap(), &PackOptions { compression, ..OPTIONS });
        assert_eq!(layers.len(), 1);
        fixture.unpack(&layers, &fixture.path("copy"));
        let (tree, copy) = (facts(&fixture.path("tree")), facts(&fixture.path("copy")));
        // without owners set they are the caller's, as those of the tree are
        assert_eq!(copy, tree, "{compression:?}");
        let inode = |path: &str| fs::metadata(fixture.path("copy").join(path)).unwrap().ino();
        assert_eq!(inode("etc/a"), inode("etc/also a"));
        fixture.unpack(&layers, &fixture.path("copy"));
        assert_eq!(facts(&fixture.path("copy")), tree, "once more changes nothing");
    }
}

#[test]
fn bytes_depend_on_nothing_but_the_tree() {
    let fixture = Fixture::new();
    let pack_with = |root: &Path, jobs: usize| {
        let ctx = Context::new(std::sync::Arc::new(Silent), Default::default(), jobs.try_into().unwrap());
        let tree = walk(root).unwrap();
        pack(&tree, &OPTIONS, &fixture.store, &ctx).unwrap()
    };
    let names: Vec<String> = (0..40).map(|number| format!("{number}")).collect();
    let write_files = |root: &Path, names: &mut dyn Iterator<Item = &String>| {
        fs::create_dir_all(root).unwrap();
        for name in names {
            let mut file = fs::File::create(root.join(name)).unwrap();
            // large enough for several chunks
            let seed: u64 = name.parse::<u64>().unwrap() + 1;
            let block: Vec<u8> = (0..1u64 << 17).flat_map(|i| (i.wrapping_mul(seed * 0x9e37_79b9) >> 3).to_le_bytes()).collect();
            (0..4).for_each(|_| file.write_all(&block).unwrap());
            drop(file);
            set_mtime(&root.join(name), 1_600_000_000);
        }
    };
    write_files(&fixture.path("one"), &mut names.iter());
    write_files(&fixture.path("other"), &mut names.iter().rev());
    let one = pack_with(&fixture.path("one"), 1);
    assert!(one.len() > 1);
    assert_eq!(pack_with(&fixture.path("other"), 4), one);
    fixture.unpack(&one, &fixture.path("copy"));
    assert!(facts(&fixture.path("copy")) == facts(&fixture.path("one")));
}

#[test]
fn times_are_clamped_and_owners_are_as_given() {
    let fixture = Fixture::new();
    let mut entry =
        Entry { source: Source::Bytes(b"x".to_vec()), mode: 0o600, uid: 3_000_000, gid: 7, mtime: 2_000_000_000, xattrs: BTreeMap::new() };
    let tree = Tree::from([("f".into(), entry.clone())]);
    let layers = fixture.pack(&tree, &PackOptions { newest_mtime: 1000, compression: Compression::None, ..OPTIONS });
    let bytes = fixture.store.read(&Blob::try_from(&layers[0].descriptor).unwrap()).unwrap();
    let mut members = tar_reader::TarReader::new(&bytes[..]);
    let member = members.next().unwrap().unwrap();
    assert_eq!((member.mtime, member.uid, member.gid, member.mode), (1000, 3_000_000, 7, 0o600));
    entry.mtime = 1000;
    assert_eq!(fixture.pack(&Tree::from([("f".into(), entry)]), &PackOptions { compression: Compression::None, ..OPTIONS }), layers);
}

#[test]
fn owners_and_capabilities_are_kept_for_root() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::new();
    // cap_net_raw+ep, version 2
    let value = vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let xattrs = BTreeMap::from([(CAPABILITY.to_owned(), value)]);
    let tree = Tree::from([(
        "ping".into(),
        Entry { source: Source::Bytes(b"x".to_vec()), mode: 0o2755, uid: 12, gid: 34, mtime: 5, xattrs: xattrs.clone() },
    )]);
    let layers = fixture.pack(&tree, &OPTIONS);
    let options = UnpackOptions { owners: true, max_bytes: 0 };
    unpack_blob(&fixture.store, &layers[0].descriptor, &layers[0].diff_id, &fixture.path("root"), &options).unwrap();
    let entry = walk(&fixture.path("root")).unwrap().remove(Path::new("ping")).unwrap();
    assert_eq!((entry.mode, entry.uid, entry.gid, entry.mtime, entry.xattrs), (0o2755, 12, 34, 5, xattrs));
}

/// A tar of raw members: kind, name, link target or content.
fn tar_of(members: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, text) in members {
        let mut header = Header::new_ustar();
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name.as_bytes());
        let content = if *kind == EntryType::Regular { text.as_bytes() } else { b"" };
        if content.is_empty() {
            ustar.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.extend_from_slice(tar_writer::padding(content.len() as u64));
    }
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

fn unpack_tar(tar: &[u8], root: &Path) -> anyhow::Result<()> {
    unpack(tar, Compression::None, &Digest::of(tar), root, &UnpackOptions::default())
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

#[test]
fn nothing_is_written_outside_the_root() {
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let away = outside.path().to_str().unwrap().to_owned();
    let absolute = format!("{away}/evil");
    let through = format!("{away}/victim");
    let up = "../../../../../../../../../..".to_owned() + &away;
    for (case, members) in [
        ("dotdot", vec![(FILE, "../evil", "x")]),
        ("dotdot inside", vec![(DIR, "a/", ""), (FILE, "a/../../evil", "x")]),
        ("absolute", vec![(FILE, absolute.as_str(), "x")]),
        ("through an absolute link", vec![(LINK, "l", away.as_str()), (FILE, "l/evil", "x")]),
        ("through a relative link", vec![(LINK, "l", up.as_str()), (FILE, "l/evil", "x")]),
        ("through two links", vec![(LINK, "a", "."), (LINK, "b", away.as_str()), (FILE, "a/b/evil", "x")]),
        ("directory through a link", vec![(LINK, "l", away.as_str()), (DIR, "l/evil/", "")]),
        ("link through a link", vec![(LINK, "l", away.as_str()), (LINK, "l/evil", "/")]),
        ("hard link to outside", vec![(HARD, "h", through.as_str()), (FILE, "h", "overwritten")]),
        ("hard link by dotdot", vec![(HARD, "h", "../victim")]),
        ("hard link through a link", vec![(LINK, "l", away.as_str()), (HARD, "h", "l/victim"), (FILE, "h", "overwritten")]),
        ("whiteout through a link", vec![(LINK, "l", away.as_str()), (FILE, "l/.wh.victim", "")]),
        ("opaque through a link", vec![(LINK, "l", away.as_str()), (FILE, "l/.wh..wh..opq", "")]),
        ("whiteout of the parent", vec![(DIR, "a/", ""), (FILE, "a/.wh...", "")]),
        ("whiteout of itself", vec![(DIR, "a/", ""), (FILE, "a/.wh..", "")]),
        ("device through a link", vec![(LINK, "l", away.as_str()), (EntryType::Fifo, "l/evil", "")]),
    ] {
        let root = outside.path().join("root");
        let error = unpack_tar(&tar_of(&members), &root).expect_err(case);
        assert_eq!(kind_of(&error), Kind::Verification, "{case}: {error:#}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{case}");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1, "{case}: {error:#}");
    }
}

#[test]
fn links_that_lead_out_are_replaced_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let target = victim.to_str().unwrap();
    let members =
        [(LINK, "f", target), (FILE, "f", "inside"), (LINK, "d", dir.path().to_str().unwrap()), (DIR, "d/", ""), (FILE, "d/g", "in")];
    unpack_tar(&tar_of(&members), &dir.path().join("root")).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(fs::read_to_string(dir.path().join("root/f")).unwrap(), "inside");
    assert_eq!(fs::read_to_string(dir.path().join("root/d/g")).unwrap(), "in");
    // a link that stays inside is followed, as lower layers with `lib -> usr/lib` want it
    let members = [(DIR, "usr/lib/", ""), (LINK, "lib", "usr/lib"), (FILE, "lib/x", "x")];
    unpack_tar(&tar_of(&members), &dir.path().join("root")).unwrap();
    assert_eq!(fs::read_to_string(dir.path().join("root/usr/lib/x")).unwrap(), "x");
}

fn listing(root: &Path) -> Vec<String> {
    walk(root).unwrap().keys().map(|path| path.display().to_string()).collect()
}

#[test]
fn whiteouts_hide_older_layers_in_any_order() {
    let lower = [(DIR, "d/", ""), (FILE, "d/a", "1"), (FILE, "d/b", "1"), (DIR, "d/s/", ""), (FILE, "d/s/x", "1"), (FILE, "top", "1")];
    for (case, upper, expected) in [
        ("file", vec![(FILE, "d/.wh.a", "")], vec!["d", "d/b", "d/s", "d/s/x", "top"]),
        ("tree", vec![(FILE, ".wh.d", "")], vec!["top"]),
        ("missing", vec![(FILE, "no/.wh.such", "")], vec!["d", "d/a", "d/b", "d/s", "d/s/x", "top"]),
        ("opaque first", vec![(DIR, "d/", ""), (FILE, "d/.wh..wh..opq", ""), (FILE, "d/n", "2")], vec!["d", "d/n", "top"]),
        (
            "opaque last",
            vec![(FILE, "d/n", "2"), (FILE, "d/s/y", "2"), (FILE, "d/.wh..wh..opq", "")],
            vec!["d", "d/n", "d/s", "d/s/y", "top"],
        ),
        ("of what the layer writes", vec![(FILE, "d/a", "2"), (FILE, "d/.wh.a", "")], vec!["d", "d/a", "d/b", "d/s", "d/s/x", "top"]),
        ("file for directory", vec![(FILE, "d", "2")], vec!["d", "top"]),
        ("directory for file", vec![(DIR, "top/", ""), (FILE, "top/n", "2")], vec!["d", "d/a", "d/b", "d/s", "d/s/x", "top", "top/n"]),
        ("other AUFS marks", vec![(FILE, ".wh..wh.plnk", "")], vec!["d", "d/a", "d/b", "d/s", "d/s/x", "top"]),
    ] {
        let root = tempfile::tempdir().unwrap();
        unpack_tar(&tar_of(&lower), root.path()).unwrap();
        unpack_tar(&tar_of(&upper), root.path()).unwrap();
        assert_eq!(listing(root.path()), expected, "{case}");
        if root.path().join("d").is_dir() {
            assert_eq!(fs::metadata(root.path().join("d")).unwrap().mtime(), 1, "{case}: the directory keeps its time");
        }
    }
}

#[test]
fn the_last_of_two_entries_with_one_name_wins() {
    let root = tempfile::tempdir().unwrap();
    let members =
        [(FILE, "a", "first"), (HARD, "b", "a"), (FILE, "a", "second"), (DIR, "c/", ""), (FILE, "c/x", "1"), (FILE, "c", "now a file")];
    unpack_tar(&tar_of(&members), root.path()).unwrap();
    let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
    assert_eq!((read("a"), read("b"), read("c")), ("second".into(), "first".into(), "now a file".into()));
}

#[test]
fn damaged_layers_are_refused() {
    let tar = tar_of(&[(FILE, "a", &"content ".repeat(100)), (FILE, "b", "more")]);
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    let with = |mut bytes: Vec<u8>, tail: &[u8]| {
        bytes.extend_from_slice(tail);
        bytes
    };
    let cut = |bytes: Vec<u8>, by: usize| bytes[..bytes.len() - by].to_vec();
    let junk = b"junk".repeat(300);
    let trailing = with(tar.clone(), b"not zeros");
    let short = tar[..700].to_vec();
    use Compression::{Gzip, None as Plain, Zstd};
    for (case, compression, bytes, diff_id) in [
        ("says gzip, is tar", Gzip, tar.clone(), &tar),
        ("says tar, is gzip", Plain, gzip(&tar), &tar),
        ("says zstd, is gzip", Zstd, gzip(&tar), &tar),
        ("no tar", Gzip, gzip(&junk), &junk),
        ("garbage after gzip", Gzip, with(gzip(&tar), b"garbage!"), &tar),
        ("garbage after zstd", Zstd, with(zstd(&tar), b"garbage!"), &tar),
        ("gzip cut off", Gzip, cut(gzip(&tar), 10), &tar),
        ("zstd cut off", Zstd, cut(zstd(&tar), 10), &tar),
        ("tar cut off", Plain, short.clone(), &short),
        ("something after the tar", Plain, trailing.clone(), &trailing),
        ("another diff_id", Zstd, zstd(&tar), &junk),
        ("empty gzip file", Gzip, Vec::new(), &Vec::new()),
    ] {
        let root = tempfile::tempdir().unwrap();
        let error = unpack(&bytes[..], compression, &Digest::of(diff_id), root.path(), &UnpackOptions::default()).expect_err(case);
        assert_eq!(kind_of(&error), Kind::Verification, "{case}: {error:#}");
    }
    for (case, compression, bytes) in [
        ("two gzip members", Gzip, with(gzip(&tar[..600]), &gzip(&tar[600..]))),
        ("two zstd frames", Zstd, with(zstd(&tar[..600]), &zstd(&tar[600..]))),
    ] {
        let root = tempfile::tempdir().unwrap();
        unpack(&bytes[..], compression, &Digest::of(&tar), root.path(), &UnpackOptions::default()).expect(case);
        assert_eq!(listing(root.path()), ["a", "b"]);
    }
}

#[test]
fn a_decompression_bomb_stops_at_the_limit() {
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 1 << 30), 3).unwrap();
    let root = tempfile::tempdir().unwrap();
    let options = UnpackOptions { owners: false, max_bytes: 10 << 20 };
    let error = unpack(&bomb[..], Compression::Zstd, &Digest::of(b""), root.path(), &options).unwrap_err();
    assert!(format!("{error:#}").contains("more than the limit of 10485760 bytes"), "{error:#}");
}

#[test]
fn a_damaged_blob_is_named_when_it_is_unpacked() {
    let fixture = Fixture::new();
    create_nasty_tree(&fixture.path("tree"));
    let layers = fixture.pack(&walk(&fixture.path("tree")).unwrap(), &OPTIONS);
    let blob = Blob::try_from(&layers[0].descriptor).unwrap();
    let path = fixture.store.blob_path(&blob.digest);
    let good = fs::read(&path).unwrap();
    for place in [0, good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[place] ^= 0x10;
        fs::write(&path, bad).unwrap();
        let error =
            unpack_blob(&fixture.store, &layers[0].descriptor, &layers[0].diff_id, &fixture.path("copy"), &UnpackOptions::default())
                .unwrap_err();
        assert_eq!(kind_of(&error), Kind::Verification, "{place}: {error:#}");
        assert!(format!("{error:#}").contains(&blob.digest.to_string()), "{place}: {error:#}");
    }
}

#[test]
fn a_file_that_changed_since_it_was_seen_is_an_error() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("tree")).unwrap();
    fs::write(fixture.path("tree/f"), "12345").unwrap();
    let tree = walk(&fixture.path("tree")).unwrap();
    for content in ["1234", "123456"] {
        fs::write(fixture.path("tree/f"), content).unwrap();
        let error = pack(&tree, &OPTIONS, &fixture.store, &Context::silent()).unwrap_err();
        assert!(format!("{error:#}").contains("changed while it was being packed"), "{error:#}");
    }
    assert_eq!(fixture.store.blobs().unwrap(), []);
}

#[test]
fn files_are_read_as_they_are_after_all_layers() {
    let fixture = Fixture::new();
    let layer = |members: &[(EntryType, &str, &str)]| {
        let blob = fixture.store.put(&tar_of(members)).unwrap();
        oci_spec::image::Descriptor::new(oci_spec::image::MediaType::ImageLayer, blob.size, blob.digest)
    };
    let layers = vec![
        layer(&[(FILE, "etc/a", "old"), (FILE, "etc/b", "gone"), (FILE, "opt/c", "hidden"), (FILE, "big", "x")]),
        layer(&[
            (FILE, "./etc/a", "new"),
            (FILE, "etc/.wh.b", ""),
            (FILE, "opt/.wh..wh..opq", ""),
            (FILE, "opt/d", "d"),
            (HARD, "etc/e", "etc/a"),
        ]),
    ];
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest().to_string()).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let blob = fixture.store.put(config.to_string().as_bytes()).unwrap();
    let config = oci_spec::image::Descriptor::new(oci_spec::image::MediaType::ImageConfig, blob.size, blob.digest);
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest: oci_spec::image::ImageManifest = serde_json::from_value(manifest).unwrap();
    let files = read_files(&fixture.store, &manifest, |path| !path.starts_with("big")).unwrap();
    let files: Vec<_> = files.iter().map(|(path, bytes)| (path.to_str().unwrap(), std::str::from_utf8(bytes).unwrap())).collect();
    assert_eq!(files, [("etc/a", "new"), ("etc/e", "new"), ("opt/d", "d")]);
    unpack_image(&fixture.store, &manifest, &fixture.path("root"), &UnpackOptions::default(), &Context::silent()).unwrap();
    assert_eq!(listing(&fixture.path("root")), ["big", "etc", "etc/a", "etc/e", "opt", "opt/d"]);
}

/// What a generated tree has under one name.
#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>, u32),
    Directory(BTreeMap<String, Node>),
    Link(String),
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..2000), 0u32..0o1000).prop_map(|(bytes, mode)| Node::File(bytes, mode)),
        "[a-z/.]{1,120}".prop_map(Node::Link),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| prop::collection::btree_map("[a-c.]{1,2}x|[a-d]", inner, 0..6).prop_map(Node::Directory))
}

fn tree() -> impl Strategy<Value = BTreeMap<String, Node>> {
    prop::collection::btree_map("[a-d]", node(), 0..5)
}

fn create_tree(root: &Path, nodes: &BTreeMap<String, Node>, mtime: i64) {
    fs::create_dir_all(root).unwrap();
    for (name, node) in nodes {
        let path = root.join(name);
        match node {
            Node::File(bytes, mode) => {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(mode | 0o400)).unwrap();
            }
            Node::Directory(inner) => create_tree(&path, inner, mtime),
            Node::Link(target) => symlink(target, &path).unwrap(),
        }
        set_mtime(&path, mtime + name.len() as i64);
    }
}

#[test]
fn a_snapshot_sees_writes_that_keep_size_and_time() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(dir.path().join(name), "one").unwrap();
        set_mtime(&dir.path().join(name), 1000);
    }
    let before = snapshot(dir.path()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::write(dir.path().join("a"), "two").unwrap();
    set_mtime(&dir.path().join("a"), 1000);
    fs::rename(dir.path().join("b"), dir.path().join("d")).unwrap();
    set_mtime(dir.path(), 1000);
    let changes = before.changes(&snapshot(dir.path()).unwrap());
    let paths: Vec<_> = changes.iter().map(|(path, entry)| (path.to_str().unwrap(), entry.source == Source::Whiteout)).collect();
    assert_eq!(paths, [("a", false), ("b", true), ("d", false)]);
}

/// What a generated layer has under one name.
#[derive(Debug, Clone)]
enum LayerNode {
    Whiteout,
    File(u8),
    Link(u8),
    Directory { opaque: bool, inner: BTreeMap<String, LayerNode> },
}

fn layer_node() -> impl Strategy<Value = LayerNode> {
    let leaf = prop_oneof![Just(LayerNode::Whiteout), (0u8..4).prop_map(LayerNode::File), (0u8..4).prop_map(LayerNode::Link)];
    leaf.prop_recursive(2, 12, 3, |inner| {
        (any::<bool>(), prop::collection::btree_map("[a-c]", inner, 0..3))
            .prop_map(|(opaque, inner)| LayerNode::Directory { opaque, inner })
    })
}

/// Several layers, and whether each has a hard link to its file `a`, if it has one.
fn stack() -> impl Strategy<Value = Vec<(BTreeMap<String, LayerNode>, bool)>> {
    prop::collection::vec((prop::collection::btree_map("[a-c]", layer_node(), 1..4), any::<bool>()), 1..5)
}

fn add_nodes(below: &Path, nodes: &BTreeMap<String, LayerNode>, tree: &mut Tree) {
    for (name, node) in nodes {
        let path = below.join(name);
        let source = match node {
            LayerNode::Whiteout => Source::Whiteout,
            LayerNode::File(byte) => Source::Bytes(vec![*byte; 10]),
            LayerNode::Link(number) => Source::Symlink(format!("nowhere-{number}").into()),
            LayerNode::Directory { opaque: true, .. } => Source::OpaqueDirectory,
            LayerNode::Directory { .. } => Source::Directory,
        };
        if let LayerNode::Directory { inner, .. } = node {
            add_nodes(&path, inner, tree);
        }
        tree.insert(path, Entry { source, mode: 0o755, uid: 0, gid: 0, mtime: 1, xattrs: BTreeMap::new() });
    }
}

/// A comparable description of a path: the digest of a file's bytes, the target of a link.
fn describe(source: &Source, digest: Option<Digest>) -> String {
    match source {
        Source::Symlink(target) => format!("to {}", target.display()),
        _ => digest.map_or_else(|| "directory".to_owned(), |digest| digest.to_string()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn unpacking_gives_what_was_packed(nodes in tree()) {
        let fixture = Fixture::new();
        create_tree(&fixture.path("tree"), &nodes, 1000);
        let layers = fixture.pack(&walk(&fixture.path("tree")).unwrap(), &OPTIONS);
        fs::create_dir(fixture.path("copy")).unwrap();
        fixture.unpack(&layers, &fixture.path("copy"));
        prop_assert_eq!(facts(&fixture.path("copy")), facts(&fixture.path("tree")));
    }

    #[test]
    fn applying_a_diff_gives_the_other_tree(before in tree(), after in tree()) {
        let fixture = Fixture::new();
        create_tree(&fixture.path("before"), &before, 1000);
        create_tree(&fixture.path("after"), &after, 2000);
        let changes = diff(&walk(&fixture.path("before")).unwrap(), &walk(&fixture.path("after")).unwrap());
        let layers = fixture.pack(&changes, &OPTIONS);
        fixture.unpack(&layers, &fixture.path("before"));
        prop_assert_eq!(facts(&fixture.path("before")), facts(&fixture.path("after")));
    }

    /// Also with whiteouts, opaque directories, entries that replace others, and hard links.
    #[test]
    fn layers_list_what_they_unpack_to(stack in stack()) {
        let fixture = Fixture::new();
        let mut layers = Vec::new();
        for (nodes, twice) in &stack {
            let mut tree = Tree::new();
            add_nodes(Path::new(""), nodes, &mut tree);
            if let Some(first) = tree.get(Path::new("a")).filter(|first| *twice && matches!(first.source, Source::Bytes(_))) {
                let again = Entry { source: Source::Hardlink("a".into()), ..first.clone() };
                tree.insert("d".into(), again);
            }
            layers.extend(fixture.pack(&tree, &OPTIONS));
        }
        fs::create_dir(fixture.path("root")).unwrap();
        fixture.unpack(&layers, &fixture.path("root"));
        let is_file = |source: &Source| !matches!(source, Source::Directory | Source::Symlink(_));
        let read = |path: &Path| Digest::of(&fs::read(fixture.path("root").join(path)).unwrap());
        let found = |(path, entry): (PathBuf, Entry)| {
            let digest = is_file(&entry.source).then(|| read(&path));
            (path, describe(&entry.source, digest))
        };
        let unpacked: BTreeMap<PathBuf, String> = walk(&fixture.path("root")).unwrap().into_iter().map(found).collect();
        let list = super::list_files(&fixture.store, &layers, &Context::silent()).unwrap();
        let listed: BTreeMap<PathBuf, String> =
            list.into_iter().map(|(path, one)| (path, describe(&one.entry.source, one.digest))).collect();
        prop_assert_eq!(listed, unpacked);
    }

    /// Whatever the layers do to each other, a tree that is linked is the one that is unpacked.
    #[test]
    fn a_linked_tree_is_the_one_that_is_unpacked(older in stack(), newer in stack(), shared in 0usize..5) {
        let fixture = Fixture::new();
        let pack_all = |stack: &[(BTreeMap<String, LayerNode>, bool)]| -> Vec<Layer> {
            let packed = stack.iter().flat_map(|(nodes, _)| {
                let mut tree = Tree::new();
                add_nodes(Path::new(""), nodes, &mut tree);
                fixture.pack(&tree, &OPTIONS)
            });
            packed.collect()
        };
        let (old, own) = (pack_all(&older), pack_all(&newer));
        let new: Vec<Layer> = old.iter().take(shared).cloned().chain(own).chain(old.iter().skip(shared).cloned()).collect();
        let older = unpack_over(&fixture, "old", &old, &[], &mut Vec::new());
        let linked = unpack_over(&fixture, "linked", &new, &[older], &mut Vec::new());
        let plain = unpack_over(&fixture, "plain", &new, &[], &mut Vec::new());
        prop_assert_eq!(facts(&linked.root), facts(&plain.root));
    }

    #[test]
    fn damaged_archives_are_errors_not_panics(place in 0usize..5000, value in any::<u8>()) {
        let mut tar = tar_of(&[(DIR, "d/", ""), (FILE, "d/a", &"x".repeat(1000)), (LINK, "l", "d"), (HARD, "h", "d/a")]);
        let place = place % tar.len();
        tar[place] = value;
        let root = tempfile::tempdir().unwrap();
        unpack_tar(&tar, root.path()).ok();
    }
}

/// Packs a tree for each of `layers`, unpacks them onto `name` beside the older trees, and returns it as an older tree.
fn unpack_over(fixture: &Fixture, name: &str, layers: &[Layer], older: &[OlderTree], log: &mut Vec<String>) -> OlderTree {
    let manifest = manifest_of(&fixture.store, layers);
    let root = fixture.path(name);
    let options = UnpackOptions { owners: is_root(), max_bytes: 0 };
    let record = unpack_with(&fixture.store, &manifest, &root, older, &options, &mut |line| log.push(line.to_owned())).unwrap();
    OlderTree { root, layers: serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap() }
}

fn manifest_of(store: &Store, layers: &[Layer]) -> oci_spec::image::ImageManifest {
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    let config = serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = store.put_json(oci_spec::image::MediaType::ImageConfig, &config).unwrap();
    let layers: Vec<_> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
    oci_spec::image::ImageManifestBuilder::default().schema_version(2u32).config(config).layers(layers).build().unwrap()
}

fn tree_with(files: &[(&str, &str)]) -> Tree {
    let entry = |source, mode| Entry { source, mode, uid: 0, gid: 0, mtime: 7, xattrs: BTreeMap::new() };
    let mut tree = Tree::new();
    for (path, text) in files {
        for parent in Path::new(path).ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
            tree.insert(parent.to_owned(), entry(Source::Directory, 0o755));
        }
        tree.insert(path.into(), entry(Source::Bytes(text.as_bytes().to_vec()), 0o644));
    }
    tree
}

fn inode(root: &Path, path: &str) -> u64 {
    fs::metadata(root.join(path)).unwrap().ino()
}

#[test]
fn what_an_older_tree_has_is_linked_and_what_was_changed_there_is_unpacked_again() {
    let fixture = Fixture::new();
    let [base, one, two] =
        [&[("bin/big", "program"), ("etc/conf", "a"), ("etc/own", "b")][..], &[("app/file", "1"), ("etc/own", "B")], &[("app/file", "2")]]
            .map(|files| fixture.pack(&tree_with(files), &OPTIONS).remove(0));
    let mut log = Vec::new();
    let first = unpack_over(&fixture, "first", &[base.clone(), one], &[], &mut log);
    assert!(log.iter().all(|line| line.starts_with("unpack layer ")), "{log:?}");
    log.clear();
    let second = unpack_over(&fixture, "second", &[base.clone(), two.clone()], &[first], &mut log);
    assert!(log[0].starts_with("unpack layer 1 of 2") && log[1].starts_with("unpack layer 2 of 2"), "{log:?}");
    let (a, b) = (fixture.path("first"), fixture.path("second"));
    assert_eq!(inode(&a, "bin/big"), inode(&b, "bin/big"));
    assert_eq!((fs::read(b.join("etc/own")).unwrap(), fs::read(a.join("etc/own")).unwrap()), (b"b".to_vec(), b"B".to_vec()));

    // nothing of the base was replaced in the second tree: its blob is not read
    fs::remove_file(fixture.store.blob_path(&Blob::try_from(&base.descriptor).unwrap().digest)).unwrap();
    log.clear();
    let third = unpack_over(&fixture, "third", std::slice::from_ref(&base), &[second], &mut log);
    assert!(log[0].starts_with("link layer 1 of 1"), "{log:?}");
    assert_eq!(listing(&fixture.path("third")), ["bin", "bin/big", "etc", "etc/conf", "etc/own"]);
    assert_eq!(fs::metadata(fixture.path("third").join("etc")).unwrap().mtime(), 7);
    fixture.pack(&tree_with(&[("bin/big", "program"), ("etc/conf", "a"), ("etc/own", "b")]), &OPTIONS);

    // written in place, replaced, another mode, removed: none of it is in the next tree
    let change: [&dyn Fn(&Path); 4] = [
        &|root| fs::write(root.join("etc/conf"), "x").unwrap(),
        &|root| {
            fs::remove_file(root.join("etc/conf")).unwrap();
            fs::write(root.join("etc/conf"), "x").unwrap();
            set_mtime(&root.join("etc/conf"), 7);
        },
        &|root| fs::set_permissions(root.join("etc/conf"), fs::Permissions::from_mode(0o600)).unwrap(),
        &|root| fs::remove_file(root.join("etc/conf")).unwrap(),
    ];
    let mut older = third;
    for (number, change) in change.iter().enumerate() {
        change(&older.root);
        let big = inode(&older.root, "bin/big");
        older = unpack_over(&fixture, &format!("changed-{number}"), std::slice::from_ref(&base), &[older], &mut log);
        let conf = older.root.join("etc/conf");
        assert_eq!((fs::read(&conf).unwrap(), fs::metadata(&conf).unwrap().mode() & 0o777), (b"a".to_vec(), 0o644), "{number}");
        assert_eq!(inode(&older.root, "bin/big"), big, "{number}");
    }
}

#[test]
fn blank_fields_of_a_header_are_zero() {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    tar.append_data(&mut header, "a", &b"x"[..]).unwrap();
    let bytes = tar.into_inner().unwrap();
    let root = tempfile::tempdir().unwrap();
    unpack(&bytes[..], Compression::None, &Digest::of(&bytes), root.path(), &UnpackOptions::default()).unwrap();
    assert_eq!(std::fs::read(root.path().join("a")).unwrap(), b"x");
}
