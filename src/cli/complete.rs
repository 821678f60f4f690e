//! What shells complete: names of images in the store and of known clusters.

use std::ffi::OsStr;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::{cluster_args, state_root};
use crate::store::Store;

/// The variable by which the completion scripts call this program.
pub const VARIABLE: &str = "SEALIFT_COMPLETE";

/// Completes names of images in the store.
pub fn images() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| starting_with(current, image_names()))
}

/// Completes names of clusters that this machine knows.
pub fn clusters() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        starting_with(current, cluster_args::records().map(|records| records.names()).unwrap_or_default())
    })
}

/// Completes names of clusters that this machine knows or has logs of.
pub fn clusters_with_logs() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        starting_with(current, cluster_args::records().map(|records| records.names_with_logs()).unwrap_or_default())
    })
}

/// Completes names of clusters that this machine knows, and of images in the store.
pub fn clusters_and_images() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let clusters = cluster_args::records().map(|records| records.names()).unwrap_or_default();
        starting_with(current, clusters.into_iter().chain(image_names()).collect())
    })
}

/// Reads the store only if it exists: pressing Tab changes nothing.
fn image_names() -> Vec<String> {
    let root = super::store_from_env().or_else(|| Some(state_root().ok()?.join("store")));
    let store = root.filter(|root| root.join("index.json").is_file()).and_then(|root| Store::open(&root).ok());
    let names = store.and_then(|store| store.refs().ok()).unwrap_or_default();
    names.iter().map(|(name, _)| name.familiar()).collect()
}

fn starting_with(current: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    names.into_iter().filter(|name| name.starts_with(&*current)).map(CompletionCandidate::new).collect()
}
