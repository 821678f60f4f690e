//! The certificates of the registries on site: each signs itself, and every host of the cluster is told of them.

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use secrecy::{ExposeSecret as _, SecretString};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

/// The certificate of a registry on site, and its key as long as only we have it.
#[derive(Debug, Clone)]
pub struct RegistryCertificate {
    /// The certificate, PEM.
    pub pem: String,
    /// Its private key, PEM; `None` once the host has it, which it never leaves.
    pub key: Option<SecretString>,
}

impl RegistryCertificate {
    /// A new one that signs itself, for these host names and addresses.
    ///
    /// # Errors
    /// Fails if one of them can stand in no certificate.
    pub fn for_names(names: &[String]) -> Result<RegistryCertificate> {
        let mut params = CertificateParams::new(names).context("names of the registry's certificate")?;
        params.distinguished_name.push(DnType::CommonName, "sealift registry");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        Ok(RegistryCertificate { pem: certificate.pem(), key: Some(SecretString::from(key.serialize_pem())) })
    }

    /// The one that a host has, if it is for exactly these names; else a new one.
    ///
    /// # Errors
    /// As [`Certificate::for_names`].
    pub fn kept_or_new(kept: Option<&str>, names: &[String]) -> Result<RegistryCertificate> {
        match kept.filter(|pem| names_of(pem).is_some_and(|own| own == sorted(names.to_vec()))) {
            Some(pem) => Ok(RegistryCertificate { pem: pem.to_owned(), key: None }),
            None => RegistryCertificate::for_names(names),
        }
    }

    /// The file that a server reads: key and certificate in one, so that they always belong together.
    pub fn file(&self) -> Option<String> {
        Some(format!("{}{}", self.key.as_ref()?.expose_secret(), self.pem))
    }
}

/// The names and addresses that a certificate is for, sorted.
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
    fn a_certificate_is_kept_as_long_as_its_names_are_wanted() {
        let names = ["sea.hub", "10.0.0.1", "fd00::1"].map(str::to_owned);
        let first = RegistryCertificate::for_names(&names).unwrap();
        let file = first.file().unwrap();
        assert!(file.contains("PRIVATE KEY") && file.ends_with(&first.pem));
        let kept = RegistryCertificate::kept_or_new(Some(&first.pem), &names).unwrap();
        assert_eq!((kept.pem == first.pem, kept.file()), (true, None));
        let other = RegistryCertificate::kept_or_new(Some(&first.pem), &names[..2]).unwrap();
        assert!(other.pem != first.pem && other.key.is_some());
        for damaged in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(RegistryCertificate::kept_or_new(Some(damaged), &names).unwrap().key.is_some(), "{damaged}");
        }
        assert!(!format!("{first:?}").contains("PRIVATE KEY"));
    }
}
