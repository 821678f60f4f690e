//! The options of every command that talks to registries.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::error::Failure;
use crate::registry::client::{Client, Options};

/// How to reach registries: TLS, credentials, mirrors.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Registry options")]
pub struct RegistryArgs {
    /// Use HTTP instead of HTTPS; detected for loopback addresses
    #[arg(long)]
    plain_http: bool,
    /// Do not verify the certificates of registries
    #[arg(long)]
    insecure_skip_tls_verify: bool,
    /// Also trust the certificate authorities in this PEM file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// A directory of certificate authorities (*.crt) and a client certificate (NAME.cert, NAME.key) [default: the registry's in
    /// ~/.config/containers/certs.d, /etc/containers/certs.d or /etc/docker/certs.d]
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// The file of credentials [default: $REGISTRY_AUTH_FILE, else podman's and docker's]
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Pull from this mirror of a registry first; HOST may begin with http:// (repeatable)
    #[arg(long = "mirror", value_name = "REGISTRY=HOST[:PORT]", value_parser = mirror)]
    mirrors: Vec<(String, String)>,
}

impl RegistryArgs {
    /// The options for a client, files of credentials from the environment included.
    pub fn options(&self) -> Options {
        Options {
            plain_http: self.plain_http,
            insecure_skip_tls_verify: self.insecure_skip_tls_verify,
            ca_file: self.ca_file.clone(),
            cert_dir: self.cert_dir.clone(),
            certs_d: certs_d(),
            authfiles: self.authfiles(),
            mirrors: self.mirrors.clone(),
        }
    }

    /// A client with these options.
    pub fn client(&self) -> Result<Client> {
        Client::new(self.options())
    }

    /// The file that `login` writes: `--authfile`, `$REGISTRY_AUTH_FILE`, else docker's.
    pub fn written_authfile(&self) -> Result<PathBuf> {
        self.authfile
            .clone()
            .or_else(|| variable("REGISTRY_AUTH_FILE"))
            .or_else(docker_config)
            .context(Failure::usage("no home directory to save credentials in").hint("name a file with `--authfile FILE`"))
    }

    /// `--authfile` alone, or `$REGISTRY_AUTH_FILE` alone, or podman's file and then docker's, as containers-auth.json(5) has it.
    fn authfiles(&self) -> Vec<PathBuf> {
        if let Some(named) = self.authfile.clone().or_else(|| variable("REGISTRY_AUTH_FILE")) {
            return vec![named];
        }
        let podman = variable("XDG_RUNTIME_DIR").map(|dir| dir.join("containers/auth.json"));
        podman.into_iter().chain(docker_config()).collect()
    }
}

/// The directories that have a directory of certificates for each registry, as podman and docker look for them.
fn certs_d() -> Vec<PathBuf> {
    let config = variable("XDG_CONFIG_HOME").or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    let own = config.map(|config| config.join("containers/certs.d"));
    own.into_iter().chain(["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from)).collect()
}

fn docker_config() -> Option<PathBuf> {
    variable("DOCKER_CONFIG").or_else(|| std::env::home_dir().map(|home| home.join(".docker"))).map(|dir| dir.join("config.json"))
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn mirror(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((registry, host)) if !registry.is_empty() && !host.is_empty() => Ok((registry.to_owned(), host.to_owned())),
        _ => Err("expected REGISTRY=HOST[:PORT], for example docker.io=127.0.0.1:5000".to_owned()),
    }
}
