//! Platforms: `os/arch[/variant]`.

use anyhow::Result;
use oci_spec::image::{Arch, Os, Platform, PlatformBuilder};

use crate::error::Failure;

/// The platform of this machine, as Linux names it in OCI.
pub fn host_platform() -> Platform {
    let arch = match std::env::consts::ARCH {
        "x86_64" => Arch::Amd64,
        "aarch64" => Arch::ARM64,
        other => Arch::from(other),
    };
    PlatformBuilder::default().os(Os::Linux).architecture(arch).build().expect("os and architecture are given")
}

/// Parses `linux/amd64`, `linux/arm64`, `linux/arm/v7`.
pub fn parse_platform(text: &str) -> Result<Platform> {
    let parts: Vec<&str> = text.split('/').collect();
    let wrong = || Failure::usage(format!("platform `{text}`: want os/arch[/variant]")).hint("for example `linux/amd64`");
    if !(2..=3).contains(&parts.len()) || parts.iter().any(|part| part.is_empty()) {
        return Err(wrong().into());
    }
    let mut builder = PlatformBuilder::default().os(Os::from(parts[0])).architecture(Arch::from(parts[1]));
    if let Some(variant) = parts.get(2) {
        builder = builder.variant(*variant);
    }
    builder.build().map_err(|_| wrong().into())
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

/// Whether what is built for `platform` runs where `wanted` is asked for: a variant counts only when both say one.
pub fn serves(platform: &Platform, wanted: &Platform) -> bool {
    let variant = match (wanted.variant(), platform.variant()) {
        (Some(wanted), Some(variant)) => wanted == variant,
        _ => true,
    };
    variant && platform.os() == wanted.os() && platform.architecture() == wanted.architecture()
}

#[cfg(test)]
mod tests {
    use super::*;

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
