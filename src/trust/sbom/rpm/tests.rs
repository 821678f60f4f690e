use std::io::Write as _;

use proptest::prelude::*;

use super::*;

// Two packages that rpmbuild made. The databases around them are of their own makers: Packages.db of rpm's rpmpkg.c, Packages of
// db5.3_load, rpmdb.sqlite of sqlite3; all with the smallest pages, so that headers lie in several.
const DATABASES: [(&str, &[u8]); 4] = [
    ("sqlite", include_bytes!("testing/rpmdb.sqlite")),
    ("ndb", include_bytes!("testing/Packages.db")),
    ("Berkeley DB", include_bytes!("testing/Packages")),
    ("Berkeley DB, big-endian", include_bytes!("testing/Packages.big-endian")),
];

fn read(bytes: &[u8]) -> Result<Vec<Package>> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Ok(packages(file)?.into_iter().collect())
}

#[test]
fn every_kind_of_database_has_the_packages_that_were_put_in() {
    for (kind, bytes) in DATABASES {
        let found = read(bytes).unwrap();
        let actual: Vec<String> = found.iter().map(|package| format!("{} {}", package.url(None), package.full_version())).collect();
        let expected = ["pkg:rpm/no-epoch@3-1?arch=noarch 3-1", "pkg:rpm/shop-tool@1.4~rc1-3.el9?arch=noarch&epoch=2 2:1.4~rc1-3.el9"];
        assert_eq!(actual, expected, "{kind}");
        assert_eq!(found[1].license.as_deref(), Some("MIT and GPL-2.0"), "{kind}");
        assert_eq!(found[1].header.as_deref(), Some("928f38519e0a6c3a506490447d193679a0f4adcbdc553a60d490d11e0a5a8a0b"), "{kind}");
    }
}

#[test]
fn package_urls_name_the_system() {
    let found = read(DATABASES[0].1).unwrap();
    for (id, expected) in [
        ("fedora", "pkg:rpm/fedora/no-epoch@3-1?arch=noarch&distro=fedora-9"),
        ("rhel", "pkg:rpm/redhat/no-epoch@3-1?arch=noarch&distro=rhel-9"),
        ("opensuse-leap", "pkg:rpm/opensuse/no-epoch@3-1?arch=noarch&distro=opensuse-leap-9"),
    ] {
        let system = super::super::packages::System { id: id.to_owned(), version: Some("9".to_owned()) };
        assert_eq!(found[0].url(Some(&system)), expected);
    }
}

/// A header with these texts.
fn header(texts: &[(u32, &str)]) -> Vec<u8> {
    let (mut index, mut data) = (Vec::new(), Vec::new());
    for (tag, text) in texts {
        for number in [*tag, 6, data.len() as u32, 1] {
            index.extend(number.to_be_bytes());
        }
        data.extend(text.as_bytes());
        data.push(0);
    }
    [&(texts.len() as u32).to_be_bytes()[..], &(data.len() as u32).to_be_bytes()[..], &index, &data].concat()
}

#[test]
fn trusted_keys_are_skipped_and_truncated_headers_are_errors() {
    let key = header(&[(1000, "gpg-pubkey"), (1001, "4bd6ec30"), (1002, "56e2a1b1")]);
    assert_eq!(header::package(&key).unwrap(), None);
    let whole = header(&[(1000, "a"), (1001, "1"), (1002, "2"), (1022, "x86_64")]);
    assert_eq!(header::package(&whole).unwrap().unwrap().version, "1-2");
    for (bytes, expected) in [
        (header(&[(1000, "a")]), "a header without a version"),
        (whole[..whole.len() - 1].to_vec(), "a header of 4 entries and 13 bytes of data in 84 bytes"),
        (Vec::new(), "a header of less than 8 bytes"),
        (vec![0xff; 64], "a header of 4294967295 entries"),
    ] {
        let error = header::package(&bytes).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn damaged_databases_say_what_is_wrong() {
    let [sqlite, ndb, bdb, _] = DATABASES.map(|(_, bytes)| bytes);
    let with = |bytes: &[u8], at: usize, new: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    for (name, bytes, expected) in [
        ("empty", Vec::new(), "unknown format of an rpm database"),
        ("text", b"Packages: none of them\n".to_vec(), "unknown format of an rpm database"),
        ("sqlite, half", sqlite[..sqlite.len() / 2].to_vec(), "lie beyond its end"),
        ("sqlite, odd pages", with(sqlite, 16, &[3, 7]), "unsupported page size of 775 bytes"),
        ("ndb, half", ndb[..ndb.len() - 1500].to_vec(), "lie beyond its end"),
        ("ndb, new version", with(ndb, 4, &[1]), "unsupported version 1"),
        ("ndb, moved", with(ndb, 0x28, &[0x20]), "the header of package 1 is not where it should be"),
        ("bdb, half", bdb[..bdb.len() / 2].to_vec(), "lie beyond its end"),
        ("bdb, encrypted", with(bdb, 24, &[1]), "it is encrypted"),
    ] {
        let error = format!("{:#}", read(&bytes).unwrap_err());
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn the_newest_format_in_a_directory_is_read() {
    let there = ["var/lib/rpm/Packages", "var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/Packages.db"];
    let found = current(|path| there.iter().any(|known| path == Path::new(known)));
    assert_eq!(found, [Path::new(there[1]), Path::new(there[2])]);
    for (path, expected) in [("var/lib/rpm/Packages", true), ("var/lib/rpm/Name", false), ("usr/bin/rpm", false)] {
        assert_eq!(is_database(Path::new(path)), expected, "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Whatever is in the file, reading it ends without a panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        kind in 0usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = DATABASES[kind].1.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
        let _ = read(&bytes);
    }

    #[test]
    fn any_header_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), entries in 0u8..8) {
        let _ = header::package(&bytes);
        let _ = header::package(&[&[0, 0, 0, entries, 0, 0, 0, 64][..], &bytes].concat());
    }
}
