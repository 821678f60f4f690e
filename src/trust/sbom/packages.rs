//! The packages of a root file system, from the databases of dpkg (and distroless' `status.d`) and apk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its kind, as package URLs have it: `deb`, `apk`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its version, with epoch and revision.
    pub version: String,
    /// The architecture, as its system calls it.
    pub architecture: String,
    /// What the package says of its license.
    pub license: Option<String>,
}

/// What a root file system says it is (os-release(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`.
    pub version: Option<String>,
}

/// The database of dpkg.
const DPKG: &str = "var/lib/dpkg/status";
/// One file for each package, in distroless images.
const DPKG_PARTS: &str = "var/lib/dpkg/status.d";
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// The databases of rpm: Berkeley DB, ndb, sqlite.
const RPM: [&str; 3] = ["Packages", "Packages.db", "rpmdb.sqlite"];
const RPM_PLACES: [&str; 2] = ["var/lib/rpm", "usr/lib/sysimage/rpm"];

/// Whether [`packages`] and [`system`] look at this file.
pub fn is_read(path: &Path) -> bool {
    let part = path.parent() == Some(Path::new(DPKG_PARTS)) && path.extension().is_none_or(|extension| extension != "md5sums");
    part || path == Path::new(DPKG) || APK.iter().chain(&OS_RELEASE).any(|known| path == Path::new(known))
}

/// Whether this file is a database of rpm, which is not read.
pub fn is_rpm_database(path: &Path) -> bool {
    RPM_PLACES.iter().any(|place| RPM.iter().any(|file| path == Path::new(place).join(file)))
}

/// The packages that the databases among these files list, sorted, each once.
pub fn packages(files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<Package> {
    let mut found = BTreeSet::new();
    for (path, bytes) in files {
        let text = String::from_utf8_lossy(bytes);
        if path == Path::new(DPKG) || path.parent() == Some(Path::new(DPKG_PARTS)) {
            found.extend(stanzas(&text).iter().filter_map(dpkg));
        } else if APK.iter().any(|known| path == Path::new(known)) {
            found.extend(stanzas(&text).iter().filter_map(apk));
        }
    }
    found.into_iter().collect()
}

/// What the files say the system is.
pub fn system(files: &BTreeMap<PathBuf, Vec<u8>>) -> Option<System> {
    let bytes = OS_RELEASE.iter().find_map(|path| files.get(Path::new(path)))?;
    let text = String::from_utf8_lossy(bytes);
    let value = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.map(|value| value.trim().trim_matches(['"', '\'']).to_owned())
    };
    Some(System { id: value("ID")?, version: value("VERSION_ID") })
}

type Stanza<'a> = BTreeMap<&'a str, &'a str>;

/// The first lines of the fields of each stanza; what continues a field is left out.
fn stanzas(text: &str) -> Vec<Stanza<'_>> {
    let mut stanzas = vec![Stanza::new()];
    for line in text.lines() {
        if line.trim().is_empty() {
            stanzas.push(Stanza::new());
        } else if !line.starts_with([' ', '\t'])
            && let Some((key, value)) = line.split_once(':')
            && let Some(stanza) = stanzas.last_mut()
        {
            stanza.entry(key).or_insert(value.trim());
        }
    }
    stanzas
}

/// A stanza of dpkg; none for a package that was removed.
fn dpkg(stanza: &Stanza<'_>) -> Option<Package> {
    let removed = stanza.get("Status").is_some_and(|status| status.split(' ').next_back() != Some("installed"));
    (!removed).then(|| package("deb", stanza, ["Package", "Version", "Architecture"])).flatten()
}

fn apk(stanza: &Stanza<'_>) -> Option<Package> {
    let package = package("apk", stanza, ["P", "V", "A"])?;
    Some(Package { license: stanza.get("L").map(|license| (*license).to_owned()), ..package })
}

fn package(kind: &'static str, stanza: &Stanza<'_>, [name, version, architecture]: [&str; 3]) -> Option<Package> {
    let field = |key| stanza.get(key).map(|value| (*value).to_owned());
    Some(Package { kind, name: field(name)?, version: field(version)?, architecture: field(architecture)?, license: None })
}

impl Package {
    /// Its package URL (purl-spec: `pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12`).
    pub fn url(&self, system: Option<&System>) -> String {
        let vendor = system.map_or(if self.kind == "apk" { "alpine" } else { "debian" }, |system| &system.id);
        let distribution = match system {
            Some(System { id, version: Some(version) }) => format!("&distro={}", escaped(&format!("{id}-{version}"))),
            _ => String::new(),
        };
        let [name, version, architecture] = [&self.name, &self.version, &self.architecture].map(|text| escaped(text));
        format!("pkg:{}/{}/{name}@{version}?arch={architecture}{distribution}", self.kind, escaped(vendor))
    }
}

/// Percent-encodes what is neither a letter, a digit nor one of `.-_~:`.
pub fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> BTreeMap<PathBuf, Vec<u8>> {
        list.iter().map(|(path, text)| (PathBuf::from(path), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn packages_are_found_in_each_database() {
        let dpkg = "Package: bash\nStatus: install ok installed\nVersion: 5.2.15-2+b2\nArchitecture: amd64\nDescription: shell\n Package: not\n\n\
            Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n";
        let part = "Package: tzdata\nVersion: 1:2024a-0\nArchitecture: all\n";
        let apk = "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\n\nP:half\n";
        for (name, list, expected) in [
            ("dpkg", vec![(DPKG, dpkg)], vec!["pkg:deb/debian/bash@5.2.15-2%2Bb2?arch=amd64&distro=debian-12"]),
            ("distroless", vec![("var/lib/dpkg/status.d/tzdata", part)], vec!["pkg:deb/debian/tzdata@1:2024a-0?arch=all&distro=debian-12"]),
            ("apk", vec![("lib/apk/db/installed", apk)], vec!["pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12"]),
            ("none", vec![("etc/motd", "Package: x\nVersion: 1\nArchitecture: all\n")], vec![]),
            ("not text", vec![(DPKG, "\u{0}\u{1}:::\n\n:")], vec![]),
        ] {
            let system = System { id: "debian".to_owned(), version: Some("12".to_owned()) };
            let found: Vec<String> = packages(&files(&list)).iter().map(|package| package.url(Some(&system))).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn the_system_is_what_os_release_says() {
        let found = system(&files(&[("etc/os-release", "NAME=x\nID=\"alpine\"\nVERSION_ID=3.20.1\n")])).unwrap();
        assert_eq!((found.id.as_str(), found.version.as_deref()), ("alpine", Some("3.20.1")));
        assert_eq!(system(&files(&[("etc/os-release", "NAME=x")])), None);
    }

    #[test]
    fn only_databases_are_looked_at() {
        for (path, read, rpm) in [
            (DPKG, true, false),
            ("var/lib/dpkg/status.d/base", true, false),
            ("var/lib/dpkg/status.d/base.md5sums", false, false),
            ("var/lib/rpm/Packages", false, true),
            ("usr/lib/sysimage/rpm/rpmdb.sqlite", false, true),
            ("usr/bin/rpm", false, false),
        ] {
            assert_eq!((is_read(Path::new(path)), is_rpm_database(Path::new(path))), (read, rpm), "{path}");
        }
    }
}
