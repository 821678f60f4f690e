//! `sealift kubeconfig`

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use super::cluster_args::KnownArgs;
use crate::cluster::Hosts;
use crate::error::Failure;
use crate::host::AgentBinaries;

/// Print the administrator's kubeconfig of a cluster, with an address that is reached from here
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let mut clusterfile = args.cluster.clusterfile(cmd)?;
    clusterfile.cluster.hosts.retain(crate::clusterfile::HostSpec::is_master);
    let targets = args.cluster.access.targets(&clusterfile)?;
    let (fleet, mut failed) = Hosts::connect_some(&targets, &AgentBinaries::own()?, &cmd.ctx).await;
    let mut answer = None;
    for master in fleet.hosts() {
        match master.read_file("/etc/kubernetes/admin.conf").await {
            Ok(Some(config)) => {
                let server = format!("https://{}", std::net::SocketAddr::new(master.address(), 6443));
                answer = Some(with_server(&String::from_utf8_lossy(&config), &server));
                break;
            }
            Ok(None) => {}
            Err(error) => failed.push((master.address(), error)), // the next one may be well
        }
    }
    fleet.close().await;
    match (answer, failed.into_iter().next()) {
        (Some(text), _) => cmd.console.answer(&json!({ "kubeconfig": text }), || text.clone()),
        (None, Some((_, error))) => Err(error),
        (None, None) => {
            Err(Failure::failed("no master has an administrator's kubeconfig").hint("`sealift status` tells how far it is").into())
        }
    }
}

/// The same kubeconfig for another address of the API server: the certificate names every master's.
fn with_server(text: &str, server: &str) -> String {
    let replace = |line: &str| match line.trim_start().strip_prefix("server:") {
        Some(_) => format!("{}server: {server}\n", &line[..line.len() - line.trim_start().len()]),
        None => format!("{line}\n"),
    };
    text.lines().map(replace).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_one_that_is_reached_from_here() {
        let text = "clusters:\n- cluster:\n    server: https://apiserver.cluster.local:6443\n  name: k\n";
        let expected = "clusters:\n- cluster:\n    server: https://10.0.0.1:6443\n  name: k\n";
        assert_eq!(with_server(text, "https://10.0.0.1:6443"), expected);
    }
}
