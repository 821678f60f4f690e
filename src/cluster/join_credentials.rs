//! What joining hosts show: a token, a key for certificates, the digest of the cluster's CA. Made for one run, and made known to
//! the cluster before the first host joins: whether `kubeadm init` ran with them, was run by another or long ago does not matter.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use rand::Rng as _;
use secrecy::{ExposeSecret as _, SecretString};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::Failure;
use crate::events::Context;
use crate::host::{Exec, Host};
use crate::image::Digest;
use crate::resource::{Content, KubeadmInit, KubeadmJoin, Resource};

const CA: &str = "/etc/kubernetes/pki/ca.crt";

/// What joining hosts show.
pub struct JoinCredentials {
    token: SecretString,
    certificate_key: SecretString,
    ca_hash: Option<String>,
    /// Whether the cluster knows them.
    registered: bool,
}

impl JoinCredentials {
    /// Stands for the token in documents.
    pub const TOKEN: &'static str = "ticket.token000000000000";
    /// Stands for the key of certificates in documents.
    pub const CERTIFICATE_KEY: &'static str = "ticket-certificate-key";
    /// Stands for the digest of the cluster's CA in documents.
    pub const CA_HASH: &'static str = "sha256:ticket-ca-hash";

    /// New ones, which no cluster knows yet.
    pub fn draw() -> Self {
        let letters = |count: usize| -> String {
            let mut random = rand::rng();
            (0..count).map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[random.random_range(0..36)])).collect()
        };
        let key: [u8; 32] = rand::rng().random();
        JoinCredentials {
            token: SecretString::from(format!("{}.{}", letters(6), letters(16))),
            certificate_key: SecretString::from(hex::encode(key)),
            ca_hash: None,
            registered: false,
        }
    }

    /// The resource with the tickets in its documents. Where a host joins, the cluster is made to know them first.
    pub async fn fill(&mut self, resource: &Resource, first_master: &Host, ctx: &Context) -> Result<Resource> {
        Ok(match resource {
            Resource::KubeadmInit(init) => Resource::KubeadmInit(KubeadmInit { config: self.filled(&init.config), ..init.clone() }),
            Resource::KubeadmJoin(join) => {
                self.register(&join.config, first_master, ctx).await?;
                Resource::KubeadmJoin(KubeadmJoin { config: self.filled(&join.config), ..join.clone() })
            }
            other => other.clone(),
        })
    }

    fn filled(&self, config: &Content) -> Content {
        let text = String::from_utf8_lossy(config.bytes());
        let hash = self.ca_hash.as_deref().unwrap_or(Self::CA_HASH);
        let filled = text.replace(Self::TOKEN, self.token.expose_secret());
        let filled = filled.replace(Self::CERTIFICATE_KEY, self.certificate_key.expose_secret()).replace(Self::CA_HASH, hash);
        Content::from(filled)
    }

    async fn register(&mut self, config: &Content, master: &Host, ctx: &Context) -> Result<()> {
        if self.ca_hash.is_none() {
            let ca = master.read_file(CA).await?.ok_or_else(|| Failure::failed(format!("{}: no {CA}", master.name())))?;
            self.ca_hash = Some(public_key_digest(&ca)?);
        }
        if !self.registered {
            *self = JoinCredentials { ca_hash: self.ca_hash.take(), ..JoinCredentials::draw() }; // kubeadm refuses a token that it has already
            self.make_known(config, master, ctx).await?;
            self.registered = true;
        }
        Ok(())
    }

    /// Hands them to the cluster in a file: what is in arguments, everybody on the host can read.
    async fn make_known(&self, config: &Content, master: &Host, ctx: &Context) -> Result<()> {
        let script = "set -eu; umask 077; mkdir -p /run/sealift; file=/run/sealift/tickets.yaml; trap 'rm -f $file' EXIT; cat >$file
            version=$(kubeadm version -o short)
            printf -- '---\\napiVersion: %s\\nkind: ClusterConfiguration\\nkubernetesVersion: %s\\n' \"$ApiVersion\" \"$version\" >>$file
            kubeadm token create --config $file >/dev/null
            kubeadm init phase upload-certs --upload-certs --config $file >/dev/null";
        let api_version = api_version_of(config).context("kubeadm's document has no apiVersion")?;
        let document = self.document(&api_version, config, master.address());
        let command =
            Exec::shell(script).env("ApiVersion", &api_version).env("KUBECONFIG", "/etc/kubernetes/admin.conf").stdin(document).quiet();
        master.exec(&command, ctx).await?.success("kubeadm token create").map(drop)
    }

    /// What kubeadm reads them from. The address and the container runtime are told: kubeadm cannot find them out on a host
    /// without a default route, or with several runtimes.
    fn document(&self, api_version: &str, config: &Content, master: IpAddr) -> String {
        let socket = value_of(config, |line| line.trim_start().strip_prefix("criSocket:"));
        let node = socket.map(|socket| format!("nodeRegistration: {{criSocket: '{socket}'}}\n")).unwrap_or_default();
        format!(
            "apiVersion: {api_version}\nkind: InitConfiguration\nbootstrapTokens:\n- token: {}\n  ttl: 2h0m0s\n  usages: [signing, authentication]\n  \
            groups: ['system:bootstrappers:kubeadm:default-node-token']\ncertificateKey: {}\n\
            localAPIEndpoint: {{advertiseAddress: '{master}'}}\n{node}",
            self.token.expose_secret(),
            self.certificate_key.expose_secret()
        )
    }
}

/// The first `apiVersion` of a stream of documents.
fn api_version_of(config: &Content) -> Option<String> {
    value_of(config, |line| line.strip_prefix("apiVersion:"))
}

/// The first value of a stream of documents that `pick` finds in a line.
fn value_of(config: &Content, pick: impl Fn(&str) -> Option<&str>) -> Option<String> {
    let text = String::from_utf8_lossy(config.bytes());
    let value = text.lines().find_map(pick)?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// kubeadm's `caCertHashes`: the SHA-256 of the certificate's public key info in DER (RFC 7469, 2.4).
fn public_key_digest(pem: &[u8]) -> Result<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).context("the cluster's CA is no PEM")?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).context("the cluster's CA is no certificate")?;
    Ok(Digest::of(certificate.public_key().raw).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_take_the_places_kept_for_them() {
        let mut tickets = JoinCredentials::draw();
        tickets.ca_hash = Some("sha256:1234".into());
        let text = format!("a: {}\nb: {}\nc: [{}]\n", JoinCredentials::TOKEN, JoinCredentials::CERTIFICATE_KEY, JoinCredentials::CA_HASH);
        let filled = String::from_utf8(tickets.filled(&Content::from(text)).bytes().to_vec()).unwrap();
        assert!(!filled.contains("ticket") && filled.contains("sha256:1234"), "{filled}");
        let token = filled.lines().next().unwrap().strip_prefix("a: ").unwrap();
        assert_eq!((token.len(), token.as_bytes()[6]), (23, b'.'));
    }

    #[test]
    fn a_running_cluster_is_told_them_with_address_and_runtime() {
        let tickets = JoinCredentials::draw();
        let config =
            Content::from("apiVersion: kubeadm.k8s.io/v1beta3\nkind: JoinConfiguration\nnodeRegistration:\n  criSocket: unix:///c.sock\n");
        let text = tickets.document("kubeadm.k8s.io/v1beta3", &config, IpAddr::from([10, 0, 0, 1]));
        let document: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(document["localAPIEndpoint"]["advertiseAddress"], "10.0.0.1");
        assert_eq!(document["nodeRegistration"]["criSocket"], "unix:///c.sock");
        assert_eq!(document["bootstrapTokens"][0]["token"], tickets.token.expose_secret());
    }

    #[test]
    fn the_digest_is_that_of_the_public_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key).unwrap();
        use rcgen::PublicKeyData as _;
        let expected = Digest::of(&key.subject_public_key_info()).to_string();
        assert_eq!(public_key_digest(certificate.pem().as_bytes()).unwrap(), expected);
    }
}
