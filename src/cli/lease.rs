//! `sealift lease`

use std::path::PathBuf;

use anyhow::Result;

use crate::cluster::{Lease, LeaseRequest};

/// Hold a cluster for one run, or give it back; sealift calls it on the first master
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Names the run
    #[arg(long)]
    holder: String,
    /// Who it is, for people
    #[arg(long)]
    owner: String,
    /// The file that the lease is kept in
    #[arg(long, default_value = crate::paths::LEASE)]
    file: PathBuf,
    #[command(subcommand)]
    request: Request,
}

#[derive(Debug, clap::Subcommand)]
enum Request {
    /// Take it, or renew it.
    Hold {
        /// Even from another.
        #[arg(long)]
        break_lease: bool,
    },
    /// Take it after a run that died.
    Inherit {
        /// That run.
        #[arg(long)]
        from: String,
    },
    /// Give it back.
    Release,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let request = match &args.request {
        Request::Hold { break_lease } => LeaseRequest::Hold { by_force: *break_lease },
        Request::Inherit { from } => LeaseRequest::Inherit { from: from.clone() },
        Request::Release => LeaseRequest::Release,
    };
    Lease::ask(&args.file, &args.holder, &args.owner, request)
}
