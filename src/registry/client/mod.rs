//! The registry client: pull, push, log in. Parallel, resumable, verified.

use std::path::PathBuf;

use anyhow::Result;
use oci_spec::image::{Descriptor, Platform};

use crate::events::Job;
use crate::image::Name;
use crate::store::Store;

/// How registries are reached.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// HTTP instead of HTTPS.
    pub plain_http: bool,
    /// HTTPS without checking the certificate.
    pub insecure_skip_tls_verify: bool,
    /// More certificate authorities, PEM.
    pub ca_file: Option<PathBuf>,
    /// The files with credentials, the first that knows a registry wins; files that are not there are passed over.
    pub authfiles: Vec<PathBuf>,
    /// Instead of this registry ask that one: `docker.io=127.0.0.1:5000`, tried before the registry itself.
    /// A scheme may stand before the host.
    pub mirrors: Vec<(String, String)>,
}

/// Talks to registries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    options: Options,
}

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

impl Client {
    /// A client.
    pub fn new(options: Options) -> Result<Client> {
        Ok(Client { options })
    }

    /// The descriptor of what a name points at now; `None` if the registry has no such name.
    pub async fn resolve(&self, name: &Name, job: &Job) -> Result<Option<Descriptor>> {
        unimplemented!("{name} {:?} {}", self.options, job.jobs())
    }

    /// Pulls everything reachable from `name` into the store, of these platforms (all when empty), and returns the root's
    /// descriptor. For an index the whole index document is kept; the arms of other platforms are left out. Does not tag.
    pub async fn pull(&self, name: &Name, platforms: &[Platform], store: &Store, job: &Job) -> Result<(Descriptor, Summary)> {
        unimplemented!("{name} {platforms:?} {store:?} {}", job.jobs())
    }

    /// Pushes everything reachable from `descriptor` to `name`: blobs in parallel, what is there skipped, mounted from other
    /// repositories of the registry where that works, documents last and bottom-up.
    pub async fn push(&self, descriptor: &Descriptor, name: &Name, store: &Store, job: &Job) -> Result<Summary> {
        unimplemented!("{name} {descriptor:?} {store:?} {}", job.jobs())
    }
}
