//! `sealift check`

use anyhow::Result;

use super::session::SiteArgs;
use super::{CommandContext, table};
use crate::cluster::preflight;

/// Check whether hosts are fit for a cluster, and change nothing
///
/// All findings of all hosts, the worst first, each with its remedy. Ends with code 3 if one stands in the way. What looks is
/// sealift itself: it leaves its executable in /var/lib/sealift/bin, for the run that follows.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The image, from the store or a registry
    image: Option<String>,
    #[command(flatten)]
    site: SiteArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.site.clusterfile(args.image.as_deref(), cmd)?;
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let image = args.site.image(&clusterfile, &store, cmd).await?;
    let site = args.site.open(clusterfile, image, cmd).await?;
    let (findings, hosts) = (site.findings, site.desired.hosts.len());
    site.fleet.close().await;
    cmd.console.answer(&findings, || {
        if findings.is_empty() {
            return format!("{hosts} hosts are fit ({} checks)\n", preflight::CHECKS.len());
        }
        let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
        table(&["SEVERITY", "CHECK", "HOST", "FINDING", "REMEDY"], &rows)
    })?;
    Ok(preflight::refuse(&findings)?)
}

fn row(finding: &preflight::Finding) -> Vec<String> {
    let severity = match (finding.ignored, finding.severity) {
        (true, _) => "ignored",
        (false, preflight::Severity::Fail) => "fail",
        (false, preflight::Severity::Warn) => "warning",
    };
    let host = finding.host.map_or_else(|| "-".to_owned(), |host| host.to_string());
    vec![severity.to_owned(), finding.check.to_owned(), host, finding.message.clone(), finding.remedy.clone()]
}
