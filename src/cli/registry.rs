//! `sealift registry`

use std::path::PathBuf;

use anyhow::Result;

use super::CommandContext;
use crate::service::registry::{Settings, serve};

/// Run a registry that serves the store
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Serve(Serve),
}

/// Serve the images of the store over the OCI distribution API
///
/// Serves pulls, and with --writable pushes. It has the named images of the store, and the container images inside cluster images under
/// their original names: docker.io/library/nginx:1.25 is found as library/nginx with `?ns=docker.io`, as containerd requests it, and as
/// docker.io/library/nginx.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift registry serve\n  sealift registry serve --listen :5000 --tls-cert tls.crt --tls-key tls.key\n  sealift registry serve --writable --htpasswd users"
)]
struct Serve {
    /// The address to listen on; `:PORT` for all addresses, IPv4 and IPv6
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: String,
    /// Serve HTTPS with this certificate chain, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Admit only these users: a file of `htpasswd -B`
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Let everyone pull; only users push
    #[arg(long, requires = "htpasswd")]
    anonymous_pull: bool,
    /// Use bearer tokens, issued at /token, instead of basic authentication
    #[arg(long, requires = "htpasswd")]
    tokens: bool,
    /// Accept pushes; images are named in the store under the first --name
    #[arg(long)]
    writable: bool,
    /// Accept DELETE of tags, manifests and blobs
    #[arg(long, requires = "writable")]
    allow_delete: bool,
    /// A host name of this registry: under it, images of all registries are found (repeatable)
    #[arg(long, value_name = "HOST[:PORT]", default_value = "sea.hub:5000")]
    name: Vec<String>,
}

/// Runs it.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let Verb::Serve(args) = args.verb;
    let settings = Settings {
        listen: args.listen,
        tls: args.tls_cert.zip(args.tls_key),
        htpasswd: args.htpasswd,
        anonymous_pull: args.anonymous_pull,
        tokens: args.tokens,
        hostnames: args.name,
        writable: args.writable,
        allow_delete: args.allow_delete,
    };
    serve(&settings, cmd.store()?, &cmd.ctx).await
}
