//! The local registry: an OCI distribution 1.1 server on top of the store.
//!
//! It serves the images in the store, and the container images in the workloads of cluster images under their original names. Blobs
//! are sent unverified, since clients verify them. Pushed blobs are verified and synced before the response, and pushed images are
//! tagged in the store under the registry's own name.

mod auth;
mod discovery;
mod listen;
mod manifest_put;
mod pull;
mod pushed;
mod repositories;
mod response;
mod route;
mod state;
mod tls;
mod tokens;
mod upload_guard;
mod uploads;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::serve::{Listener, ListenerExt as _};

use self::auth::Auth;
use self::state::State;
use self::tls::TlsListener;
use self::tokens::Tokens;
use self::upload_guard::UploadGuard;
use self::uploads::Uploads;
use crate::error::Failure;
use crate::events::Context;
use crate::store::Store;

/// The time for requests in progress when the server stops.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// The settings of the registry server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `ADDRESS:PORT` to listen on; `:PORT` for all addresses.
    pub listen: String,
    /// The files of certificate chain and key for HTTPS, PEM; HTTP if `None`.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The htpasswd file with users (bcrypt); no login if `None`.
    pub htpasswd: Option<PathBuf>,
    /// Whether anonymous clients may pull.
    pub anonymous_pull: bool,
    /// Whether clients authenticate with tokens of `/token`, instead of the password with every request.
    pub tokens: bool,
    /// The names of this registry, for example `sea.hub:5000`. Pushed images are tagged under the first.
    pub hostnames: Vec<String>,
    /// Whether pushes are accepted.
    pub writable: bool,
    /// Whether deletes are accepted.
    pub allow_delete: bool,
}

/// Serves until `ctx` is cancelled.
pub async fn serve(settings: &Settings, store: Store, ctx: &Context) -> Result<()> {
    let mut auth = settings.htpasswd.as_deref().map(Auth::read).transpose()?;
    if let Some(auth) = &mut auth {
        auth.anonymous_pull = settings.anonymous_pull;
        auth.tokens = settings.tokens.then(Tokens::default);
    }
    let acceptor = settings.tls.as_ref().map(|(certificate, key)| tls::acceptor(certificate, key)).transpose()?;
    let listener = listen::listen(&settings.listen).await.with_context(|| {
        Failure::failed(format!("cannot listen on {}", settings.listen)).hint("`ss -ltnp` shows which process uses the port")
    })?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    let address = listener.local_addr()?;
    ctx.note(format!("serving {} on {scheme}://{address}", store.root().display()));
    if settings.writable && auth.is_none() && !address.ip().is_loopback() {
        ctx.warn("anyone who reaches this address may push: require a login with `--htpasswd FILE`");
    }
    // a read-only store is served as it is
    if let Err(error) = pushed::name_again(&store) {
        tracing::warn!("{error:#}");
    }
    let state = State {
        upload_guard: UploadGuard::new(store.clone()),
        store,
        auth,
        hostnames: settings.hostnames.clone(),
        writable: settings.writable,
        allow_delete: settings.allow_delete,
        scheme,
        ctx: ctx.clone(),
        repositories: Mutex::new(None),
        uploads: Uploads::default(),
        write_lock: Mutex::new(()),
    };
    match acceptor {
        Some(acceptor) => run(TlsListener::new(listener, acceptor)?, Arc::new(state), ctx).await,
        None => {
            let listener = listener.tap_io(|stream| {
                stream.set_nodelay(true).ok();
            });
            run(listener, Arc::new(state), ctx).await
        }
    }
}

async fn run<L>(listener: L, state: Arc<State>, ctx: &Context) -> Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let router = Router::new().fallback(move |request| state.clone().respond(request));
    let stop = ctx.cancel().clone();
    let stopped = stop.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { stopped.cancelled().await });
    let timeout = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_LIMIT).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = timeout => Ok(()),
    }
}
