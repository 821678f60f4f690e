//! The packages of a root file system, from the databases of dpkg (and distroless' `status.d`), apk and rpm.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its kind, as package URLs have it: `deb`, `apk`, `rpm`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its version and revision; in front, dpkg's epoch.
    pub version: String,
    /// The epoch of a package of rpm.
    pub epoch: Option<u32>,
    /// The architecture, as its system calls it.
    pub architecture: String,
    /// Its declared license.
    pub license: Option<String>,
    /// The SHA-256 of its header, in hex, as rpm keeps it.
    pub header: Option<String>,
}

/// The operating system of a root file system (os-release(5)).
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

/// Whether [`packages`] and [`system`] read this file. rpm's databases are read by [`super::rpm`]: they are too large to be read whole.
pub fn is_package_file(path: &Path) -> bool {
    let part = path.parent() == Some(Path::new(DPKG_PARTS)) && path.extension().is_none_or(|extension| extension != "md5sums");
    part || path == Path::new(DPKG) || APK.iter().chain(&OS_RELEASE).any(|known| path == Path::new(known))
}

/// The packages that the databases among these files list, each once.
pub fn packages(files: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeSet<Package> {
    let mut found = BTreeSet::new();
    for (path, bytes) in files {
        let text = String::from_utf8_lossy(bytes);
        if path == Path::new(DPKG) || path.parent() == Some(Path::new(DPKG_PARTS)) {
            found.extend(stanzas(&text).iter().filter_map(dpkg));
        } else if APK.iter().any(|known| path == Path::new(known)) {
            found.extend(stanzas(&text).iter().filter_map(apk));
        }
    }
    found
}

/// The operating system, from os-release.
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
    let (name, version, architecture) = (field(name)?, field(version)?, field(architecture)?);
    Some(Package { kind, name, version, epoch: None, architecture, license: None, header: None })
}

impl Package {
    /// Its version as its system writes it, with the epoch in front.
    pub fn full_version(&self) -> String {
        self.epoch.map_or_else(|| self.version.clone(), |epoch| format!("{epoch}:{}", self.version))
    }

    /// Its package URL (purl-spec: `pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-12`).
    pub fn url(&self, system: Option<&System>) -> String {
        let vendor = self.vendor(system).map_or_else(String::new, |vendor| format!("{}/", escaped(vendor)));
        let distribution = match system {
            Some(System { id, version: Some(version) }) => format!("&distro={}", escaped(&format!("{id}-{version}"))),
            _ => String::new(),
        };
        let epoch = self.epoch.map_or_else(String::new, |epoch| format!("&epoch={epoch}"));
        let [name, version, architecture] = [&self.name, &self.version, &self.architecture].map(|text| escaped(text));
        format!("pkg:{}/{vendor}{name}@{version}?arch={architecture}{distribution}{epoch}", self.kind)
    }

    /// Who made it, as package URLs call them.
    fn vendor<'a>(&self, system: Option<&'a System>) -> Option<&'a str> {
        match (self.kind, system.map(|system| system.id.as_str())) {
            ("rpm", Some("rhel")) => Some("redhat"),
            ("rpm", Some(id)) if id.starts_with("opensuse") => Some("opensuse"),
            (_, Some(id)) => Some(id),
            ("apk", None) => Some("alpine"),
            ("deb", None) => Some("debian"),
            (_, None) => None,
        }
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
    fn the_system_comes_from_os_release() {
        let found = system(&files(&[("etc/os-release", "NAME=x\nID=\"alpine\"\nVERSION_ID=3.20.1\n")])).unwrap();
        assert_eq!((found.id.as_str(), found.version.as_deref()), ("alpine", Some("3.20.1")));
        assert_eq!(system(&files(&[("etc/os-release", "NAME=x")])), None);
    }

    #[test]
    fn only_package_databases_are_read() {
        for (path, read) in [
            (DPKG, true),
            ("var/lib/dpkg/status.d/base", true),
            ("var/lib/dpkg/status.d/base.md5sums", false),
            ("usr/lib/apk/db/installed", true),
            ("var/lib/rpm/Packages", false),
        ] {
            assert_eq!(is_package_file(Path::new(path)), read, "{path}");
        }
    }
}
