//! The registry client: pull, push, log in. Parallel, resumable, verified.
//!
//! Follows the OCI distribution specification 1.1 and docker's token specification. Reads the credential files of docker and podman.

mod artifacts;
mod certificates;
mod challenge;
mod chunk_size;
mod credentials;
mod download;
mod endpoint;
mod error;
#[cfg(test)]
mod fake_registry;
mod http_file;
mod idle_timeout;
mod image_graph;
mod manifest;
mod mount_sources;
mod pull;
mod push;
mod referrers;
mod session;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;
mod upload_body;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use oci_spec::image::{Descriptor, Platform};
use secrecy::SecretString;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use self::credentials::Credential;
use self::endpoint::Endpoint;
use self::image_graph::ImageGraph;
use self::pull::Pull;
use self::push::Push;
use self::session::Session;
use crate::error::{Failure, Kind, hints_of, kind_of};
use crate::events::Context;
use crate::image::Reference;
use crate::retry::{Policy, retry};
use crate::store::Store;

pub use credentials::{keep, remove_credentials};
pub use http_file::{HttpFile, Version, shown};

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// HTTP instead of HTTPS.
    pub plain_http: bool,
    /// HTTPS without checking the certificate.
    pub insecure_skip_tls_verify: bool,
    /// More certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// A directory with authorities (`*.crt`) and client certificates (`NAME.cert` with `NAME.key`), for every registry.
    pub cert_dir: Option<PathBuf>,
    /// Directories that have such a directory for each registry, called as the registry is: the first that has one counts.
    pub certs_d: Vec<PathBuf>,
    /// The files with credentials, the first that knows a registry wins; files that are not there are passed over.
    pub authfiles: Vec<PathBuf>,
    /// Instead of this registry ask that one: `docker.io=127.0.0.1:5000`, tried before the registry itself.
    /// A scheme may stand before the host.
    pub mirrors: Vec<(String, String)>,
}

/// Talks to registries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    options: Arc<Options>,
    endpoints: Arc<Mutex<HashMap<String, Reached>>>,
}

/// A registry host, once it has been reached.
type Reached = Arc<OnceCell<Arc<Endpoint>>>;

/// What a transfer came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The digest of the root document.
    pub digest: String,
    /// Bytes over the wire.
    pub moved_bytes: u64,
    /// Blobs over the wire.
    pub moved_blobs: u64,
    /// Blobs that were there already.
    pub present_blobs: u64,
    /// Blobs mounted from other repositories.
    pub mounted_blobs: u64,
}

/// How many other repositories a push asks to mount from; token services dislike long lists of scopes.
const MOUNT_SOURCES: usize = 6;

impl Client {
    /// A client.
    pub fn new(options: Options) -> Result<Client> {
        Ok(Client { options: Arc::new(options), endpoints: Arc::default() })
    }

    /// The descriptor of what a name points at now; `None` if the registry has no such name.
    pub async fn resolve(&self, name: &Reference, ctx: &Context) -> Result<Option<Descriptor>> {
        self.first_source(name, ctx, |session| async move { manifest::head(&session, name.version(), ctx).await }).await
    }

    /// Pulls everything reachable from `name` into the store, of these platforms (all when empty), and returns the root's
    /// descriptor. For an index the whole index document is kept; the arms of other platforms are left out. Does not tag.
    pub async fn pull(&self, name: &Reference, platforms: &[Platform], store: &Store, ctx: &Context) -> Result<(Descriptor, Summary)> {
        let _in_use = store.lock_shared()?;
        let pulled = self
            .first_source(name, ctx, |session| async move {
                Pull { session: &session, platforms, store, ctx, document_bytes: AtomicU64::new(0) }.run(name).await
            })
            .await?;
        let (root, summary) = pulled.ok_or_else(|| {
            let message = format!("no such image: {} (not in {}: 404)", name.familiar(), name.registry());
            Failure::failed(message).hint("check the spelling; a private image may need `sealift login`")
        })?;
        mount_sources::remember(store, name, &root)?;
        Ok((root, summary))
    }

    /// Pushes everything reachable from `descriptor` to `name`: blobs in parallel, what is there skipped, mounted from other
    /// repositories of the registry where that works, documents last and bottom-up.
    pub async fn push(&self, descriptor: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<Summary> {
        let _in_use = store.lock_shared()?;
        let (read, root, dest) = (store.clone(), descriptor.clone(), name.clone());
        let (tree, elsewhere) =
            spawn_blocking(move || anyhow::Ok((ImageGraph::read(&read, &root)?, mount_sources::elsewhere(&read, &dest)))).await??;
        let wanted = tree.blobs()?;
        let sources: BTreeSet<&String> = wanted.iter().filter_map(|blob| elsewhere.get(&blob.digest)).collect();
        let sources: BTreeSet<String> = sources.into_iter().take(MOUNT_SOURCES).cloned().collect();
        let elsewhere: HashMap<_, _> = elsewhere.into_iter().filter(|(_, repository)| sources.contains(repository)).collect();
        let mut scopes = vec![format!("repository:{}:pull,push", name.repository())];
        scopes.extend(sources.iter().map(|source| format!("repository:{source}:pull")));
        let session = self.session(name.registry(), name, scopes, ctx).await?;
        let summary = Push { session: &session, tree: &tree, store, elsewhere: &elsewhere, ctx }.run(name).await?;
        mount_sources::remember(store, name, descriptor)?;
        Ok(summary)
    }

    /// Asks a registry whether it knows this user by this password. Nothing is kept: see [`keep`].
    pub async fn login(&self, registry: &str, user: &str, password: &SecretString, ctx: &Context) -> Result<()> {
        let endpoint = self.endpoint(registry, ctx).await?;
        let credential = Credential::Password { user: user.to_owned(), password: password.clone() };
        let base = endpoint.base.clone();
        if endpoint.challenge.is_none() {
            ctx.warn(format!("{registry} requires no login: the password was not checked"));
        }
        let session = Session::new(endpoint, "", Vec::new(), Some(credential));
        let what = format!("log in to {registry} as {user}");
        let asked = retry(Policy::default(), ctx, &what, |_| session.send(&what, |http| http.get(&base))).await;
        let response = asked.map_err(|error| match kind_of(&error) {
            Kind::Network => error,
            _ if hints_of(&error).is_empty() => error,
            _ => error.context(Failure::failed(what.clone()).hint("check user and password")),
        })?;
        if !response.status().is_success() {
            return Err(session.refuse(response, &what).await);
        }
        Ok(())
    }

    /// Asks the mirrors of the name's registry and then the registry itself, until one has it. A mirror that fails is passed over.
    async fn first_source<T, F>(&self, name: &Reference, ctx: &Context, ask: impl Fn(Session) -> F) -> Result<Option<T>>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let scopes = || vec![format!("repository:{}:pull", name.repository())];
        let mirrors = self.options.mirrors.iter().filter(|(registry, _)| registry == name.registry());
        for (_, mirror) in mirrors {
            let asked = match self.session(mirror, name, scopes(), ctx).await {
                Ok(session) => ask(session).await,
                Err(error) => Err(error),
            };
            match asked {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) if kind_of(&error) == Kind::Interrupted => return Err(error),
                Err(error) => ctx.warn(format!("mirror {mirror} is skipped: {error:#}")),
            }
        }
        ask(self.session(name.registry(), name, scopes(), ctx).await?).await
    }

    async fn session(&self, host: &str, name: &Reference, scopes: Vec<String>, ctx: &Context) -> Result<Session> {
        let endpoint = self.endpoint(host, ctx).await?;
        let (options, registry, repository) = (self.options.clone(), endpoint.host.clone(), name.repository().to_owned());
        let credential = spawn_blocking(move || credentials::find(&options.authfiles, &registry, &repository)).await??;
        Ok(Session::new(endpoint, name.repository(), scopes, credential))
    }

    async fn endpoint(&self, host: &str, ctx: &Context) -> Result<Arc<Endpoint>> {
        let cell = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).entry(host.to_owned()).or_default().clone();
        let reached = cell.get_or_try_init(|| async { Endpoint::reach(host, &self.options, ctx).await.map(Arc::new) }).await?;
        Ok(reached.clone())
    }
}
