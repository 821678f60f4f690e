//! `sealift exec`

use anyhow::Result;
use serde::Serialize;

use super::CommandContext;
use super::cluster_args::KnownArgs;
use crate::cluster::Hosts;
use crate::error::{Failure, Kind};
use crate::host::{AgentBinaries, Exec};

/// Run a command as root on all hosts of a cluster at once
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift exec -- uptime\n  sealift exec shop --roles master -- crictl ps\n  sealift exec -f Clusterfile -- 'df -h / | tail -1'"
)]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
    /// Only on hosts with one of these roles, such as master,node
    #[arg(long, value_name = "ROLES", value_delimiter = ',')]
    roles: Vec<String>,
    /// The command, after `--`; a single argument is a line for /bin/sh
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// The output and exit status on one host.
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
        return Err(Failure::usage(format!("no host has the role {}", args.roles.join(" or ")))
            .hint("`sealift status` lists the hosts and their roles")
            .into());
    }
    let command = match args.command.as_slice() {
        [line] => Exec::shell(line),
        words => Exec::new(words.iter().cloned()),
    }
    .quiet();
    let targets = args.cluster.access.targets(&clusterfile)?;
    let (hosts, failed) = Hosts::connect_reachable(&targets, &AgentBinaries::current_exe()?, &cmd.ctx).await;
    let command = &command;
    let results = hosts
        .on_each(|host| async move {
            let output = host.exec(command, &cmd.ctx).await?;
            if output.truncated_bytes > 0 {
                cmd.ctx.warn(format!(
                    "{}: the first {} bytes of output are not shown; redirect the output to a file on the host",
                    host.name(),
                    output.truncated_bytes
                ));
            }
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            Ok(Answer { host: host.name().to_owned(), address: host.address(), status: output.status, stdout, stderr })
        })
        .await;
    hosts.close().await;
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
    cmd.console.answer(&answers, || answers.iter().map(prefixed).collect())?;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(Kind::SomeHosts, errors.join("\n  ")).hint("`sealift status` shows the state of the hosts").into())
    }
}

/// Each line of output with the host's name before it.
fn prefixed(answer: &Answer) -> String {
    let lines = answer.stdout.lines().chain(answer.stderr.lines());
    lines.map(|line| format!("{}: {line}\n", answer.host)).collect()
}
