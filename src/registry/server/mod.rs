//! The registry on site: OCI distribution 1.1, straight out of the store.
//!
//! It serves the images that the store has names for, and the container images in the workloads of cluster images under their
//! original names. Blobs go out as they are; whoever pulls checks their digests. Where it takes pushes, what comes is named in
//! the store under the registry's own name, is verified, and is there for good before the client is told so.

mod auth;
mod discovery;
mod manifest_put;
mod pull;
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
use tokio::net::TcpListener;

use self::auth::Auth;
use self::state::State;
use self::tls::TlsListener;
use self::tokens::Tokens;
use self::upload_guard::UploadGuard;
use self::uploads::Uploads;
use crate::error::Failure;
use crate::events::Context;
use crate::store::Store;

/// How long clients may go on with what they are in when the server is told to stop.
const FAREWELL: Duration = Duration::from_secs(10);

/// How the registry is offered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `ADDRESS:PORT` to listen on.
    pub listen: String,
    /// Certificate chain and key for HTTPS, PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Users, as htpasswd writes them with bcrypt.
    pub htpasswd: Option<PathBuf>,
    /// Whoever is not one of them may pull.
    pub anonymous_pull: bool,
    /// Ask for tokens, and give them out, instead of for a password with every request.
    pub tokens: bool,
    /// Names of this registry itself, for example `sea.hub:5000`. What is pushed is named under the first.
    pub own_names: Vec<String>,
    /// Take pushes.
    pub writable: bool,
    /// Delete what is asked to be deleted.
    pub deletes: bool,
}

/// Serves until the job is cancelled.
pub async fn serve(settings: &Settings, store: Store, ctx: &Context) -> Result<()> {
    let mut access = settings.htpasswd.as_deref().map(Auth::read).transpose()?;
    if let Some(access) = &mut access {
        access.anonymous_pull = settings.anonymous_pull;
        access.tokens = settings.tokens.then(Tokens::default);
    }
    let acceptor = settings.tls.as_ref().map(|(certificate, key)| tls::acceptor(certificate, key)).transpose()?;
    let listener = TcpListener::bind(&settings.listen).await.with_context(|| {
        Failure::failed(format!("cannot listen on {}", settings.listen)).hint("`ss -ltnp` shows which process uses the port")
    })?;
    let scheme = if acceptor.is_some() { "https" } else { "http" };
    let address = listener.local_addr()?;
    ctx.note(format!("serving {} on {scheme}://{address}", store.root().display()));
    if settings.writable && access.is_none() && !address.ip().is_loopback() {
        ctx.warn("anyone who reaches this address may push: require a login with `--htpasswd FILE`");
    }
    let site = State {
        pending: UploadGuard::new(store.clone()),
        store,
        access,
        own_names: settings.own_names.clone(),
        writable: settings.writable,
        deletes: settings.deletes,
        scheme,
        ctx: ctx.clone(),
        names: Mutex::new(None),
        uploads: Uploads::default(),
        changing: Mutex::new(()),
    };
    match acceptor {
        Some(acceptor) => run(TlsListener::new(listener, acceptor)?, Arc::new(site), ctx).await,
        None => {
            let listener = listener.tap_io(|stream| {
                stream.set_nodelay(true).ok();
            });
            run(listener, Arc::new(site), ctx).await
        }
    }
}

async fn run<L>(listener: L, site: Arc<State>, ctx: &Context) -> Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    let router = Router::new().fallback(move |request| site.clone().answer(request));
    let stop = ctx.cancel().clone();
    let told = stop.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { told.cancelled().await });
    let give_up = async {
        stop.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = give_up => Ok(()),
    }
}
