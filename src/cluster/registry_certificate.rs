//! The self-signed certificates of the local registries. Every host of the cluster trusts them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use secrecy::{ExposeSecret as _, SecretString};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

/// The certificate of a local registry, and its private key until the host has it.
#[derive(Debug, Clone)]
pub struct RegistryCertificate {
    /// The certificate, in PEM.
    pub pem: String,
    /// Its private key, in PEM; `None` once it is on the host, which it never leaves.
    pub key: Option<SecretString>,
}

impl RegistryCertificate {
    /// Generates a self-signed certificate for these host names and IP addresses.
    ///
    /// # Errors
    /// Fails if one of them is not a valid subject alternative name.
    pub fn generate(names: &[String]) -> Result<RegistryCertificate> {
        let mut params =
            CertificateParams::new(names).with_context(|| format!("certificate of the local registry for {}", names.join(", ")))?;
        params.distinguished_name.push(DnType::CommonName, "sealift registry");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(RegistryCertificate { pem: certificate.pem(), key: Some(SecretString::from(key.serialize_pem())) })
    }

    /// Reuses the certificate of a host if it is for exactly these names; else generates one.
    ///
    /// # Errors
    /// As [`RegistryCertificate::generate`].
    pub fn reuse_or_generate(existing: Option<&str>, names: &[String]) -> Result<RegistryCertificate> {
        match existing.filter(|pem| names_of(pem).is_some_and(|own| own == names.iter().map(|name| Name::of(name)).collect())) {
            Some(pem) => Ok(RegistryCertificate { pem: pem.to_owned(), key: None }),
            None => RegistryCertificate::generate(names),
        }
    }

    /// The certificate of the registry at this address in a bundle in PEM, as hosts trust it; for a registry that is not reachable.
    pub fn find(bundle: &str, address: IpAddr) -> Option<RegistryCertificate> {
        const END: &str = "-----END CERTIFICATE-----\n";
        let address = Name::Address(address);
        let mut certificates = bundle.split_inclusive(END);
        let pem = certificates.find(|pem| names_of(pem).is_some_and(|names| names.contains(&address)))?;
        Some(RegistryCertificate { pem: pem.to_owned(), key: None })
    }

    /// The file that the registry reads, in PEM: key and certificate in one file, so that they always match. `None` without the key.
    pub fn file(&self) -> Option<String> {
        Some(format!("{}{}", self.key.as_ref()?.expose_secret(), self.pem))
    }
}

/// A subject alternative name. The same address has many spellings, and names of hosts have no case.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Name {
    Address(IpAddr),
    Host(String),
}

impl Name {
    fn of(text: &str) -> Name {
        text.parse().map_or_else(|_| Name::Host(text.to_lowercase()), Name::Address)
    }
}

/// The subject alternative names of a certificate.
fn names_of(pem: &str) -> Option<BTreeSet<Name>> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Some(certificate.subject_alternative_name().ok()??.value.general_names.iter().filter_map(name).collect())
}

fn name(name: &GeneralName<'_>) -> Option<Name> {
    match name {
        GeneralName::DNSName(name) => Some(Name::of(name)),
        GeneralName::IPAddress(bytes) => Some(Name::Address(match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok()?.into(),
            _ => <[u8; 16]>::try_from(*bytes).ok()?.into(),
        })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_found_by_its_address() {
        let pem =
            |names: &[&str]| RegistryCertificate::generate(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap().pem;
        let (first, second) = (pem(&["sea.hub", "10.0.0.1"]), pem(&["sea.hub", "fd00::2"]));
        let bundle = format!("{first}{second}");
        let found = |address: &str| RegistryCertificate::find(&bundle, address.parse().unwrap()).map(|found| found.pem);
        assert_eq!((found("10.0.0.1"), found("fd00::2"), found("10.0.0.2")), (Some(first), Some(second), None));
    }

    #[test]
    fn a_certificate_is_reused_while_its_names_are_the_same() {
        let names = ["sea.hub", "10.0.0.1", "fd00::1"].map(str::to_owned);
        let first = RegistryCertificate::generate(&names).unwrap();
        let file = first.file().unwrap();
        assert!(file.contains("PRIVATE KEY") && file.ends_with(&first.pem));
        let reused = RegistryCertificate::reuse_or_generate(Some(&first.pem), &names).unwrap();
        assert_eq!((reused.pem == first.pem, reused.file()), (true, None));
        let other = RegistryCertificate::reuse_or_generate(Some(&first.pem), &names[..2]).unwrap();
        assert!(other.pem != first.pem && other.key.is_some());
        for damaged in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(RegistryCertificate::reuse_or_generate(Some(damaged), &names).unwrap().key.is_some(), "{damaged}");
        }
        assert!(!format!("{first:?}").contains("PRIVATE KEY"));
    }

    #[test]
    fn names_are_compared_by_what_they_mean() {
        let names = ["Sea.Hub", "10.0.0.1", "fd00:0:0::1", "sea.hub"].map(str::to_owned);
        let first = RegistryCertificate::generate(&names).unwrap();
        for (spelling, same) in [
            (&["Sea.Hub", "10.0.0.1", "fd00:0:0::1", "sea.hub"][..], true),
            (&["FD00::0001", "sea.hub", "10.0.0.1"], true),
            (&["fd00::2", "sea.hub", "10.0.0.1"], false),
            (&["fd00::1", "sea.hub"], false),
        ] {
            let spelling: Vec<String> = spelling.iter().map(|name| (*name).to_owned()).collect();
            let other = RegistryCertificate::reuse_or_generate(Some(&first.pem), &spelling).unwrap();
            assert_eq!(other.pem == first.pem, same, "{spelling:?}");
        }
    }
}
