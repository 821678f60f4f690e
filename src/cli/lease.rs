//! `sealift lease`: for older releases on operators' machines; newer ones ask the agent.

use std::path::PathBuf;

use anyhow::Result;

use crate::host::lease::{Lease, Request as LeaseRequest};

/// Take, renew or release the lease of a cluster; called on a control plane host
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run's identifier
    #[arg(long)]
    holder: String,
    /// Who runs it, for people
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
    /// Take or renew the lease.
    Hold {
        /// Also when another run holds it.
        #[arg(long)]
        break_lease: bool,
    },
    /// Take it over from a run that died.
    Inherit {
        /// That run's identifier.
        #[arg(long)]
        from: String,
    },
    /// Release it.
    Release,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let request = match &args.request {
        Request::Hold { break_lease } => LeaseRequest::Acquire { force: *break_lease, above: 0 },
        Request::Inherit { from } => LeaseRequest::TakeOver { from: from.clone() },
        Request::Release => LeaseRequest::Release,
    };
    Lease::request(&args.file, &args.holder, &args.owner, &request)?.held()?;
    Ok(())
}
