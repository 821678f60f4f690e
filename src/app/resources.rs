//! The desired resources of applications, on the first master.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::clusterfile::{Application, Env};
use crate::image::{App, AppKind, ClusterConfig, Digest, Role, RuntimeKind};
use crate::resource::{Command, KubeApp, Resource, is_manifest};

/// The kubeconfig of the cluster's administrator, on masters.
const ADMIN_KUBECONFIG: &str = "/etc/kubernetes/admin.conf";
/// How long the workloads of an application may take to become ready, in seconds.
const READY_TIMEOUT: u64 = 300;

/// The applications of a cluster: those of the image, with the overrides of the Clusterfile.
#[derive(Debug, Clone, Copy)]
pub struct Applications<'a> {
    /// The cluster configuration of the image.
    pub config: &'a ClusterConfig,
    /// The `Application` document of the Clusterfile.
    pub overrides: &'a Application,
    /// The small files of the image, by path.
    pub files: &'a BTreeMap<PathBuf, Vec<u8>>,
    /// The environment of the first master, which launches them.
    pub env: &'a Env,
    /// The digest of the rootfs manifest.
    pub rootfs: Digest,
    /// The directory of the unpacked image on the host.
    pub directory: &'a Path,
    /// The image, if it is not the one that brings the cluster: it has only applications, and commands of the Clusterfile are not for it.
    pub image: Option<&'a str>,
}

enum LaunchList<'a> {
    Commands(&'a [String]),
    Apps(&'a [String]),
}

impl Applications<'_> {
    /// The resources that launch the applications, in order: the CSI plugin first, then the launch list of the Clusterfile, else that of
    /// the image. The CNI plugin is applied earlier, by the stage `network`.
    pub fn launch(&self) -> Vec<Resource> {
        let mut all = self.of_role(Role::Csi);
        match self.launch_list() {
            LaunchList::Commands(lines) => {
                let env = self.environment(None);
                let name = self.image.map_or_else(|| "launch".to_owned(), |image| format!("launch {image}"));
                all.extend(with_unique_names(&name, lines).map(|(name, line)| self.command(&name, self.directory.into(), line, &env)));
            }
            LaunchList::Apps(names) => {
                let apps = names.iter().filter_map(|name| self.config.app(name)).filter(|app| app.role.is_none());
                all.extend(apps.flat_map(|app| self.resources(app)));
            }
        }
        all
    }

    /// The resources of the applications with a role.
    pub fn of_role(&self, role: Role) -> Vec<Resource> {
        self.config.apps.iter().filter(|app| app.role == Some(role)).flat_map(|app| self.resources(app)).collect()
    }

    /// An error for each application that neither the image nor one of `others` has, or whose kind is not supported yet.
    pub fn unsupported(&self, others: &[&ClusterConfig]) -> Vec<String> {
        let mut errors = Vec::new();
        let with_role = self.config.apps.iter().filter(|app| app.role.is_some());
        let mut apps: Vec<&App> = with_role.collect();
        if let LaunchList::Apps(names) = self.launch_list() {
            let unknown =
                names.iter().filter(|name| self.config.app(name).is_none() && others.iter().all(|other| other.app(name).is_none()));
            errors.extend(unknown.map(|name| no_such_app(self.config, name)));
            apps.extend(names.iter().filter_map(|name| self.config.app(name)));
        }
        let by_kind = apps.iter().filter(|app| self.commands(app).is_empty() && !matches!(app.kind, AppKind::Kube | AppKind::Shell));
        errors.extend(
            by_kind.map(|app| format!("app `{}`: launching an app of kind {} is not supported yet", app.name, kind_name(app.kind))),
        );
        errors
    }

    fn resources(&self, app: &App) -> Vec<Resource> {
        let directory = self.directory.join(app.root());
        let env = self.environment(Some(app));
        let name = format!("app {}", app.name);
        let run = |line: &str| self.command(&name, directory.clone(), line, &env);
        let commands = self.commands(app);
        if !commands.is_empty() {
            let commands = with_unique_names(&name, &commands);
            return commands.map(|(name, line)| self.command(&name, directory.clone(), line, &env)).collect();
        }
        let files = self.files(app);
        if app.kind == AppKind::Shell {
            return files.iter().map(|file| run(&format!("bash {}", shell_quoted(file)))).collect();
        }
        let files = files.into_iter().map(PathBuf::from).filter(|file| is_manifest(file)).collect();
        vec![Resource::KubeApp(KubeApp {
            name: app.name.clone(),
            directory: directory.clone(),
            files,
            timeout_seconds: READY_TIMEOUT,
            wait: true,
        })]
    }

    /// The launch list: the Clusterfile's commands, else its applications, else the image's commands, else its applications.
    fn launch_list(&self) -> LaunchList<'_> {
        match (self.overrides.cmds.as_ref().filter(|_| self.image.is_none()), &self.overrides.launch_apps) {
            (Some(lines), _) => LaunchList::Commands(lines),
            (None, Some(apps)) => LaunchList::Apps(apps),
            (None, None) if !self.config.launch.cmds.is_empty() => LaunchList::Commands(&self.config.launch.cmds),
            (None, None) => LaunchList::Apps(&self.config.launch.apps),
        }
    }

    /// The launch commands of an application: the Clusterfile's, else the image's.
    fn commands(&self, app: &App) -> Vec<String> {
        let overridden = self.overrides.config(&app.name).and_then(|config| config.cmds.clone());
        overridden.unwrap_or_else(|| app.cmds.clone())
    }

    /// The files of an application that are launched: those that the image lists, else every file of its kind in its directory.
    fn files(&self, app: &App) -> Vec<String> {
        if !app.files.is_empty() {
            return app.files.clone();
        }
        let below = self.files.keys().filter_map(|path| path.strip_prefix(app.root()).ok());
        let of_kind = below.filter(|file| match app.kind {
            AppKind::Shell => file.extension().is_some_and(|extension| extension == "sh"),
            _ => is_manifest(file),
        });
        of_kind.map(|file| file.display().to_string()).collect()
    }

    /// The environment of an application. Later ones win: the host's, the image's, the Clusterfile's.
    fn environment(&self, app: Option<&App>) -> Env {
        let mut env = self.env.clone();
        if self.config.runtime == RuntimeKind::Kubernetes {
            env.insert("KUBECONFIG".to_owned(), ADMIN_KUBECONFIG.to_owned());
        }
        if let Some(app) = app {
            env.extend(app.env.clone());
            env.extend(self.overrides.config(&app.name).map(|config| config.env.clone()).unwrap_or_default());
        }
        env
    }

    fn command(&self, name: &str, directory: PathBuf, line: &str, env: &Env) -> Resource {
        Resource::Command(Command { name: name.to_owned(), directory, line: line.to_owned(), env: env.clone(), image: self.rootfs })
    }
}

/// Names commands so that equal ones have different names: a command is run once by name.
fn with_unique_names<'a>(name: &'a str, lines: &'a [String]) -> impl Iterator<Item = (String, &'a str)> {
    lines.iter().enumerate().map(move |(at, line)| match lines[..at].iter().filter(|earlier| *earlier == line).count() {
        0 => (name.to_owned(), line.as_str()),
        earlier => (format!("{name} (time {})", earlier + 1), line.as_str()),
    })
}

/// An error for an application that the image does not have.
pub fn no_such_app(config: &ClusterConfig, name: &str) -> String {
    let known: Vec<&str> = config.apps.iter().map(|app| app.name.as_str()).collect();
    let known = if known.is_empty() { "no apps".to_owned() } else { known.join(", ") };
    format!("no such app: {name} (the image has {known})")
}

fn kind_name(kind: AppKind) -> &'static str {
    match kind {
        AppKind::Kube => "kube",
        AppKind::Helm => "helm",
        AppKind::Shell => "shell",
        AppKind::Kustomize => "kustomize",
        AppKind::Unknown => "unknown",
    }
}

/// Quotes a word for the shell.
fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clusterfile::AppConfig;
    use crate::image::ClusterKind;

    fn app(name: &str, kind: AppKind, role: Option<Role>) -> App {
        App { name: name.into(), kind, files: vec![], env: [("From".to_owned(), "appenv".to_owned())].into(), cmds: vec![], role }
    }

    /// The titles of the resources that are launched, and the errors.
    fn titles_and_errors(change: impl FnOnce(&mut ClusterConfig, &mut Application)) -> (Vec<String>, Vec<String>) {
        let mut config = ClusterConfig::new(ClusterKind::KubeInstaller);
        config.apps = vec![
            app("disk", AppKind::Kube, Some(Role::Csi)),
            app("net", AppKind::Kube, Some(Role::Cni)),
            app("web", AppKind::Kube, None),
            app("job", AppKind::Shell, None),
            app("chart", AppKind::Helm, None),
        ];
        config.launch.apps = vec!["web".into(), "net".into()];
        let mut overrides = Application::default();
        change(&mut config, &mut overrides);
        let files = BTreeMap::from([(PathBuf::from("application/apps/job/it's.sh"), vec![])]);
        let applications = Applications {
            config: &config,
            overrides: &overrides,
            files: &files,
            env: &Env::new(),
            rootfs: Digest::of(b"rootfs"),
            directory: Path::new("/var/lib/sealift/rootfs/current"),
            image: None,
        };
        (applications.launch().iter().map(Resource::title).collect(), applications.unsupported(&[]))
    }

    #[test]
    fn the_launch_list_of_the_clusterfile_takes_precedence_and_storage_comes_first() {
        assert_eq!(titles_and_errors(|_, _| ()).0, ["app disk", "app web"]);
        assert_eq!(
            titles_and_errors(|_, overrides| overrides.launch_apps = Some(vec!["job".into()])).0,
            ["app disk", r"app job: bash 'it'\''s.sh'"]
        );
        assert_eq!(titles_and_errors(|config, _| config.launch.cmds = vec!["helm x".into()]).0, ["app disk", "launch: helm x"]);
        let own = AppConfig { name: "web".into(), cmds: Some(vec!["make".into()]), ..AppConfig::default() };
        assert_eq!(titles_and_errors(|_, overrides| overrides.configs.push(own)).0, ["app disk", "app web: make"]);
        assert_eq!(titles_and_errors(|_, overrides| overrides.launch_apps = Some(vec![])).0, ["app disk"]);
        let again = |_: &mut ClusterConfig, overrides: &mut Application| overrides.cmds = Some(["a", "b", "a"].map(str::to_owned).into());
        assert_eq!(titles_and_errors(again).0, ["app disk", "launch: a", "launch: b", "launch (time 2): a"]);
    }

    #[test]
    fn unknown_and_unsupported_apps_are_named() {
        let (_, errors) = titles_and_errors(|_, overrides| overrides.launch_apps = Some(vec!["chart".into(), "nope".into()]));
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("no such app: nope") && errors[1].contains("`chart`"), "{errors:?}");
    }
}
