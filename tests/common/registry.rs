//! Debian's docker-registry, started by the test on a free port of loopback.

use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A running docker-registry; it ends and its data goes when dropped.
pub struct DockerRegistry {
    dir: TempDir,
    address: Ipv4Addr,
    port: u16,
    child: Child,
}

/// How to start one.
#[derive(Default)]
pub struct Settings {
    tls: bool,
    client_certificates: bool,
    user: Option<(String, String)>,
    domain: Option<String>,
}

impl Settings {
    /// With HTTPS; the certificate authority is [`DockerRegistry::ca_file`].
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// With HTTPS under this domain and the port that needs no saying, on an address of loopback that is its own. Needs root;
    /// who asks it must be told where the domain is: [`DockerRegistry::address`].
    pub fn domain(mut self, domain: &str) -> Self {
        self.domain = Some(domain.to_owned());
        self.tls()
    }

    /// With HTTPS, for clients with a certificate of its authority: `client.cert` and `client.key` in [`DockerRegistry::client_dir`].
    pub fn client_certificates(mut self) -> Self {
        self.client_certificates = true;
        self.tls()
    }

    /// Only this user may use it.
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> DockerRegistry {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (address, port) = match &self.domain {
            Some(_) => (Ipv4Addr::from(0x7f00_0000 | (std::process::id() & 0xff_ffff) | 0x10_0000), 443),
            None => (Ipv4Addr::LOCALHOST, super::free_port()),
        };
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, accesslog: {{disabled: false}}}}\nstorage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}\n",
            root = dir.path().join("data").display()
        );
        if let Some((name, password)) = &self.user {
            let hash = bcrypt::hash(password, 4).expect("bcrypt hashes");
            std::fs::write(dir.path().join("htpasswd"), format!("{name}:{hash}\n")).expect("htpasswd is written");
            config += &format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", dir.path().join("htpasswd").display());
        }
        config += &format!("http:\n  addr: {address}:{port}\n");
        if self.tls {
            write_certificates(dir.path(), &["127.0.0.1", "localhost", self.domain.as_deref().unwrap_or("localhost")]);
            let clients = if self.client_certificates { format!(", clientcas: [{}/ca.pem]", dir.path().display()) } else { String::new() };
            config += &format!("  tls: {{certificate: {0}/cert.pem, key: {0}/key.pem{clients}}}\n", dir.path().display());
            let certs = dir.path().join("client");
            std::fs::create_dir(&certs).expect("a directory");
            for (from, to) in [("ca.pem", "ca.crt"), ("cert.pem", "client.cert"), ("key.pem", "client.key")] {
                std::fs::copy(dir.path().join(from), certs.join(to)).expect("the certificate is copied");
            }
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).expect("the configuration is written");
        let log = std::fs::File::create(dir.path().join("log")).expect("the log is made");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("Debian's package docker-registry is installed");
        let registry = DockerRegistry { dir, address, port, child };
        super::wait_until("docker-registry answers", || TcpStream::connect((address, port)).is_ok());
        registry
    }
}

impl DockerRegistry {
    /// With plain HTTP, for anybody.
    pub fn start() -> Self {
        Settings::default().start()
    }

    /// Its address: `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The address of loopback that it listens on.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// A name in it.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.host())
    }

    /// The certificate authority, when it has TLS.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A directory as `--cert-dir` takes it: its authority, and a client's certificate.
    pub fn client_dir(&self) -> PathBuf {
        self.dir.path().join("client")
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// Where its storage is: the directory with `docker/registry/v2`.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The file in which it keeps a blob.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        self.data_dir().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Writes `ca.pem`, and `cert.pem` and `key.pem` for these names signed by it.
pub fn write_certificates(dir: &Path, names: &[&str]) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
    let ca_key = KeyPair::generate().expect("a key");
    let ca_cert = ca.self_signed(&ca_key).expect("an authority");
    let issuer = Issuer::new(ca, ca_key);
    let leaf = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).expect("names");
    let key = KeyPair::generate().expect("a key");
    let cert = leaf.signed_by(&key, &issuer).expect("a certificate");
    for (file, text) in [("ca.pem", ca_cert.pem()), ("cert.pem", cert.pem()), ("key.pem", key.serialize_pem())] {
        std::fs::write(dir.join(file), text).expect("the certificate is written");
    }
}
