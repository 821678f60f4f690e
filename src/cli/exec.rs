//! `sealift exec`

use anyhow::Result;
use serde::Serialize;

use super::CommandContext;
use super::cluster_args::KnownArgs;
use crate::cluster::Hosts;
use crate::error::{Failure, Kind};
use crate::host::{AgentBinaries, Exec};

/// Run a command on hosts of a cluster, as root, on all at once
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
    /// Only on hosts with one of these roles
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    roles: Vec<String>,
    /// The command, after `--`; one word is a line for the shell
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// What a host answered.
#[derive(Debug, Serialize)]
struct Answer {
    host: String,
    address: std::net::IpAddr,
    status: i32,
    stdout: String,
    stderr: String,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let mut clusterfile = args.cluster.clusterfile(cmd)?;
    clusterfile.cluster.hosts.retain(|host| args.roles.is_empty() || args.roles.iter().any(|role| host.has_role(role)));
    if clusterfile.cluster.hosts.is_empty() {
        return Err(Failure::usage(format!("no host has a role of {}", args.roles.join(", "))).into());
    }
    let command = match args.command.as_slice() {
        [line] => Exec::shell(line),
        words => Exec::new(words.iter().cloned()),
    }
    .quiet();
    let targets = args.cluster.access.targets(&clusterfile)?;
    let (fleet, failed) = Hosts::connect_some(&targets, &AgentBinaries::own()?, &cmd.ctx).await;
    let command = &command;
    let results = fleet
        .each(|host| async move {
            let output = host.exec(command, &cmd.ctx).await?;
            if output.lost > 0 {
                cmd.ctx.warn(format!(
                    "{}: the first {} bytes that it wrote are not shown; send them to a file there",
                    host.name(),
                    output.lost
                ));
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            Ok(Answer { host: host.name().to_owned(), address: host.address(), status: output.status, stdout, stderr })
        })
        .await;
    fleet.close().await;
    let mut errors: Vec<String> = failed.into_iter().map(|(_, error)| format!("{error:#}")).collect();
    let mut answers = Vec::new();
    for (_, result) in results {
        match result {
            Ok(answer) => answers.push(answer),
            Err(error) => errors.push(format!("{error:#}")),
        }
    }
    errors
        .extend(answers.iter().filter(|answer| answer.status != 0).map(|answer| format!("{}: exit status {}", answer.host, answer.status)));
    cmd.console.answer(&answers, || answers.iter().map(shown).collect())?;
    if errors.is_empty() { Ok(()) } else { Err(Failure::new(Kind::SomeHosts, errors.join("\n  ")).into()) }
}

fn shown(answer: &Answer) -> String {
    let lines = answer.stdout.lines().chain(answer.stderr.lines());
    lines.map(|line| format!("{}: {line}\n", answer.host)).collect()
}
