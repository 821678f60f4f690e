//! The registry client: pull, push and login; parallel, resumable, verified.
//!
//! It follows the OCI distribution specification 1.1 and docker's token specification, and reads the credentials of docker and podman.

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

pub use credentials::{remove_credentials, store_credentials};
pub use http_file::{HttpFile, Validators, redacted_url};

/// How to connect to registries.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Use HTTP instead of HTTPS.
    pub plain_http: bool,
    /// Use HTTPS without checking the certificate.
    pub insecure_skip_tls_verify: bool,
    /// A file of additional CA certificates, PEM.
    pub ca_file: Option<PathBuf>,
    /// A directory with CA certificates (`*.crt`) and client certificates (`NAME.cert` with `NAME.key`), for every registry.
    pub cert_dir: Option<PathBuf>,
    /// `certs.d` directories, with such a directory for each `HOST[:PORT]`: the first that has one is used.
    pub certs_d: Vec<PathBuf>,
    /// Credential files. The first with an entry for a registry wins; missing files are skipped.
    pub authfiles: Vec<PathBuf>,
    /// Pairs of a registry and its mirror, which is tried first: `docker.io` and `127.0.0.1:5000`, or `http://127.0.0.1:5000`.
    pub mirrors: Vec<(String, String)>,
}

/// The registry client. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    options: Arc<Options>,
    endpoints: Arc<Mutex<HashMap<String, EndpointCell>>>,
}

/// A registry host, once it is connected.
type EndpointCell = Arc<OnceCell<Arc<Endpoint>>>;

/// The result of a pull or push.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// The digest of the root manifest or index.
    pub digest: String,
    /// Transferred bytes, manifests included.
    pub moved_bytes: u64,
    /// Transferred blobs.
    pub moved_blobs: u64,
    /// Blobs that the destination had already.
    pub present_blobs: u64,
    /// Blobs mounted from other repositories.
    pub mounted_blobs: u64,
}

/// The maximum number of repositories to mount from in one push; token services refuse long lists of scopes.
const MAX_MOUNT_SOURCES: usize = 6;

impl Client {
    /// Creates a client; connections are made on first use.
    pub fn new(options: Options) -> Result<Client> {
        Ok(Client { options: Arc::new(options), endpoints: Arc::default() })
    }

    /// Gets the descriptor that a reference points at now; `None` if the registry does not have it.
    pub async fn resolve(&self, name: &Reference, ctx: &Context) -> Result<Option<Descriptor>> {
        self.first_source(name, ctx, |session| async move { manifest::head(&session, name.version(), ctx).await }).await
    }

    /// Pulls an image for these platforms (all if empty) into the store, and returns the descriptor of its root. An index is stored
    /// unchanged, also if manifests of other platforms are left out. Does not tag.
    pub async fn pull(&self, name: &Reference, platforms: &[Platform], store: &Store, ctx: &Context) -> Result<(Descriptor, Summary)> {
        let _in_use = store.lock_shared()?;
        let pulled = self
            .first_source(name, ctx, |session| async move {
                Pull { session: &session, platforms, store, ctx, manifest_bytes: AtomicU64::new(0) }.run(name).await
            })
            .await?;
        let (root, summary) = pulled.ok_or_else(|| {
            let message = format!("no such image: {} (not in {}: 404)", name.familiar(), name.registry());
            Failure::failed(message).hint("check the spelling; a private image may need `sealift login`")
        })?;
        mount_sources::record(store, name, &root)?;
        Ok((root, summary))
    }

    /// Pushes an image to `name`: blobs in parallel, existing ones skipped or mounted from other repositories, then the manifests,
    /// children first.
    pub async fn push(&self, descriptor: &Descriptor, name: &Reference, store: &Store, ctx: &Context) -> Result<Summary> {
        let _in_use = store.lock_shared()?;
        let (read, root, dest) = (store.clone(), descriptor.clone(), name.clone());
        let (graph, candidates) =
            spawn_blocking(move || anyhow::Ok((ImageGraph::read(&read, &root)?, mount_sources::candidates(&read, &dest)))).await??;
        let blobs = graph.blobs()?;
        let sources: BTreeSet<&String> = blobs.iter().filter_map(|blob| candidates.get(&blob.digest)).collect();
        let sources: BTreeSet<String> = sources.into_iter().take(MAX_MOUNT_SOURCES).cloned().collect();
        let candidates: HashMap<_, _> = candidates.into_iter().filter(|(_, repository)| sources.contains(repository)).collect();
        let mut scopes = vec![format!("repository:{}:pull,push", name.repository())];
        scopes.extend(sources.iter().map(|source| format!("repository:{source}:pull")));
        let session = self.session(name.registry(), name, scopes, ctx).await?;
        let summary = Push { session: &session, graph: &graph, store, mount_candidates: &candidates, ctx }.run(name).await?;
        mount_sources::record(store, name, descriptor)?;
        Ok(summary)
    }

    /// Checks a user name and password with a registry. They are not stored: see [`store_credentials`].
    pub async fn login(&self, registry: &str, user: &str, password: &SecretString, ctx: &Context) -> Result<()> {
        let endpoint = self.endpoint(registry, ctx).await?;
        let credential = Credential::Password { user: user.to_owned(), password: password.clone() };
        let base = endpoint.base.clone();
        if endpoint.challenge.is_none() {
            ctx.warn(format!("{registry} requires no login: the password was not checked"));
        }
        let session = Session::new(endpoint, "", Vec::new(), Some(credential));
        let what = format!("log in to {registry} as {user}");
        let result = retry(Policy::default(), ctx, &what, |_| session.send(&what, |http| http.get(&base))).await;
        let response = result.map_err(|error| match kind_of(&error) {
            Kind::Network => error,
            _ if hints_of(&error).is_empty() => error,
            _ => error.context(Failure::failed(what.clone()).hint("check user and password")),
        })?;
        if !response.status().is_success() {
            return Err(session.error_from(response, &what).await);
        }
        Ok(())
    }

    /// Runs `request` with the mirrors of the registry and then the registry itself, until one has a result. A mirror that fails is
    /// skipped with a warning.
    async fn first_source<T, F>(&self, name: &Reference, ctx: &Context, request: impl Fn(Session) -> F) -> Result<Option<T>>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let scopes = || vec![format!("repository:{}:pull", name.repository())];
        let mirrors = self.options.mirrors.iter().filter(|(registry, _)| registry == name.registry());
        for (_, mirror) in mirrors {
            let result = match self.session(mirror, name, scopes(), ctx).await {
                Ok(session) => request(session).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(error) if kind_of(&error) == Kind::Interrupted => return Err(error),
                Err(error) => ctx.warn(format!("mirror {mirror} is skipped: {error:#}")),
            }
        }
        request(self.session(name.registry(), name, scopes(), ctx).await?).await
    }

    async fn session(&self, host: &str, name: &Reference, scopes: Vec<String>, ctx: &Context) -> Result<Session> {
        let endpoint = self.endpoint(host, ctx).await?;
        let (options, registry, repository) = (self.options.clone(), endpoint.host.clone(), name.repository().to_owned());
        let credential = spawn_blocking(move || credentials::find(&options.authfiles, &registry, &repository)).await??;
        Ok(Session::new(endpoint, name.repository(), scopes, credential))
    }

    async fn endpoint(&self, host: &str, ctx: &Context) -> Result<Arc<Endpoint>> {
        let cell = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).entry(host.to_owned()).or_default().clone();
        let reached = cell.get_or_try_init(|| async { Endpoint::connect(host, &self.options, ctx).await.map(Arc::new) }).await?;
        Ok(reached.clone())
    }
}
