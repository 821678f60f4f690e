//! CA certificates and client certificates for registries: `--ca-file`, `--cert-dir`, and the `certs.d` directories of docker and
//! podman (containers-certs.d(5)).

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use reqwest::{Certificate, Identity};

use super::Options;
use crate::error::Failure;

/// The certificates for the connection to a registry.
#[derive(Default)]
pub struct Certificates {
    /// CA certificates, in addition to those of the system.
    pub authorities: Vec<Certificate>,
    /// The client certificate and its key.
    pub identity: Option<Identity>,
}

impl Certificates {
    /// Reads the certificates for a `HOST[:PORT]`.
    pub fn of(host: &str, options: &Options) -> Result<Certificates> {
        let mut certificates = match directory(host, options) {
            Some(directory) => Self::read(&directory)?,
            None => Certificates::default(),
        };
        if let Some(file) = &options.ca_file {
            certificates.authorities.extend(authorities(file)?);
        }
        Ok(certificates)
    }

    /// Reads a directory: `*.crt` are CA certificates, `NAME.cert` and `NAME.key` the client certificate and its key. Of several
    /// pairs the first by name is used.
    fn read(directory: &Path) -> Result<Certificates> {
        let listing = fs_err::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        let listing = listing.with_context(|| Failure::usage(format!("{}: cannot be read", directory.display())))?;
        let mut files: Vec<PathBuf> = listing.iter().map(|entry| entry.path()).collect();
        files.sort();
        let has_extension = |file: &Path, extension: &str| file.extension().is_some_and(|found| found == extension);
        let mut certificates = Certificates::default();
        for file in files.iter().filter(|file| has_extension(file, "crt")) {
            certificates.authorities.extend(authorities(file)?);
        }
        if let Some(certificate) = files.iter().find(|file| has_extension(file, "cert")) {
            certificates.identity = Some(identity(certificate)?);
        }
        if let Some(key) = files.iter().find(|file| has_extension(file, "key") && !file.with_extension("cert").exists()) {
            let message = format!("{}: client key without its certificate {}", key.display(), key.with_extension("cert").display());
            return Err(Failure::usage(message).hint("name CA certificates `*.crt`, client certificates `*.cert`").into());
        }
        Ok(certificates)
    }
}

/// The directory for a registry: `--cert-dir`, or the first of the `certs.d` directories that has one.
fn directory(host: &str, options: &Options) -> Option<PathBuf> {
    options.cert_dir.clone().or_else(|| options.certs_d.iter().map(|base| base.join(host)).find(|directory| directory.is_dir()))
}

fn authorities(file: &Path) -> Result<Vec<Certificate>> {
    let refused = |why: &str| Failure::usage(format!("{}: {why}", file.display())).hint("use a file of CA certificates in PEM format");
    let no_certificate = || refused("no PEM certificate in it");
    let pem = fs_err::read(file).with_context(|| refused("cannot be read"))?;
    let certificates = Certificate::from_pem_bundle(&pem).with_context(no_certificate)?;
    if certificates.is_empty() {
        return Err(no_certificate().into());
    }
    Ok(certificates)
}

fn identity(certificate: &Path) -> Result<Identity> {
    let key = certificate.with_extension("key");
    let refused = |file: &Path, why: &str| Failure::usage(format!("{}: {why}", file.display()));
    let mut pem = fs_err::read(certificate).with_context(|| refused(certificate, "cannot be read"))?;
    let secret = fs_err::read(&key)
        .with_context(|| refused(&key, "client key cannot be read").hint("put it beside the client certificate, as NAME.key"))?;
    pem.push(b'\n');
    pem.extend(secret);
    Identity::from_pem(&pem).with_context(|| refused(certificate, "no client certificate and key in PEM format"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["x".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    #[test]
    fn the_first_directory_with_certificates_is_used() {
        rustls::crypto::ring::default_provider().install_default().ok();
        let home = tempfile::tempdir().unwrap();
        let (certificate, key) = pem();
        let file = |path: &str, text: &str| {
            let path = home.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        file("one/reg.example:5000/ca.crt", &certificate);
        file("two/reg.example:5000/client.cert", &certificate);
        file("two/reg.example:5000/client.key", &key);
        file("two/other.example/a.crt", &certificate);
        file("two/other.example/b.crt", &certificate);
        file("two/other.example/client.cert", &certificate);
        file("two/other.example/client.key", &key);
        file("two/lonely.example/client.key", &key);
        file("two/keyless.example/client.cert", &certificate);
        file("two/broken.example/ca.crt", "nothing");
        let certs_d = ["none", "one", "two"].map(|name| home.path().join(name)).to_vec();
        let options = Options { certs_d, ..Options::default() };
        for (host, expected) in [
            ("reg.example:5000", Ok((1, false))),
            ("other.example", Ok((2, true))),
            ("reg.example", Ok((0, false))),
            ("lonely.example", Err("without its certificate")),
            ("keyless.example", Err("client.key")),
            ("broken.example", Err("no PEM certificate in it")),
        ] {
            let found = Certificates::of(host, &options);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!((found.authorities.len(), found.identity.is_some()), expected, "{host}"),
                (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{host}: {error:#}"),
                (found, _) => panic!("{host}: {:?}", found.err()),
            }
        }
        let named = Options { cert_dir: Some(home.path().join("two/other.example")), ca_file: None, ..options };
        assert!(Certificates::of("anything", &named).unwrap().identity.is_some());
    }
}
