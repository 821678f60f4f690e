//! The rpm packages in an SBOM: those that rpm itself lists, from databases that rpm and Berkeley DB wrote.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::cyclonedx::assert_is_cyclonedx;
use common::run;
use common::sealift::Sealift;
use serde_json::Value;

/// Name, epoch, and how many files: a header with many is larger than the pages of every database.
const PACKAGES: [(&str, u32, usize); 3] = [("shop-tool", 2, 0), ("shop-data", 0, 900), ("shop-docs", 0, 1)];

/// Makes a package with rpmbuild; its file.
fn package(dir: &Path, (name, epoch, files): (&str, u32, usize)) -> PathBuf {
    let epoch = if epoch == 0 { String::new() } else { format!("Epoch: {epoch}\n") };
    let spec = format!(
        "Name: {name}\n{epoch}Version: 1.4~rc1\nRelease: 3.el9\nSummary: {name}\nLicense: MIT and GPL-2.0\nBuildArch: noarch\n\
         %description\n{name}\n%install\nmkdir -p %{{buildroot}}/opt/{name}\n\
         for n in $(seq {files}); do echo $n > %{{buildroot}}/opt/{name}/file-$n; done\n%files\n/opt/{name}\n"
    );
    let file = dir.join(format!("{name}.spec"));
    fs::write(&file, spec).unwrap();
    let top = format!("_topdir {}", dir.display());
    run("rpmbuild", &["-bb", "--quiet", "--define", &top, "--define", "_rpmdir %{_topdir}", file.to_str().unwrap()]);
    dir.join(format!("noarch/{name}-1.4~rc1-3.el9.noarch.rpm"))
}

/// What rpm lists of a database, as versions of the bill and as package URLs.
fn listed(database: &Path, backend: &str) -> BTreeSet<(String, String)> {
    let format = "%{NAME} %|EPOCH?{%{EPOCH}}:{0}| %{VERSION}-%{RELEASE}\\n";
    let (path, backend) = (database.to_str().unwrap(), format!("_db_backend {backend}"));
    let text = run("rpm", &["--dbpath", path, "--define", &backend, "-qa", "--qf", format]);
    let line = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (front, behind) = match words[1] {
            "0" => (String::new(), String::new()),
            epoch => (format!("{epoch}:"), format!("&epoch={epoch}")),
        };
        let url = format!("pkg:rpm/rocky/{}@{}?arch=noarch&distro=rocky-9.4{behind}", words[0], words[2]);
        (format!("{front}{}", words[2]), url)
    };
    text.lines().map(line).collect()
}

/// The packages in the bill of an image with this file in it.
fn billed(sealift: &Sealift, database: &Path, place: &str) -> BTreeSet<(String, String)> {
    let context = tempfile::tempdir().unwrap();
    let write = |path: &str, content: &[u8]| {
        fs::create_dir_all(context.path().join(path).parent().unwrap()).unwrap();
        fs::write(context.path().join(path), content).unwrap();
    };
    write("Kubefile", b"FROM scratch\nCOPY tree /\n");
    write("tree/etc/os-release", b"ID=\"rocky\"\nVERSION_ID=\"9.4\"\n");
    write(&format!("tree/{place}"), &fs::read(database).unwrap());
    sealift.ok(&["build", "-t", "shop:1", context.path().to_str().unwrap()]);
    let bom = sealift.json(&["sbom", "shop:1"]);
    assert_is_cyclonedx(&bom);
    let libraries = bom["components"].as_array().unwrap().iter().filter(|component| component["type"] == "library");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    libraries.map(|library| (text(&library["version"]), text(&library["purl"]))).collect()
}

/// Writes the headers of an SQLite database into a hash of Berkeley DB, as rpm did before 4.16.
fn to_berkeley(sqlite: &Path, dir: &Path) -> PathBuf {
    let rows = run("sqlite3", &[sqlite.to_str().unwrap(), "select printf('%02x000000', hnum), hex(blob) from Packages"]);
    let mut dump = String::from("VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\nHEADER=END\n 00000000\n 03000000\n");
    for (number, header) in rows.lines().map(|row| row.split_once('|').unwrap()) {
        dump += &format!(" {number}\n {}\n", header.to_lowercase());
    }
    let (text, database) = (dir.join("dump"), dir.join("Packages"));
    fs::write(&text, dump + "DATA=END\n").unwrap();
    run("db5.3_load", &["-f", text.to_str().unwrap(), database.to_str().unwrap()]);
    database
}

#[test]
fn the_bill_lists_the_packages_that_rpm_lists() {
    let (sealift, dir) = (Sealift::new(), tempfile::tempdir().unwrap());
    let packages = PACKAGES.map(|package_of| package(dir.path(), package_of));
    let databases = dir.path().join("rpm");
    let mut install = Command::new("rpm");
    install.args(["--define", "_db_backend sqlite", "--justdb", "--nodeps", "--noscripts", "-i", "--dbpath"]).arg(&databases);
    assert!(install.args(&packages).output().unwrap().status.success());

    let sqlite = databases.join("rpmdb.sqlite");
    let expected = listed(&databases, "sqlite");
    assert_eq!(expected.len(), PACKAGES.len());
    assert_eq!(billed(&sealift, &sqlite, "usr/lib/sysimage/rpm/rpmdb.sqlite"), expected);

    let old = dir.path().join("old");
    fs::create_dir(&old).unwrap();
    let berkeley = to_berkeley(&sqlite, &old);
    assert_eq!(listed(&old, "bdb_ro"), expected);
    assert_eq!(billed(&sealift, &berkeley, "var/lib/rpm/Packages"), expected);
}

#[test]
fn a_damaged_database_of_rpm_is_told() {
    let (sealift, dir) = (Sealift::new(), tempfile::tempdir().unwrap());
    let database = dir.path().join("rpmdb.sqlite");
    fs::write(&database, b"SQLite format 3\0 and then nothing").unwrap();
    assert!(billed(&sealift, &database, "var/lib/rpm/rpmdb.sqlite").is_empty());
    let ended = sealift.run(&["sbom", "shop:1", "-o", "json"]);
    assert!(
        ended.stderr.contains("shop:1: rpm packages are missing in the SBOM: cannot read var/lib/rpm/rpmdb.sqlite"),
        "{}",
        ended.stderr
    );
    let bom: Value = serde_json::from_str(&ended.stdout).unwrap();
    let told = bom["components"].as_array().unwrap().iter().find(|component| component["type"] == "data").unwrap();
    assert_eq!(told["name"], "var/lib/rpm/rpmdb.sqlite");
}
