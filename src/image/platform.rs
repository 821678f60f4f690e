//! Platforms (`os/arch[/variant]`), and the names that an architecture has elsewhere.

use anyhow::Result;
use oci_spec::image::{Arch, Os, Platform, PlatformBuilder};

use crate::error::Failure;

/// The names of one architecture. No name is that of another architecture elsewhere.
struct ArchNames {
    /// In OCI images: Go's `GOARCH`.
    oci: &'static str,
    /// What `uname -m` prints; the most usual one first.
    uname: &'static [&'static str],
    /// [`std::env::consts::ARCH`].
    rust: &'static str,
    /// qemu's emulator of user programs: `qemu-NAME`, also in `/proc/sys/fs/binfmt_misc`.
    qemu: &'static str,
}

/// The architectures whose names differ. (Rust's `powerpc64` is taken for the little-endian one: Kubernetes does not run on the other.)
const ARCHITECTURES: [ArchNames; 6] = [
    ArchNames { oci: "amd64", uname: &["x86_64"], rust: "x86_64", qemu: "x86_64" },
    ArchNames { oci: "arm64", uname: &["aarch64"], rust: "aarch64", qemu: "aarch64" },
    ArchNames { oci: "arm", uname: &["armv7l", "armv6l", "armv8l"], rust: "arm", qemu: "arm" },
    ArchNames { oci: "386", uname: &["i686", "i586", "i386"], rust: "x86", qemu: "i386" },
    ArchNames { oci: "loong64", uname: &["loongarch64"], rust: "loongarch64", qemu: "loongarch64" },
    ArchNames { oci: "ppc64le", uname: &["ppc64le"], rust: "powerpc64", qemu: "ppc64le" },
];

/// The row of an architecture by any of its names.
fn arch_names(name: &str) -> Option<&'static ArchNames> {
    ARCHITECTURES.iter().find(|row| [row.oci, row.rust, row.qemu].contains(&name) || row.uname.contains(&name))
}

/// OCI's name (`amd64`) of an architecture by any of its names; an unknown one stays as it is.
pub fn oci_arch(name: &str) -> Arch {
    Arch::from(arch_names(name).map_or(name, |row| row.oci))
}

/// What `uname -m` prints (`x86_64`) for an architecture by any of its names; an unknown one stays as it is.
pub fn uname_arch(name: &str) -> &str {
    arch_names(name).map_or(name, |row| row.uname[0])
}

/// qemu's name (`qemu-NAME`) of an architecture by any of its names; an unknown one stays as it is.
pub fn qemu_arch(name: &str) -> &str {
    arch_names(name).map_or(name, |row| row.qemu)
}

/// The platform of this machine, as Linux names it in OCI.
pub fn host_platform() -> Platform {
    let arch = oci_arch(std::env::consts::ARCH);
    PlatformBuilder::default().os(Os::Linux).architecture(arch).build().expect("os and architecture are given")
}

/// Parses `linux/amd64`, `linux/arm64`, `linux/arm/v7`.
///
/// # Errors
/// `Usage` if the text has not two or three parts, or one is empty.
pub fn parse_platform(text: &str) -> Result<Platform> {
    let parts: Vec<&str> = text.split('/').collect();
    let invalid = || Failure::usage(format!("platform `{text}`: expected os/arch[/variant]")).hint("write it like `linux/amd64`");
    if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) {
        return Err(invalid().into());
    }
    let mut builder = PlatformBuilder::default().os(Os::from(parts[0])).architecture(Arch::from(parts[1]));
    if let Some(variant) = parts.get(2) {
        builder = builder.variant(*variant);
    }
    builder.build().map_err(|_| invalid().into())
}

/// The variant of a platform; `None` also for the one that every machine of the architecture has: `v1` of amd64, `v8` of arm64 (as
/// containerd's `platforms.Normalize`).
pub fn variant_of(platform: &Platform) -> Option<&str> {
    let variant = platform.variant().as_deref()?;
    let baseline = matches!((platform.architecture(), variant), (Arch::Amd64, "v1") | (Arch::ARM64, "v8" | "8"));
    (!baseline).then_some(variant)
}

/// Prints a platform as `os/arch[/variant]`.
pub fn platform_string(platform: &Platform) -> String {
    let mut text = format!("{}/{}", platform.os(), platform.architecture());
    if let Some(variant) = platform.variant() {
        text.push('/');
        text.push_str(variant);
    }
    text
}

/// Whether an image built for `platform` answers a request for `requested`. Variants are compared only if both have one.
pub fn serves(platform: &Platform, requested: &Platform) -> bool {
    let same_variant = match (requested.variant(), platform.variant()) {
        (Some(requested), Some(variant)) => requested == variant,
        _ => true,
    };
    same_variant && platform.os() == requested.os() && platform.architecture() == requested.architecture()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn architectures_are_known_by_all_their_names() {
        for (name, oci, uname, qemu) in [
            ("x86_64", "amd64", "x86_64", "x86_64"),
            ("amd64", "amd64", "x86_64", "x86_64"),
            ("aarch64", "arm64", "aarch64", "aarch64"),
            ("armv6l", "arm", "armv7l", "arm"),
            ("386", "386", "i686", "i386"),
            ("s390x", "s390x", "s390x", "s390x"),
            ("riscv64", "riscv64", "riscv64", "riscv64"),
        ] {
            assert_eq!((oci_arch(name).to_string().as_str(), uname_arch(name), qemu_arch(name)), (oci, uname, qemu), "{name}");
        }
    }

    #[test]
    fn platforms_round_trip_and_bad_ones_are_refused() {
        for good in ["linux/amd64", "linux/arm64", "linux/arm/v7"] {
            assert_eq!(platform_string(&parse_platform(good).unwrap()), good);
        }
        for bad in ["", "linux", "linux/", "/amd64", "a/b/c/d"] {
            assert!(parse_platform(bad).is_err(), "{bad}");
        }
    }
}
