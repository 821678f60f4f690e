//! `sealift registry`

use std::path::PathBuf;

use anyhow::Result;

use super::CommandContext;
use crate::registry::server::{Settings, serve};

/// Run the registry that serves a site
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Serve(Serve),
}

/// Serve the store's images to container runtimes, until stopped
///
/// An OCI registry to pull from, and with --writable to push to. It has the images that the store has names for, and the container images inside cluster images
/// under their original names: docker.io/library/nginx:1.25 is found as library/nginx with `?ns=docker.io`, as containerd asks,
/// and as docker.io/library/nginx.
#[derive(Debug, clap::Args)]
struct Serve {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:5000")]
    listen: String,
    /// Serve HTTPS with this certificate chain (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Let in only these users (a file that `htpasswd -B` wrote)
    #[arg(long, value_name = "FILE")]
    htpasswd: Option<PathBuf>,
    /// Let others pull too, and only users push
    #[arg(long, requires = "htpasswd")]
    anonymous_pull: bool,
    /// Ask for tokens, given out at /token, instead of for a password with every request
    #[arg(long, requires = "htpasswd")]
    tokens: bool,
    /// Take pushes; what is pushed is named in the store under the first --name
    #[arg(long)]
    writable: bool,
    /// Delete tags, manifests and blobs when asked to
    #[arg(long, requires = "writable")]
    allow_delete: bool,
    /// A name of this registry itself: images asked for under it are found whatever registry they are from
    #[arg(long, value_name = "HOST[:PORT]", default_value = "sea.hub:5000")]
    name: Vec<String>,
}

/// Runs it.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let Verb::Serve(args) = args.verb;
    let listen = if args.listen.starts_with(':') { format!("0.0.0.0{}", args.listen) } else { args.listen };
    let settings = Settings {
        listen,
        tls: args.tls_cert.zip(args.tls_key),
        htpasswd: args.htpasswd,
        anonymous_pull: args.anonymous_pull,
        tokens: args.tokens,
        own_names: args.name,
        writable: args.writable,
        deletes: args.allow_delete,
    };
    serve(&settings, cmd.store()?, &cmd.ctx).await
}
