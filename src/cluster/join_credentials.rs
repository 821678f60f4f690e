//! The credentials that joining hosts show: a bootstrap token, a certificate key and the hash of the cluster's CA. Each run generates
//! its own and registers them with the cluster before the first host joins, so that it does not matter when `kubeadm init` ran.

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

/// The credentials of `kubeadm join`: bootstrap token, certificate key, CA hash.
pub struct JoinCredentials {
    token: SecretString,
    certificate_key: SecretString,
    ca_hash: Option<String>,
    /// Whether the cluster accepts them.
    registered: bool,
}

impl JoinCredentials {
    /// The placeholder of the token in kubeadm configurations.
    pub const TOKEN: &'static str = "placeholder.token";
    /// The placeholder of the certificate key in kubeadm configurations.
    pub const CERTIFICATE_KEY: &'static str = "placeholder-certificate-key";
    /// The placeholder of the CA hash in kubeadm configurations.
    pub const CA_HASH: &'static str = "sha256:placeholder-ca-hash";

    /// Generates new ones, which no cluster accepts yet.
    pub fn generate() -> Self {
        let characters = |count: usize| -> String {
            let mut random = rand::rng();
            (0..count).map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[random.random_range(0..36)])).collect()
        };
        let key: [u8; 32] = rand::rng().random();
        JoinCredentials {
            token: SecretString::from(format!("{}.{}", characters(6), characters(16))),
            certificate_key: SecretString::from(hex::encode(key)),
            ca_hash: None,
            registered: false,
        }
    }

    /// Replaces the placeholders in the kubeadm configuration of a resource. Before a join, registers the credentials with the cluster.
    pub async fn fill_in(&mut self, resource: &Resource, first_master: &Host, ctx: &Context) -> Result<Resource> {
        Ok(match resource {
            Resource::KubeadmInit(init) => {
                Resource::KubeadmInit(KubeadmInit { config: self.with_credentials(&init.config), ..init.clone() })
            }
            Resource::KubeadmJoin(join) => {
                self.register(&join.config, first_master, ctx).await?;
                Resource::KubeadmJoin(KubeadmJoin { config: self.with_credentials(&join.config), ..join.clone() })
            }
            other => other.clone(),
        })
    }

    fn with_credentials(&self, config: &Content) -> Content {
        let text = String::from_utf8_lossy(config.bytes());
        let hash = self.ca_hash.as_deref().unwrap_or(Self::CA_HASH);
        let text = text.replace(Self::TOKEN, self.token.expose_secret());
        let text = text.replace(Self::CERTIFICATE_KEY, self.certificate_key.expose_secret()).replace(Self::CA_HASH, hash);
        Content::from(text)
    }

    async fn register(&mut self, config: &Content, master: &Host, ctx: &Context) -> Result<()> {
        if self.ca_hash.is_none() {
            let ca = master.read_file(CA).await?.ok_or_else(|| {
                Failure::failed(format!("{}: {CA}: no such file; hosts need it to join", master.name()))
                    .hint("run `sealift status`: the control plane must be up on the first master")
            })?;
            self.ca_hash = Some(public_key_digest(&ca)?);
        }
        if !self.registered {
            *self = JoinCredentials { ca_hash: self.ca_hash.take(), ..JoinCredentials::generate() }; // kubeadm refuses a token that it has already
            self.register_with_kubeadm(config, master, ctx).await?;
            self.registered = true;
        }
        Ok(())
    }

    /// Registers them by kubeadm. It reads them from a file: every user of the host can read the arguments of a process.
    async fn register_with_kubeadm(&self, config: &Content, master: &Host, ctx: &Context) -> Result<()> {
        let script =
            "set -eu; umask 077; mkdir -p /run/sealift; file=/run/sealift/join-credentials.yaml; trap 'rm -f $file' EXIT; cat >$file
            version=$(kubeadm version -o short)
            printf -- '---\\napiVersion: %s\\nkind: ClusterConfiguration\\nkubernetesVersion: %s\\n' \"$ApiVersion\" \"$version\" >>$file
            kubeadm token create --config $file >/dev/null
            kubeadm init phase upload-certs --upload-certs --config $file >/dev/null";
        let api_version = api_version_of(config).context("kubeadm configuration: no `apiVersion`")?;
        let document = self.init_configuration(&api_version, config, master.address());
        let command =
            Exec::shell(script).env("ApiVersion", &api_version).env("KUBECONFIG", "/etc/kubernetes/admin.conf").stdin(document).quiet();
        master.exec(&command, ctx).await?.ensure_success("kubeadm token create").map(drop)
    }

    /// The InitConfiguration that registers them. It names the address and the container runtime: kubeadm does not detect them on
    /// a host without a default route, or with several runtimes.
    fn init_configuration(&self, api_version: &str, config: &Content, master: IpAddr) -> String {
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

/// The first `apiVersion` in a stream of YAML documents.
fn api_version_of(config: &Content) -> Option<String> {
    value_of(config, |line| line.strip_prefix("apiVersion:"))
}

/// The first value in a stream of YAML documents that `pick` finds in a line, without quotes.
fn value_of(config: &Content, pick: impl Fn(&str) -> Option<&str>) -> Option<String> {
    let text = String::from_utf8_lossy(config.bytes());
    let value = text.lines().find_map(pick)?;
    Some(value.trim().trim_matches(['"', '\'']).to_owned())
}

/// kubeadm's `caCertHashes`: the SHA-256 of the certificate's public key info in DER (RFC 7469, 2.4).
fn public_key_digest(pem: &[u8]) -> Result<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).context("cluster CA: not PEM")?;
    let (_, certificate) = X509Certificate::from_der(&pem.contents).context("cluster CA: not an X.509 certificate")?;
    Ok(Digest::of(certificate.public_key().raw).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_replace_their_placeholders() {
        let mut credentials = JoinCredentials::generate();
        credentials.ca_hash = Some("sha256:1234".into());
        let text = format!("a: {}\nb: {}\nc: [{}]\n", JoinCredentials::TOKEN, JoinCredentials::CERTIFICATE_KEY, JoinCredentials::CA_HASH);
        let filled = String::from_utf8(credentials.with_credentials(&Content::from(text)).bytes().to_vec()).unwrap();
        assert!(!filled.contains("placeholder") && filled.contains("sha256:1234"), "{filled}");
        let token = filled.lines().next().unwrap().strip_prefix("a: ").unwrap();
        assert_eq!((token.len(), token.as_bytes()[6]), (23, b'.'));
    }

    #[test]
    fn credentials_are_registered_with_address_and_runtime() {
        let credentials = JoinCredentials::generate();
        let config =
            Content::from("apiVersion: kubeadm.k8s.io/v1beta3\nkind: JoinConfiguration\nnodeRegistration:\n  criSocket: unix:///c.sock\n");
        let text = credentials.init_configuration("kubeadm.k8s.io/v1beta3", &config, IpAddr::from([10, 0, 0, 1]));
        let document: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(document["localAPIEndpoint"]["advertiseAddress"], "10.0.0.1");
        assert_eq!(document["nodeRegistration"]["criSocket"], "unix:///c.sock");
        assert_eq!(document["bootstrapTokens"][0]["token"], credentials.token.expose_secret());
    }

    #[test]
    fn the_ca_hash_is_that_of_the_public_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key).unwrap();
        use rcgen::PublicKeyData as _;
        let expected = Digest::of(&key.subject_public_key_info()).to_string();
        assert_eq!(public_key_digest(certificate.pem().as_bytes()).unwrap(), expected);
    }
}
