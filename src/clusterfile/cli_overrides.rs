//! What the command line says over a Clusterfile, or instead of one.

use std::net::IpAddr;

use anyhow::Result;
use secrecy::SecretString;

use crate::error::Failure;
use crate::image::Reference;

use super::finding::Findings;
use super::hosts::{check_family, check_masters};
use super::model::{Clusterfile, Env, HostSpec, MASTER, NODE, Ssh, merged};
use super::sealed::is_sealed;
use super::{address, env};

/// What flags say. What they leave out stays as the Clusterfile has it.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The cluster's name.
    pub name: Option<String>,
    /// The image, instead of the file's first one.
    pub image: Option<String>,
    /// Addresses of further masters: a list with ranges.
    pub masters: Option<String>,
    /// Addresses of further workers.
    pub nodes: Option<String>,
    /// The user to log in as, on all hosts.
    pub user: Option<String>,
    /// The port of sshd, on all hosts.
    pub port: Option<u16>,
    /// The password, on all hosts.
    pub passwd: Option<SecretString>,
    /// The private key's file, for all hosts.
    pub pk: Option<String>,
    /// The private key's passphrase.
    pub pk_passwd: Option<SecretString>,
    /// The environment, `NAME=value` each.
    pub env: Vec<String>,
    /// Launch commands instead of those of the file and the image.
    pub cmds: Option<Vec<String>>,
    /// Applications to launch instead of those of the file and the image; an empty name launches none.
    pub apps: Option<Vec<String>>,
}

impl Overrides {
    /// The Clusterfile with what the flags say over it; start from [`Clusterfile::default`] where there is no file.
    ///
    /// # Errors
    /// Fails with [`crate::error::Kind::Usage`] and everything that is wrong with the flags.
    pub fn apply(&self, mut clusterfile: Clusterfile) -> Result<Clusterfile> {
        let mut wrong = Vec::new();
        self.apply_names(&mut clusterfile, &mut wrong);
        self.apply_env(&mut clusterfile, &mut wrong);
        self.apply_ssh(&mut clusterfile);
        self.apply_hosts(&mut clusterfile, &mut wrong);
        if let Some(cmds) = &self.cmds {
            clusterfile.application.cmds = Some(cmds.clone());
        }
        if let Some(apps) = &self.apps {
            clusterfile.application.launch_apps = Some(apps.iter().filter(|app| !app.is_empty()).cloned().collect());
        }
        if wrong.is_empty() {
            return Ok(clusterfile);
        }
        let hint = "`sealift run --help` describes the flags; write addresses like `10.0.0.2,10.0.0.5-10.0.0.7`";
        Err(Failure::usage(format!("command line: {}", wrong.join("\n  "))).hint(hint).into())
    }

    fn apply_names(&self, clusterfile: &mut Clusterfile, wrong: &mut Vec<String>) {
        let cluster = &mut clusterfile.cluster;
        if let Some(name) = &self.name {
            wrong.extend(super::cluster::check_cluster_name(name).err());
            cluster.name.clone_from(name);
        }
        let Some(image) = &self.image else { return };
        if let Err(error) = image.parse::<Reference>() {
            wrong.push(error.to_string());
        }
        match cluster.images.first_mut() {
            Some(first) => first.clone_from(image),
            None => cluster.images.push(image.clone()),
        }
    }

    fn apply_env(&self, clusterfile: &mut Clusterfile, wrong: &mut Vec<String>) {
        let mut own = Env::new();
        for item in &self.env {
            match item.split_once('=') {
                Some((name, value)) => match env::check_name(name) {
                    Ok(()) => drop(own.insert(name.to_owned(), value.to_owned())),
                    Err(why) => wrong.push(why),
                },
                None => wrong.push(format!("env `{item}` has no `=`: write `NAME=value`")),
            }
        }
        let cluster = &mut clusterfile.cluster;
        for host in &mut cluster.hosts {
            // a value that is not the cluster's is the host's own, and stays where it is known
            let unknown = |name: &String| host.env.get(name).is_some_and(|value| is_sealed(value));
            let follows = |name: &String| host.env.get(name) == cluster.env.get(name) || unknown(name);
            let taken: Env = own.iter().filter(|(name, _)| follows(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
            host.env.extend(taken);
        }
        cluster.env = merged(&cluster.env, &own);
    }

    fn apply_ssh(&self, clusterfile: &mut Clusterfile) {
        let cluster = &mut clusterfile.cluster;
        for ssh in std::iter::once(&mut cluster.ssh).chain(cluster.hosts.iter_mut().map(|host| &mut host.ssh)) {
            self.override_ssh(ssh);
        }
    }

    fn override_ssh(&self, ssh: &mut Ssh) {
        if let Some(user) = &self.user {
            ssh.user.clone_from(user);
        }
        if let Some(port) = self.port {
            ssh.port = port;
        }
        if let Some(passwd) = &self.passwd {
            (ssh.passwd, ssh.passwd_from) = (Some(passwd.clone()), None);
        }
        if let Some(pk) = &self.pk {
            ssh.pk = Some(pk.clone());
        }
        if let Some(passwd) = &self.pk_passwd {
            (ssh.pk_passwd, ssh.pk_passwd_from) = (Some(passwd.clone()), None);
        }
    }

    fn apply_hosts(&self, clusterfile: &mut Clusterfile, wrong: &mut Vec<String>) {
        let cluster = &mut clusterfile.cluster;
        for (list, role) in [(&self.masters, MASTER), (&self.nodes, NODE)] {
            let addresses = address::parse_list(list.as_deref().unwrap_or_default()).unwrap_or_else(|why| {
                wrong.push(why);
                Vec::new()
            });
            for address in addresses {
                if cluster.host(address).is_some() {
                    wrong.push(format!("`--{role}s`: {address} is listed twice"));
                    continue;
                }
                cluster.hosts.push(host(address, role, &cluster.env, &cluster.ssh));
            }
        }
        let mut findings = Findings::new("command line");
        check_family(&cluster.hosts, &(0..0), &mut findings);
        check_masters(&cluster.hosts, &(0..0), &mut findings);
        wrong.extend(findings.into_sorted().into_iter().filter(|finding| finding.is_error()).map(|finding| finding.message));
    }
}

fn host(address: IpAddr, role: &str, env: &Env, ssh: &Ssh) -> HostSpec {
    HostSpec { roles: vec![role.to_owned()], env: env.clone(), ..HostSpec::at(address, ssh.clone()) }
}

impl HostSpec {
    /// A master at this address, with no settings of its own but how it is reached.
    pub fn at(address: IpAddr, ssh: Ssh) -> HostSpec {
        HostSpec { address, roles: vec![MASTER.to_owned()], labels: Default::default(), taints: Vec::new(), env: Env::new(), ssh }
    }
}

impl Clusterfile {
    /// The same cluster with exactly these hosts in a role; a role without a list stays as it is. Hosts that are known keep their
    /// settings, also in another role.
    ///
    /// # Errors
    /// `Usage` if a list is wrong, an address is in both, or no master is left.
    pub fn scaled(mut self, masters: Option<&str>, nodes: Option<&str>) -> Result<Clusterfile> {
        let mut wrong = Vec::new();
        let mut parse = |list: Option<&str>| {
            list.map(|list| {
                address::parse_list(list).unwrap_or_else(|why| {
                    wrong.push(why);
                    Vec::new()
                })
            })
        };
        let (masters, nodes) = (parse(masters), parse(nodes));
        let cluster = &mut self.cluster;
        let listed = |role: &str| if role == MASTER { &masters } else { &nodes };
        let role_of = |host: &HostSpec| if host.is_master() { MASTER } else { NODE };
        let (env, ssh) = (cluster.env.clone(), cluster.hosts.first().map_or_else(|| cluster.ssh.clone(), |host| host.ssh.clone()));
        for role in [MASTER, NODE] {
            for address in listed(role).iter().flatten() {
                match cluster.hosts.iter_mut().find(|host| host.address == *address) {
                    Some(host) if role_of(host) != role => {
                        host.roles.retain(|name| name != MASTER && name != NODE);
                        host.roles.insert(0, role.to_owned());
                    }
                    Some(_) => {}
                    None => cluster.hosts.push(self::host(*address, role, &env, &ssh)),
                }
            }
        }
        cluster.hosts.retain(|host| listed(role_of(host)).as_ref().is_none_or(|list| list.contains(&host.address)));
        let both = masters.iter().flatten().filter(|address| nodes.iter().flatten().any(|node| node == *address));
        wrong.extend(both.map(|address| format!("{address} is listed as master and as node")));
        if !cluster.hosts.iter().any(HostSpec::is_master) {
            wrong.push("no master is left".to_owned());
        }
        let mut findings = Findings::new("command line");
        check_family(&cluster.hosts, &(0..0), &mut findings);
        wrong.extend(findings.into_sorted().into_iter().filter(|finding| finding.is_error()).map(|finding| finding.message));
        if wrong.is_empty() {
            return Ok(self);
        }
        Err(Failure::usage(format!("command line: {}", wrong.join("\n  ")))
            .hint("list every host that the cluster is to have in that role: `--nodes 10.0.0.5,10.0.0.7-10.0.0.9`")
            .into())
    }
}

impl Clusterfile {
    fn require_unsealed(&self) -> Result<()> {
        let places = self.sealed_places();
        let Some(first) = places.first() else { return Ok(()) };
        let variable = first.split('`').nth(1).filter(|_| first.starts_with("env ")).unwrap_or("NAME");
        Err(Failure::usage(format!("cluster {}: not known on this machine: {}", self.cluster.name, places.join(", ")))
            .hint(format!("give the Clusterfile that says them, `-f Clusterfile`, or single variables, `--env {variable}=VALUE`"))
            .hint("or bring the key that they are sealed with: `secrets.key` in sealift's directory, or the file that $SEALIFT_SECRETS_KEY names")
            .into())
    }

    /// Refuses what cannot be run: no image, no hosts, documents that are not carried out yet.
    ///
    /// # Errors
    /// Fails with [`crate::error::Kind::Usage`], naming all of it.
    pub fn require_runnable(&self) -> Result<()> {
        self.require_unsealed()?;
        let mut wrong: Vec<String> = self.unsupported().iter().map(|what| format!("{what} is not carried out yet")).collect();
        if self.cluster.images.is_empty() {
            wrong.push("you must input image name Or use Clusterfile".to_owned());
        }
        if self.cluster.hosts.is_empty() {
            wrong.push("no hosts specified".to_owned());
        }
        wrong.extend(self.cluster.registry.half_known_users());
        if wrong.is_empty() {
            return Ok(());
        }
        let hint = "name the image, and list hosts in the Clusterfile or with `--masters` and `--nodes`";
        Err(Failure::usage(wrong.join("\n")).hint(hint).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_scaled_to_the_hosts_that_are_listed() {
        let text = "apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {name: shop}\nspec:\n  image: 'shop:1'\n  hosts:\n  \
            - {ips: [10.0.0.1, 10.0.0.2], roles: [master]}\n  - {ips: [10.0.0.3, 10.0.0.4], roles: [node], labels: {disk: ssd}}\n";
        for (masters, nodes, expected) in [
            (None, Some("10.0.0.3,10.0.0.5"), "1m 2m 3n 5n"),
            (None, Some(""), "1m 2m"),
            (Some("10.0.0.2"), None, "2m 3n 4n"),
            (Some("10.0.0.1-10.0.0.3"), None, "1m 2m 3m 4n"),
            (Some("10.0.0.1"), Some("10.0.0.2"), "1m 2n"),
            (Some("10.0.0.1"), Some("10.0.0.1"), "10.0.0.1 is listed as master and as node"),
            (Some(""), None, "no master is left"),
            (Some("10.0.0.x"), None, "10.0.0.x"),
        ] {
            let scaled = crate::clusterfile::load("Clusterfile", text).unwrap().scaled(masters, nodes);
            let seen = match &scaled {
                Ok(scaled) => {
                    let short = |host: &HostSpec| {
                        let last = host.address.to_string().rsplit('.').next().unwrap_or_default().to_owned();
                        format!("{last}{}", if host.is_master() { "m" } else { "n" })
                    };
                    scaled.cluster.hosts.iter().map(short).collect::<Vec<_>>().join(" ")
                }
                Err(error) => error.to_string(),
            };
            assert!(seen.contains(expected), "{masters:?} {nodes:?}: {seen}");
        }
        let scaled = crate::clusterfile::load("Clusterfile", text).unwrap().scaled(Some("10.0.0.1,10.0.0.3"), None).unwrap();
        let promoted = scaled.cluster.host(IpAddr::from([10, 0, 0, 3])).unwrap();
        assert_eq!((promoted.labels["disk"].as_str(), promoted.roles.as_slice()), ("ssd", &[MASTER.to_owned()][..]));
    }
}
