//! What a host is and has, gathered by the agent on the host itself, without changing anything.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::resource::System;

/// What to look at besides what is always gathered.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FactsRequest {}

/// The facts about one host.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Facts {
    /// The host name.
    pub hostname: String,
    /// The architecture as `uname -m` names it.
    pub machine: String,
}

/// Gathers the facts of this host.
pub fn gather(_system: &System, _request: &FactsRequest) -> Result<Facts> {
    let uname = rustix::system::uname();
    Ok(Facts { hostname: uname.nodename().to_string_lossy().into_owned(), machine: uname.machine().to_string_lossy().into_owned() })
}
