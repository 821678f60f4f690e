//! The self-signed certificates of the local registries. Every host of the cluster trusts them.

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
        match existing.filter(|pem| names_of(pem).is_some_and(|own| own == sorted(names.to_vec()))) {
            Some(pem) => Ok(RegistryCertificate { pem: pem.to_owned(), key: None }),
            None => RegistryCertificate::generate(names),
        }
    }

    /// The certificate of the registry at this address in a bundle in PEM, as hosts trust it; for a registry that is not reachable.
    pub fn find(bundle: &str, address: std::net::IpAddr) -> Option<RegistryCertificate> {
        const END: &str = "-----END CERTIFICATE-----\n";
        let address = address.to_string();
        let mut certificates = bundle.split_inclusive(END);
        let pem = certificates.find(|pem| names_of(pem).is_some_and(|names| names.contains(&address)))?;
        Some(RegistryCertificate { pem: pem.to_owned(), key: None })
    }

    /// The file that the registry reads, in PEM: key and certificate in one file, so that they always match. `None` without the key.
    pub fn file(&self) -> Option<String> {
        Some(format!("{}{}", self.key.as_ref()?.expose_secret(), self.pem))
    }
}

/// The subject alternative names of a certificate, sorted.
fn names_of(pem: &str) -> Option<Vec<String>> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok()??.value.general_names.iter().filter_map(text).collect();
    Some(sorted(names))
}

fn text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(std::net::Ipv4Addr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            _ => Some(std::net::Ipv6Addr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
        },
        _ => None,
    }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
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
}
