//! Host keys: OpenSSH's `known_hosts` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use russh::keys::known_hosts::known_host_keys_path;
use russh::keys::{HashAlg, PublicKey, PublicKeyBase64 as _};

use crate::error::Failure;
use crate::host::{HostKeyPolicy, HostKeys};

/// The keys that the file has for a host.
pub fn recorded(file: &Path, address: IpAddr, port: u16) -> Result<Vec<PublicKey>> {
    let keys = known_host_keys_path(&address.to_string(), port, file).with_context(|| format!("host keys in {}", file.display()))?;
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// Decides whether the key that a host shows is its own. A new host's key is recorded when the policy says so.
pub fn judge(keys: &HostKeys, address: IpAddr, port: u16, shown: &PublicKey) -> Result<()> {
    if keys.policy == HostKeyPolicy::Off {
        return Ok(());
    }
    let file = keys.file.display();
    let (place, print) = (place(address, port), format!("{} {}", shown.algorithm(), shown.fingerprint(HashAlg::Sha256)));
    if let Some(line) = line_with(&keys.file, shown, |line| line.starts_with("@revoked")) {
        return Err(Failure::verification(format!("{place}: its host key {print} is revoked ({file} line {line})")).into());
    }
    let known = recorded(&keys.file, address, port)?;
    if known.contains(shown) {
        return Ok(());
    }
    if let Some(other) = known.iter().find(|key| key.algorithm() == shown.algorithm()).or(known.first()) {
        let line = line_with(&keys.file, other, |_| true).unwrap_or(0);
        return Err(Failure::verification(format!(
            "{place}: host key changed: it shows {print}, but {file} line {line} has {} {}",
            other.algorithm(),
            other.fingerprint(HashAlg::Sha256)
        ))
        .hint(format!("somebody may be in between; if the host was installed anew, remove that line: `ssh-keygen -f {file} -R {place}`"))
        .into());
    }
    if keys.policy == HostKeyPolicy::Strict {
        return Err(Failure::verification(format!("{place}: host key {print} is not known ({file} has none for this host)"))
            .hint(format!("compare it with the host's own, then record it: `ssh-keyscan -p {port} {address} >> {file}`"))
            .into());
    }
    record(&keys.file, &place, shown)
}

/// How the file names a host.
fn place(address: IpAddr, port: u16) -> String {
    if port == 22 { address.to_string() } else { format!("[{address}]:{port}") }
}

/// The number of the first line that has `key`; russh does not count comments.
fn line_with(file: &Path, key: &PublicKey, also: impl Fn(&str) -> bool) -> Option<usize> {
    let base64 = key.public_key_base64();
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().position(|line| also(line) && line.split_whitespace().any(|word| word == base64)).map(|index| index + 1)
}

fn record(file: &Path, place: &str, key: &PublicKey) -> Result<()> {
    let context = || format!("record the host key of {place} in {}", file.display());
    if let Some(parent) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).with_context(context)?;
    }
    let newline = std::fs::read(file).is_ok_and(|bytes| bytes.last().is_some_and(|&last| last != b'\n'));
    let start = if newline { "\n" } else { "" };
    let line = format!("{start}{place} {} {}\n", key.algorithm(), key.public_key_base64());
    let mut out = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(file).with_context(context)?;
    out.write_all(line.as_bytes()).and_then(|()| out.sync_all()).with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Kind, kind_of};

    const ONE: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const TWO: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIBwLQ1oc1kGwDwpZ4n6Eh8m9mkmFgTDjdy5Jcsy0EXk0";

    fn key(base64: &str) -> PublicKey {
        russh::keys::parse_public_key_base64(base64).unwrap()
    }

    #[test]
    fn new_keys_are_recorded_known_ones_accepted_changed_ones_refused() {
        let dir = tempfile::tempdir().unwrap();
        let keys = HostKeys { file: dir.path().join("ssh/known_hosts"), policy: HostKeyPolicy::AcceptNew };
        let address: IpAddr = "10.0.0.3".parse().unwrap();
        judge(&keys, address, 2222, &key(ONE)).unwrap();
        judge(&keys, address, 2222, &key(ONE)).unwrap();
        judge(&keys, address, 22, &key(TWO)).unwrap();
        assert_eq!(
            std::fs::read_to_string(&keys.file).unwrap(),
            format!("[10.0.0.3]:2222 ssh-ed25519 {ONE}\n10.0.0.3 ssh-ed25519 {TWO}\n")
        );
        let text = std::fs::read_to_string(&keys.file).unwrap();
        std::fs::write(&keys.file, format!("# a comment\n{text}")).unwrap();
        let error = judge(&keys, address, 22, &key(ONE)).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Verification);
        assert!(error.to_string().contains("host key changed") && error.to_string().contains("known_hosts line 3"), "{error}");
    }

    #[test]
    fn strict_wants_the_key_recorded_and_off_takes_every_key() {
        let dir = tempfile::tempdir().unwrap();
        let address: IpAddr = "::1".parse().unwrap();
        let strict = HostKeys { file: dir.path().join("known"), policy: HostKeyPolicy::Strict };
        assert!(judge(&strict, address, 22, &key(ONE)).unwrap_err().to_string().contains("not known"));
        std::fs::write(&strict.file, format!("::1 ssh-ed25519 {ONE}")).unwrap();
        judge(&strict, address, 22, &key(ONE)).unwrap();
        judge(&HostKeys { policy: HostKeyPolicy::Off, ..strict.clone() }, address, 22, &key(TWO)).unwrap();
        std::fs::write(&strict.file, format!("@revoked * ssh-ed25519 {ONE}\n::1 ssh-ed25519 {ONE}\n")).unwrap();
        assert!(judge(&strict, address, 22, &key(ONE)).unwrap_err().to_string().contains("revoked"));
    }

    #[test]
    fn hashed_names_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known");
        std::fs::write(&file, format!("10.0.0.9 ssh-ed25519 {ONE}\n")).unwrap();
        let hashed = std::process::Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).output().unwrap();
        assert!(hashed.status.success());
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("|1|"));
        assert_eq!(recorded(&file, "10.0.0.9".parse().unwrap(), 22).unwrap(), [key(ONE)]);
    }
}
