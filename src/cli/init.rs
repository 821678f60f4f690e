//! `sealift init`

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use serde_json::json;

use super::CommandContext;
use crate::atomic_file;
use crate::clusterfile::address::parse_list;
use crate::error::Failure;

/// Write a Kubefile and a Clusterfile to start from
///
/// Both are commented, and pass `sealift lint`; the Kubefile can be built as it is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sealift init\n  sealift init shop --masters 10.0.0.2 --nodes 10.0.0.3,10.0.0.4\n  sealift init shop; sealift build -t shop:0.1 shop"
)]
pub struct Args {
    /// The directory; created if it does not exist
    #[arg(default_value = ".", value_name = "DIR")]
    directory: PathBuf,
    /// The name of the cluster and its image [default: the directory's name]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Addresses of masters, with ranges: 10.0.0.2,10.0.0.5-10.0.0.7
    #[arg(short, long, value_name = "ADDRESSES", default_value = "192.0.2.11", value_parser = addresses)]
    masters: String,
    /// Addresses of workers
    #[arg(short, long, value_name = "ADDRESSES", value_parser = addresses)]
    nodes: Option<String>,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// Writes the files, all or none.
pub fn run(args: Args, cmd: &CommandContext) -> Result<()> {
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.directory));
    ensure!(
        is_name(&name),
        Failure::usage(format!("name `{name}`: expected lower-case letters, digits and `-`")).hint("name it with `--name NAME`")
    );
    let files = [("Kubefile", kubefile(&name)), ("Clusterfile", clusterfile(&name, &args.masters, args.nodes.as_deref()))];
    let files = files.map(|(file, text)| (args.directory.join(file), text));
    for (path, _) in &files {
        ensure!(
            args.force || path.symlink_metadata().is_err(),
            Failure::usage(format!("{} exists already", path.display())).hint("name another directory, or overwrite it with `--force`")
        );
    }
    fs_err::create_dir_all(&args.directory)?;
    for (path, text) in &files {
        atomic_file::write(path, text.as_bytes(), 0o644)?;
    }
    let directory = args.directory.display();
    cmd.ctx.note(format!("next: edit both files, then `sealift build -t {name}:0.1 {directory}`"));
    let paths = files.map(|(path, _)| path);
    cmd.console.answer(&json!({ "name": name, "files": paths }), || paths.iter().map(|path| format!("{}\n", path.display())).collect())
}

/// A list of addresses as it is typed, if it is one.
fn addresses(text: &str) -> Result<String, String> {
    match parse_list(text)?.is_empty() {
        true => Err("expected an address, for example 10.0.0.2".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// What is left of a directory's name when it becomes the name of a cluster.
fn name_of(directory: &Path) -> String {
    let whole = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let name = whole.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let allowed = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    let name = name.chars().map(allowed).collect::<String>().trim_matches('-').to_owned();
    if is_name(&name) { name } else { "my-cluster".to_owned() }
}

/// Whether it is a name for Kubernetes and for a repository.
fn is_name(name: &str) -> bool {
    let inside = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '-');
    !name.is_empty() && name.len() <= 63 && name.chars().all(inside) && !name.starts_with('-') && !name.ends_with('-')
}

fn kubefile(name: &str) -> String {
    format!(
        "\
# Builds the cluster image `{name}`: sealift build -t {name}:0.1 .
# Check it first, and see which container images it packs: sealift build --check .

# The base: a cluster image with Kubernetes, or `scratch` for an image without.
#FROM registry.example.com/kubernetes:v1.31.0
FROM scratch

# Defaults of variables that the Clusterfile may set.
ENV LOG_LEVEL=info

# Files for every host, installed at the same place below /.
#COPY host host/

# An app: Kubernetes manifests, a helm chart, a kustomization or scripts. The container images in it are packed too.
#APP web local://web.yaml
#APP cache oci://registry.example.com/charts/redis:20.1.0

# Which apps a run launches, in this order.
#LAUNCH [\"cache\", \"web\"]
"
    )
}

fn clusterfile(name: &str, masters: &str, nodes: Option<&str>) -> String {
    let list = |addresses: &str| addresses.split(',').map(str::trim).filter(|item| !item.is_empty()).collect::<Vec<_>>().join(", ");
    let nodes = match nodes {
        Some(nodes) => format!("    - {{ ips: [{}], roles: [node] }}\n", list(nodes)),
        None => "    #- { ips: [192.0.2.21-192.0.2.23], roles: [node] }\n".to_owned(),
    };
    let masters = list(masters);
    format!(
        "\
# The cluster `{name}`: sealift check -f Clusterfile, then sealift run -f Clusterfile
# Every field: sealift schema Cluster
apiVersion: sealift.io/v1
kind: Cluster
metadata:
  name: {name}
spec:
  image: {name}:0.1
  # Variables of scripts, templates and apps.
  env: [LOG_LEVEL=info]
  # How to log in to the hosts. Without `pk`: ssh-agent, then the keys in ~/.ssh. Other users than root need sudo.
  ssh:
    user: root
    #pk: ~/.ssh/id_ed25519
    #passwdFrom: {{ prompt: true }}
  hosts:
    - {{ ips: [{masters}], roles: [master] }}
{nodes}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusterfile;
    use crate::kubefile;

    #[test]
    fn both_files_are_without_errors_and_warnings() {
        assert_eq!(kubefile::parse("Kubefile", &kubefile("shop")).diagnostics, []);
        for nodes in [None, Some("10.0.0.3,10.0.0.5-10.0.0.7")] {
            let text = super::clusterfile("shop", "10.0.0.2", nodes);
            assert_eq!(clusterfile::lint("Clusterfile", &text), [], "{text}");
            let loaded = clusterfile::load("Clusterfile", &text).unwrap();
            assert_eq!((loaded.cluster.name.as_str(), loaded.cluster.hosts.len()), ("shop", if nodes.is_some() { 5 } else { 1 }));
        }
    }

    #[test]
    fn the_commented_lines_of_the_kubefile_are_valid_too() {
        let text = kubefile("shop").replace("\nFROM scratch", "").replace("\n#", "\n");
        let instructions: Vec<&str> =
            text.lines().filter(|line| line.split(' ').next().is_some_and(|word| kubefile::INSTRUCTIONS.contains(&word))).collect();
        assert_eq!(instructions.len(), 6, "{instructions:?}");
        assert_eq!(kubefile::parse("Kubefile", &instructions.join("\n")).diagnostics, []);
    }

    #[test]
    fn a_directory_gives_a_name() {
        for (directory, expected) in [("/srv/Shop_2", "shop-2"), ("/", "my-cluster"), ("/srv/--", "my-cluster"), ("/x/web", "web")] {
            assert_eq!(name_of(Path::new(directory)), expected);
        }
    }
}
