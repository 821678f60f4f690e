//! The options of commands that work on clusters: which cluster, which hosts, how they are reached.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use secrecy::SecretString;

use super::{CommandContext, state_root};
use crate::cluster::KnownClusters;
use crate::clusterfile::{self, Clusterfile, HostSpec, Overrides, SecretSource, Ssh};
use crate::error::Failure;
use crate::host::{Auth, HostKeyPolicy, HostKeys, Target};

/// How hosts are reached.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Host options")]
pub struct AccessArgs {
    /// The SSH user; any user but root uses sudo
    #[arg(short, long, value_name = "NAME")]
    user: Option<String>,
    /// The password; safer are keys, `--passwd-stdin` and $SEALIFT_PASSWD
    #[arg(short, long, value_name = "PASSWORD", env = "SEALIFT_PASSWD", hide_env_values = true)]
    passwd: Option<SecretText>,
    /// Read the password from stdin
    #[arg(long, conflicts_with = "passwd")]
    passwd_stdin: bool,
    /// The private key [default: ssh-agent, then ~/.ssh/id_ed25519, id_ecdsa, id_rsa]
    #[arg(long, value_name = "FILE")]
    pk: Option<String>,
    /// The private key's passphrase
    #[arg(long, value_name = "PASSPHRASE", env = "SEALIFT_PK_PASSWD", hide_env_values = true)]
    pk_passwd: Option<SecretText>,
    /// The SSH port
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// What to do with unknown host keys
    #[arg(long, value_enum, value_name = "POLICY", default_value = "accept-new")]
    host_key: HostKeyChoice,
    /// The file of known host keys [default: known_hosts in sealift's directory]
    #[arg(long, value_name = "FILE")]
    known_hosts: Option<PathBuf>,
}

/// What to do with unknown host keys.
#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum HostKeyChoice {
    /// A new host's key is accepted and recorded; a changed one is refused.
    #[default]
    AcceptNew,
    /// Only recorded keys are accepted.
    Strict,
    /// Every key is accepted.
    Off,
}

/// A secret from the command line or the environment; never printed.
#[derive(Debug, Clone)]
pub struct SecretText(SecretString);

impl std::str::FromStr for SecretText {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(SecretText(SecretString::from(text)))
    }
}

/// Which hosts, and what the cluster is to be: a Clusterfile, flags over it, or flags alone.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ClusterArgs {
    /// The Clusterfile; `-` reads it from stdin
    #[arg(short = 'f', long = "clusterfile", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Addresses of masters, with ranges: 10.0.0.2,10.0.0.5-10.0.0.7
    #[arg(short, long, value_name = "ADDRESSES")]
    masters: Option<String>,
    /// Addresses of workers
    #[arg(short, long, value_name = "ADDRESSES")]
    nodes: Option<String>,
    /// The cluster's name; without hosts, a cluster that this machine knows
    #[arg(long, value_name = "NAME", add = super::complete::clusters())]
    pub name: Option<String>,
    /// Environment of scripts, templates and applications
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Launch these applications instead of those of the image
    #[arg(long, value_name = "APPS", value_delimiter = ',')]
    apps: Option<Vec<String>>,
    /// Run these launch commands instead of those of the image
    #[arg(long, value_name = "COMMAND")]
    cmds: Option<Vec<String>>,
    /// How the hosts are reached.
    #[command(flatten)]
    pub access: AccessArgs,
}

impl ClusterArgs {
    /// No flags but how hosts are reached.
    pub fn new(access: AccessArgs) -> Self {
        ClusterArgs { access, ..ClusterArgs::default() }
    }

    /// Whether hosts are named, by a Clusterfile or by addresses.
    pub fn names_hosts(&self) -> bool {
        self.file.is_some() || self.masters.is_some() || self.nodes.is_some()
    }

    /// Takes the lists of `--masters` and `--nodes` out: then they add no hosts.
    pub fn take_hosts(&mut self) -> (Option<String>, Option<String>) {
        (self.masters.take(), self.nodes.take())
    }

    /// The Clusterfile, if one is named, with the flags over it.
    pub fn from_file_and_flags(&self, image: Option<&str>, cmd: &CommandContext) -> Result<Clusterfile> {
        let from_file = match &self.file {
            Some(file) => read(file, cmd)?,
            None => Clusterfile::default(),
        };
        self.with_flags(from_file, image)
    }

    /// The Clusterfile of a cluster that this machine knows, by `--name` or the only one, with the flags over it.
    ///
    /// # Errors
    /// `Usage` with an image and no such cluster: a new one needs hosts.
    pub fn known(&self, image: Option<&str>) -> Result<Clusterfile> {
        let known = records()?;
        let is_known = self.name.as_ref().is_some_and(|name| known.names().contains(name));
        if let Some(image) = image.filter(|_| !is_known) {
            return Err(no_hosts(image, self.name.as_deref(), &known.names()).into());
        }
        self.with_flags(known.load(self.name.as_deref())?, image)
    }

    /// The record of the cluster that `--name` means; `None` if this machine does not know it.
    pub fn known_record(&self) -> Result<Option<Clusterfile>> {
        self.name.as_ref().map_or(Ok(None), |name| records()?.find(name))
    }

    fn with_flags(&self, clusterfile: Clusterfile, image: Option<&str>) -> Result<Clusterfile> {
        let mut clusterfile = self.overrides(image)?.apply(clusterfile)?;
        self.access.resolve(&mut clusterfile)?;
        records()?.unseal(&mut clusterfile)?;
        Ok(clusterfile)
    }

    fn overrides(&self, image: Option<&str>) -> Result<Overrides> {
        let access = self.access.overrides()?;
        Ok(Overrides {
            name: self.name.clone(),
            image: image.map(str::to_owned),
            masters: self.masters.clone(),
            nodes: self.nodes.clone(),
            env: self.env.clone(),
            cmds: self.cmds.clone(),
            apps: self.apps.clone(),
            ..access
        })
    }
}

/// An image is named, but neither hosts nor a cluster among those that this machine knows.
fn no_hosts(image: &str, name: Option<&str>, known: &[String]) -> Failure {
    let image = image.strip_suffix(":latest").unwrap_or(image);
    let failure = Failure::usage(match name {
        Some(name) => format!("no hosts specified, and no cluster {name} is known on this machine"),
        None => "no hosts specified".to_owned(),
    });
    let failure = match known {
        [] => failure,
        known if known.iter().any(|cluster| cluster == image) => {
            failure.hint(format!("`{image}` is read as an image here: the cluster is named with `--name {image}`"))
        }
        [only] => failure.hint(format!("for the cluster {only}, which this machine knows: `--name {only}`")),
        known => failure.hint(format!("for a cluster that this machine knows: `--name NAME`, one of {}", known.join(", "))),
    };
    failure.hint("for a new cluster, list hosts in a Clusterfile, `-f FILE`, or with `--masters` and `--nodes`")
}

/// A cluster that exists: by name among those that this machine knows, or by its Clusterfile.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct KnownArgs {
    /// The cluster, by name; needed where this machine knows several
    #[arg(value_name = "CLUSTER", add = super::complete::clusters())]
    cluster: Option<String>,
    /// The cluster, by name, as in `run` and `plan`
    #[arg(long, value_name = "NAME", conflicts_with = "cluster", add = super::complete::clusters())]
    name: Option<String>,
    /// The cluster, by its Clusterfile; `-` reads it from stdin
    #[arg(short = 'f', long = "clusterfile", value_name = "FILE", conflicts_with_all = ["cluster", "name"])]
    file: Option<PathBuf>,
    /// How the hosts are reached.
    #[command(flatten)]
    pub access: AccessArgs,
}

impl KnownArgs {
    /// A cluster that this machine knows, by name.
    pub fn named(name: &str, access: &AccessArgs) -> Self {
        KnownArgs { cluster: Some(name.to_owned()), access: access.clone(), ..KnownArgs::default() }
    }

    /// Whether a cluster is named.
    pub fn is_given(&self) -> bool {
        self.name().is_some() || self.file.is_some()
    }

    fn name(&self) -> Option<&str> {
        self.cluster.as_deref().or(self.name.as_deref())
    }

    /// The Clusterfile.
    pub fn clusterfile(&self, cmd: &CommandContext) -> Result<Clusterfile> {
        let known = match &self.file {
            Some(file) => read(file, cmd)?,
            None => records()?.load(self.name())?,
        };
        let mut clusterfile = self.access.applied(known)?;
        records()?.unseal(&mut clusterfile)?;
        Ok(clusterfile)
    }
}

/// The clusters that this machine knows.
pub fn records() -> Result<KnownClusters> {
    let key_file = std::env::var_os("SEALIFT_SECRETS_KEY").filter(|file| !file.is_empty()).map(PathBuf::from);
    Ok(KnownClusters::new(&state_root()?).with_key_file(key_file))
}

fn read(file: &Path, cmd: &CommandContext) -> Result<Clusterfile> {
    let (name, text) = if file == Path::new("-") {
        ("stdin".to_owned(), std::io::read_to_string(std::io::stdin())?)
    } else {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).with_context(|| {
            Failure::usage(format!("Clusterfile {name}"))
                .hint("name another with `-f FILE`, name hosts with `--masters ADDRESSES`, or write one with `sealift init`")
        })?;
        (name, text)
    };
    let clusterfile = clusterfile::load(&name, &text)?;
    let text = clusterfile::masked(&text);
    for warning in &clusterfile.warnings {
        let rendered = warning.render(&text, false);
        cmd.ctx.warn(rendered.trim_end().trim_start_matches("warning: "));
    }
    Ok(clusterfile)
}

impl AccessArgs {
    fn overrides(&self) -> Result<Overrides> {
        let passwd = if self.passwd_stdin { Some(line_of_stdin()?) } else { self.passwd.clone().map(|secret| secret.0) };
        Ok(Overrides {
            user: self.user.clone(),
            port: self.port,
            passwd,
            pk: self.pk.clone(),
            pk_passwd: self.pk_passwd.clone().map(|secret| secret.0),
            ..Overrides::default()
        })
    }

    /// The Clusterfile with these flags over it, and its secrets resolved.
    pub fn applied(&self, clusterfile: Clusterfile) -> Result<Clusterfile> {
        let mut clusterfile = self.overrides()?.apply(clusterfile)?;
        self.resolve(&mut clusterfile)?;
        Ok(clusterfile)
    }

    /// Gets secrets from where the Clusterfile says they are, from each place once.
    fn resolve(&self, clusterfile: &mut Clusterfile) -> Result<()> {
        let mut fetched: Vec<(SecretSource, SecretString)> = Vec::new();
        let cluster = &mut clusterfile.cluster;
        if let Some(local) = &mut cluster.registry.local {
            resolve(&mut local.password, &local.password_from, "password of the local registry", &mut fetched)?;
        }
        if let Some(external) = &mut cluster.registry.external {
            resolve(&mut external.password, &external.password_from, "password of the external registry", &mut fetched)?;
        }
        for ssh in std::iter::once(&mut cluster.ssh).chain(cluster.hosts.iter_mut().map(|host| &mut host.ssh)) {
            resolve(&mut ssh.passwd, &ssh.passwd_from, "password of the hosts", &mut fetched)?;
            resolve(&mut ssh.pk_passwd, &ssh.pk_passwd_from, "passphrase of the private key", &mut fetched)?;
            if let Some(sudo) = &mut ssh.sudo {
                resolve(&mut sudo.passwd, &sudo.passwd_from, "password for sudo", &mut fetched)?;
            }
        }
        Ok(())
    }

    /// SSH targets of all hosts of a Clusterfile whose secrets are resolved.
    pub fn targets(&self, clusterfile: &Clusterfile) -> Result<Vec<Target>> {
        clusterfile.cluster.hosts.iter().map(|host| self.target(host)).collect()
    }

    /// The SSH target of a host whose secrets may be unknown, as in a stored Clusterfile: then those of `like` are used.
    pub fn target_of(&self, host: &HostSpec, like: &Ssh) -> Result<Target> {
        let mut host = host.clone();
        let ssh = &mut host.ssh;
        ssh.passwd = ssh.passwd.take().or_else(|| like.passwd.clone());
        ssh.pk = ssh.pk.take().or_else(|| like.pk.clone());
        ssh.pk_passwd = ssh.pk_passwd.take().or_else(|| like.pk_passwd.clone());
        ssh.sudo = ssh.sudo.take().filter(|sudo| sudo.passwd.is_some()).or_else(|| like.sudo.clone());
        self.target(&host)
    }

    fn target(&self, host: &HostSpec) -> Result<Target> {
        let ssh = &host.ssh;
        let mut target = Target::new(host.address, ssh.user.clone(), self.host_keys()?);
        target.port = ssh.port;
        target.auth = auth(ssh);
        target.sudo_password = ssh.sudo.as_ref().and_then(|sudo| sudo.passwd.clone());
        target.jump = ssh.jump.as_deref().map(|text| self.jump(text, ssh)).transpose()?.map(Box::new);
        Ok(target)
    }

    /// A jump host, as ssh's ProxyJump: `[user@]address[:port]`, with the credentials of the other hosts.
    fn jump(&self, text: &str, ssh: &Ssh) -> Result<Target> {
        let (user, place) = text.split_once('@').unwrap_or((ssh.user.as_str(), text));
        let wrong =
            || Failure::usage(format!("jump host `{text}`: expected [user@]address[:port]")).hint("for example `jump: ops@10.0.0.1:22`");
        let (address, port) = match place.parse::<std::net::SocketAddr>() {
            Ok(place) => (place.ip(), place.port()),
            Err(_) => (place.trim_matches(['[', ']']).parse().map_err(|_| wrong())?, 22),
        };
        Ok(Target { port, auth: auth(ssh), ..Target::new(address, user, self.host_keys()?) })
    }

    fn host_keys(&self) -> Result<HostKeys> {
        let file = match &self.known_hosts {
            Some(file) => file.clone(),
            None => state_root()?.join("known_hosts"),
        };
        let policy = match self.host_key {
            HostKeyChoice::AcceptNew => HostKeyPolicy::AcceptNew,
            HostKeyChoice::Strict => HostKeyPolicy::Strict,
            HostKeyChoice::Off => HostKeyPolicy::Off,
        };
        Ok(HostKeys { file, policy })
    }
}

fn auth(ssh: &Ssh) -> Auth {
    let usual = ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| format!("~/.ssh/{name}"));
    let keys = ssh.pk.as_ref().map_or_else(|| usual.to_vec(), |pk| vec![pk.clone()]);
    Auth {
        keys: keys.iter().map(|key| expanded(key)).collect(),
        key_passphrase: ssh.pk_passwd.clone(),
        agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        password: ssh.passwd.clone(),
    }
}

/// The path, with `~/` replaced by the home directory.
fn expanded(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(path),
    }
}

fn resolve(
    secret: &mut Option<SecretString>,
    from: &Option<SecretSource>,
    what: &str,
    fetched: &mut Vec<(SecretSource, SecretString)>,
) -> Result<()> {
    let Some(source) = from.as_ref().filter(|_| secret.is_none()) else { return Ok(()) };
    let value = match fetched.iter().find(|(known, _)| known == source) {
        Some((_, value)) => value.clone(),
        None => {
            let value = fetch(source, what)?;
            fetched.push((source.clone(), value.clone()));
            value
        }
    };
    *secret = Some(value);
    Ok(())
}

fn fetch(source: &SecretSource, what: &str) -> Result<SecretString> {
    match source {
        SecretSource::Env(name) => std::env::var(name).map(SecretString::from).map_err(|_| {
            Failure::usage(format!("{what}: the environment variable {name} is not set")).hint(format!("export {name}=…")).into()
        }),
        SecretSource::File(path) => {
            let text = std::fs::read_to_string(expanded(path)).with_context(|| {
                Failure::usage(format!("{what}: {path}")).hint("write the password to this file, or name another in the Clusterfile")
            })?;
            Ok(SecretString::from(text.strip_suffix('\n').unwrap_or(&text)))
        }
        SecretSource::Prompt => prompt(what),
    }
}

fn prompt(what: &str) -> Result<SecretString> {
    use std::io::IsTerminal as _;
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{what}: no terminal to prompt on"))
            .hint("use `--passwd-stdin`, $SEALIFT_PASSWD, or `passwdFrom: {file: …}`")
            .into());
    }
    Ok(SecretString::from(rpassword::prompt_password(format!("{what}: "))?))
}

fn line_of_stdin() -> Result<SecretString> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(SecretString::from(line.trim_end_matches(['\r', '\n'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        cluster: ClusterArgs,
    }

    #[test]
    fn flags_override_the_clusterfile_of_a_known_cluster() {
        let text = "apiVersion: sealift.io/v1\nkind: Cluster\nmetadata: {name: shop}\nspec: {image: 'shop:1', hosts: [{ips: [10.0.0.1], roles: [master]}]}\n";
        let known = clusterfile::load("Clusterfile", text).unwrap();
        let line = Line::parse_from(["run", "--user", "admin", "--passwd", "p", "--port", "2222", "--env", "A=1", "--apps", "web"]);
        let clusterfile = line.cluster.with_flags(known, None).unwrap();
        let ssh = &clusterfile.cluster.hosts[0].ssh;
        assert_eq!((ssh.user.as_str(), ssh.port, ssh.passwd.is_some()), ("admin", 2222, true));
        assert_eq!(clusterfile.cluster.env["A"], "1");
        assert_eq!(clusterfile.application.launch_apps, Some(vec!["web".to_owned()]));
        assert_eq!((clusterfile.cluster.name.as_str(), clusterfile.cluster.images[0].as_str()), ("shop", "shop:1"));
    }

    #[test]
    fn an_image_without_hosts_is_refused_with_the_clusters_that_can_be_meant() {
        for (image, name, known, message, hint) in [
            ("app:2", None, vec![], "no hosts specified", "list hosts in a Clusterfile"),
            ("app:2", None, vec!["shop"], "no hosts specified", "for the cluster shop, which this machine knows: `--name shop`"),
            ("shop:latest", None, vec!["bank", "shop"], "no hosts specified", "`shop` is read as an image"),
            ("app:2", None, vec!["bank", "shop"], "no hosts specified", "one of bank, shop"),
            ("app:2", Some("shpo"), vec!["shop"], "no cluster shpo is known", "`--name shop`"),
        ] {
            let known: Vec<String> = known.into_iter().map(str::to_owned).collect();
            let error = anyhow::Error::from(no_hosts(image, name, &known));
            assert!(error.to_string().contains(message), "{error}");
            let hints = crate::error::hints_of(&error);
            assert!(hints[0].contains(hint) && hints.last().unwrap().contains("--masters"), "{hints:?}");
        }
    }
}
