//! The certificates of control plane hosts, and when they expire.

use std::net::IpAddr;

use anyhow::Result;
use jiff::Timestamp;
use serde::Serialize;
use x509_parser::pem::parse_x509_pem;

use crate::host::Host;

/// What kubeadm makes below `/etc/kubernetes/pki`, and the kubelet's own.
const FILES: [&str; 9] = [
    "/etc/kubernetes/pki/ca.crt",
    "/etc/kubernetes/pki/apiserver.crt",
    "/etc/kubernetes/pki/apiserver-kubelet-client.crt",
    "/etc/kubernetes/pki/apiserver-etcd-client.crt",
    "/etc/kubernetes/pki/front-proxy-client.crt",
    "/etc/kubernetes/pki/etcd/server.crt",
    "/etc/kubernetes/pki/etcd/peer.crt",
    "/etc/kubernetes/pki/etcd/healthcheck-client.crt",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
];

/// A certificate on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// The host's address.
    pub host: IpAddr,
    /// Its file.
    pub file: String,
    /// When it expires.
    pub expires: Timestamp,
    /// How many days are left; negative if it has expired.
    pub days_left: i64,
}

/// Reads the certificates of a host; those that it does not have are left out.
///
/// # Errors
/// Fails if the host does not answer.
pub async fn certificates(host: &Host) -> Result<Vec<Certificate>> {
    let mut found = Vec::new();
    for file in FILES {
        let Some(pem) = host.read_file(file).await? else { continue };
        let Some(expires) = expiry(&pem) else { continue };
        let days_left = (expires.as_second() - Timestamp::now().as_second()).div_euclid(24 * 60 * 60);
        found.push(Certificate { host: host.address(), file: file.to_owned(), expires, days_left });
    }
    Ok(found)
}

/// When the first certificate of a file in PEM expires.
fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let text = String::from_utf8_lossy(pem);
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let (_, pem) = parse_x509_pem(&text.as_bytes()[begin..]).ok()?;
    Timestamp::from_second(pem.parse_x509().ok()?.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expiry_is_that_of_the_first_certificate_of_a_file() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        let pem = params.self_signed(&key).unwrap().pem();
        let with_key = format!("{}{pem}", key.serialize_pem());
        for text in [pem.as_str(), with_key.as_str()] {
            assert_eq!(expiry(text.as_bytes()).unwrap().to_string(), "2031-02-03T00:00:00Z");
        }
        assert_eq!(expiry(b"no certificate"), None);
    }
}
