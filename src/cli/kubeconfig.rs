//! `sealift kubeconfig`

use anyhow::Result;
use serde_json::json;

use super::CommandContext;
use super::cluster_args::KnownArgs;
use crate::cluster::Hosts;
use crate::error::Failure;
use crate::host::AgentBinaries;

/// Print the admin kubeconfig of a cluster
///
/// The server in it is a control plane host that is reachable from here.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift kubeconfig > ~/.kube/config\n  sealift kubeconfig shop\n  sealift kubeconfig -f Clusterfile --user ops"
)]
pub struct Args {
    #[command(flatten)]
    cluster: KnownArgs,
}

/// Runs the command.
pub async fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let mut clusterfile = args.cluster.clusterfile(cmd)?;
    clusterfile.cluster.hosts.retain(crate::clusterfile::HostSpec::is_master);
    let targets = args.cluster.access.targets(&clusterfile)?;
    let (hosts, mut failed) = Hosts::connect_reachable(&targets, &AgentBinaries::current_exe()?, &cmd.ctx).await;
    let mut answer = None;
    for master in hosts.hosts() {
        match master.read_file("/etc/kubernetes/admin.conf").await {
            Ok(Some(config)) => {
                let server = format!("https://{}", std::net::SocketAddr::new(master.address(), 6443));
                answer = Some(with_server(&String::from_utf8_lossy(&config), &server));
                break;
            }
            Ok(None) => {}
            Err(error) => failed.push((master.address(), error)), // another may work
        }
    }
    hosts.close().await;
    match (answer, failed.into_iter().next()) {
        (Some(text), _) => cmd.console.answer(&json!({ "kubeconfig": text }), || text.clone()),
        (None, Some((_, error))) => Err(error),
        (None, None) => Err(Failure::failed("no control plane host has /etc/kubernetes/admin.conf")
            .hint("`sealift status` shows how far the cluster is")
            .into()),
    }
}

/// The kubeconfig with another API server: its certificate names the address of every control plane host.
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
    fn the_server_is_one_that_is_reachable_from_here() {
        let text = "clusters:\n- cluster:\n    server: https://apiserver.cluster.local:6443\n  name: k\n";
        let expected = "clusters:\n- cluster:\n    server: https://10.0.0.1:6443\n  name: k\n";
        assert_eq!(with_server(text, "https://10.0.0.1:6443"), expected);
    }
}
