//! Host key verification with OpenSSH's `known_hosts` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).

use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use russh::keys::known_hosts::known_host_keys_path;
use russh::keys::{HashAlg, PublicKey, PublicKeyBase64 as _};

use crate::error::Failure;
use crate::host::{HostKeyPolicy, HostKeys};

/// Returns the keys that the file has for a host; hashed names are understood.
pub fn known_keys(file: &Path, address: IpAddr, port: u16) -> Result<Vec<PublicKey>> {
    let keys = known_host_keys_path(&address.to_string(), port, file).with_context(|| format!("read host keys from {}", file.display()))?;
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// Verifies the key that a host presents. Adds the key of a new host to the file if the policy is to accept new ones.
///
/// # Errors
/// Of kind `Verification` if the key is revoked, changed, or unknown and the policy strict.
pub fn verify_host_key(keys: &HostKeys, address: IpAddr, port: u16, presented: &PublicKey) -> Result<()> {
    if keys.policy == HostKeyPolicy::Off {
        return Ok(());
    }
    let file = keys.file.display();
    let (host_name, fingerprint) =
        (host_name(address, port), format!("{} {}", presented.algorithm(), presented.fingerprint(HashAlg::Sha256)));
    if let Some(line) = line_with(&keys.file, presented, |line| line.starts_with("@revoked")) {
        return Err(Failure::verification(format!(
            "{host_name}: host key verification failed: {fingerprint} is revoked ({file} line {line})"
        ))
        .hint("give the host a new key (`ssh-keygen -A` after removing the old one)")
        .into());
    }
    let known = known_keys(&keys.file, address, port)?;
    if known.contains(presented) {
        return Ok(());
    }
    if let Some(other) = known.iter().find(|key| key.algorithm() == presented.algorithm()).or(known.first()) {
        let line = line_with(&keys.file, other, |_| true).unwrap_or(0);
        return Err(Failure::verification(format!(
            "{host_name}: host key verification failed: host key changed: the host presents {fingerprint}, but {file} line {line} has {} {}",
            other.algorithm(),
            other.fingerprint(HashAlg::Sha256)
        ))
        .hint(format!("this may be a man-in-the-middle attack; if the host was reinstalled, remove that line: `ssh-keygen -f {file} -R {host_name}`"))
        .into());
    }
    if keys.policy == HostKeyPolicy::Strict {
        return Err(Failure::verification(format!(
            "{host_name}: host key verification failed: {fingerprint} is not known ({file} has no key for this host)"
        ))
        .hint(format!("compare the fingerprint with the host's, then add the key: `ssh-keyscan -p {port} {address} >> {file}`"))
        .into());
    }
    add_key(&keys.file, &host_name, presented)
}

/// The name of a host in the file: `10.0.0.3`, `[10.0.0.3]:2222`.
fn host_name(address: IpAddr, port: u16) -> String {
    if port == 22 { address.to_string() } else { format!("[{address}]:{port}") }
}

/// The number of the first line with `key`, from 1. russh does not count comments.
fn line_with(file: &Path, key: &PublicKey, filter: impl Fn(&str) -> bool) -> Option<usize> {
    let base64 = key.public_key_base64();
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().position(|line| filter(line) && line.split_whitespace().any(|word| word == base64)).map(|index| index + 1)
}

fn add_key(file: &Path, host_name: &str, key: &PublicKey) -> Result<()> {
    let context = || format!("add the host key of {host_name} to {}", file.display());
    if let Some(parent) = file.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).with_context(context)?;
    }
    let newline = std::fs::read(file).is_ok_and(|bytes| bytes.last().is_some_and(|&last| last != b'\n'));
    let start = if newline { "\n" } else { "" };
    let line = format!("{start}{host_name} {} {}\n", key.algorithm(), key.public_key_base64());
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
    fn new_keys_are_added_known_ones_accepted_changed_ones_rejected() {
        let dir = tempfile::tempdir().unwrap();
        let keys = HostKeys { file: dir.path().join("ssh/known_hosts"), policy: HostKeyPolicy::AcceptNew };
        let address: IpAddr = "10.0.0.3".parse().unwrap();
        verify_host_key(&keys, address, 2222, &key(ONE)).unwrap();
        verify_host_key(&keys, address, 2222, &key(ONE)).unwrap();
        verify_host_key(&keys, address, 22, &key(TWO)).unwrap();
        assert_eq!(
            std::fs::read_to_string(&keys.file).unwrap(),
            format!("[10.0.0.3]:2222 ssh-ed25519 {ONE}\n10.0.0.3 ssh-ed25519 {TWO}\n")
        );
        let text = std::fs::read_to_string(&keys.file).unwrap();
        std::fs::write(&keys.file, format!("# a comment\n{text}")).unwrap();
        let error = verify_host_key(&keys, address, 22, &key(ONE)).unwrap_err();
        assert_eq!(kind_of(&error), Kind::Verification);
        assert!(error.to_string().contains("host key changed") && error.to_string().contains("known_hosts line 3"), "{error}");
    }

    #[test]
    fn strict_requires_a_known_key_and_off_accepts_every_key() {
        let dir = tempfile::tempdir().unwrap();
        let address: IpAddr = "::1".parse().unwrap();
        let strict = HostKeys { file: dir.path().join("known"), policy: HostKeyPolicy::Strict };
        assert!(verify_host_key(&strict, address, 22, &key(ONE)).unwrap_err().to_string().contains("not known"));
        std::fs::write(&strict.file, format!("::1 ssh-ed25519 {ONE}")).unwrap();
        verify_host_key(&strict, address, 22, &key(ONE)).unwrap();
        verify_host_key(&HostKeys { policy: HostKeyPolicy::Off, ..strict.clone() }, address, 22, &key(TWO)).unwrap();
        std::fs::write(&strict.file, format!("@revoked * ssh-ed25519 {ONE}\n::1 ssh-ed25519 {ONE}\n")).unwrap();
        assert!(verify_host_key(&strict, address, 22, &key(ONE)).unwrap_err().to_string().contains("revoked"));
    }

    #[test]
    fn hashed_names_are_understood() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("known");
        std::fs::write(&file, format!("10.0.0.9 ssh-ed25519 {ONE}\n")).unwrap();
        let hashed = std::process::Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&file).output().unwrap();
        assert!(hashed.status.success());
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("|1|"));
        assert_eq!(known_keys(&file, "10.0.0.9".parse().unwrap(), 22).unwrap(), [key(ONE)]);
    }
}
