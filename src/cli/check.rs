//! `sealift check`

use anyhow::Result;

use super::session::{SessionArgs, require_reachable};
use super::table::wrap;
use super::{CommandContext, Console, ImageArg, Table, count};
use crate::cluster::preflight::{self, Finding, Severity};
use crate::error::Failure;

/// Check whether hosts are ready for a cluster
///
/// Prints all findings of all hosts, the worst first, each with its remedy. Exits with code 3 if one stands in the way. Only the agent,
/// which is this program, stays on the hosts, in /var/lib/sealift/bin, for the run that follows.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift check -f Clusterfile\n  sealift check shop:1.0 --masters 10.0.0.2 --nodes 10.0.0.3\n  sealift check -f Clusterfile --ignore Swap,NumCPU"
)]
pub struct Args {
    /// The image: a name or digest in the store, or a name in a registry
    #[arg(add = super::complete::images())]
    image: Option<ImageArg>,
    #[command(flatten)]
    session: SessionArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let clusterfile = args.session.clusterfile(args.image.as_ref(), cmd)?;
    let store = cmd.store()?;
    let _in_use = store.lock_shared()?;
    let images = args.session.images(&clusterfile, &store, cmd).await?;
    let session = args.session.open(clusterfile, images, cmd).await?;
    let (findings, unreachable) = (session.findings, session.unreachable);
    let hosts = session.desired.hosts.iter().filter(|host| host.reachable).count();
    session.hosts.close().await;
    cmd.console.answer(&findings, || {
        if findings.is_empty() {
            return format!("{} ready ({} checks)\n", subject(hosts), preflight::CHECKS.len());
        }
        text(&findings, &cmd.console)
    })?;
    preflight::require_passed(&findings).map_err(|error| {
        // the findings are on stdout already
        let failed = findings.iter().filter(|finding| severity(finding) == "fail").count();
        Failure { message: format!("{} failed", count(failed, "check")), ..error }
    })?;
    require_reachable(&unreachable)
}

fn subject(hosts: usize) -> String {
    if hosts == 1 { "1 host is".to_owned() } else { format!("{hosts} hosts are") }
}

/// A table where it fits, else each finding and its remedy as a paragraph.
fn text(findings: &[Finding], console: &Console) -> String {
    let table = Table::new(&["SEVERITY", "CHECK", "HOST", "FINDING", "REMEDY"], findings.iter().map(row));
    match console.width().filter(|width| !table.fits(*width)) {
        None => console.table(&table),
        Some(width) => findings.iter().map(|finding| paragraph(finding, width, &console.severity(severity(finding)))).collect(),
    }
}

/// `severity  check  host`, and below it the finding and its remedy.
fn paragraph(finding: &Finding, width: usize, severity: &str) -> String {
    let host = finding.host.map_or_else(String::new, |host| format!("  {host}"));
    let indented = |text: &str| wrap(text, width.saturating_sub(2)).iter().map(|line| format!("  {line}\n")).collect::<String>();
    format!("{severity}  {}{host}\n{}{}", finding.check, indented(&finding.message), indented(&format!("fix: {}", finding.remedy)))
}

fn severity(finding: &Finding) -> &'static str {
    match (finding.ignored, finding.severity) {
        (true, _) => "ignored",
        (false, Severity::Fail) => "fail",
        (false, Severity::Warn) => "warning",
    }
}

fn row(finding: &Finding) -> Vec<String> {
    let host = finding.host.map_or_else(|| "-".to_owned(), |host| host.to_string());
    vec![severity(finding).to_owned(), finding.check.to_owned(), host, finding.message.clone(), finding.remedy.clone()]
}
