//! What the first master shall have of an application.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::clusterfile::{Application, Env};
use crate::image::{App, AppKind, ClusterConfig, Digest, Role, RuntimeKind};
use crate::paths::ROOTFS_CURRENT;
use crate::resource::{Command, KubeApp, Resource, is_manifest};

/// The root file system in use on a host.
const ADMIN: &str = "/etc/kubernetes/admin.conf";
/// How long the workloads of an application may take, in seconds.
const PATIENCE: u64 = 300;

/// The applications of a cluster: those of the image, and what the Clusterfile says about them.
#[derive(Debug, Clone, Copy)]
pub struct Applications<'a> {
    /// What the image says.
    pub config: &'a ClusterConfig,
    /// What the Clusterfile says.
    pub said: &'a Application,
    /// The image's small files.
    pub files: &'a BTreeMap<PathBuf, Vec<u8>>,
    /// The environment of the host that launches them.
    pub env: &'a Env,
    /// The digest of the rootfs manifest.
    pub rootfs: Digest,
}

enum Launched<'a> {
    Commands(&'a [String]),
    Apps(&'a [String]),
}

impl Applications<'_> {
    /// What is launched, in order: the storage plugin, then what the Clusterfile names, else what the image does. The network
    /// plugin is there before.
    pub fn launch(&self) -> Vec<Resource> {
        let mut all = self.of_role(Role::Csi);
        match self.launched() {
            Launched::Commands(lines) => {
                let env = self.environment(None);
                all.extend(numbered("launch", lines).map(|(name, line)| self.command(&name, ROOTFS_CURRENT.into(), line, &env)));
            }
            Launched::Apps(names) => {
                let apps = names.iter().filter_map(|name| self.config.app(name)).filter(|app| app.role.is_none());
                all.extend(apps.flat_map(|app| self.resources(app)));
            }
        }
        all
    }

    /// What the first master shall have of the applications with a role.
    pub fn of_role(&self, role: Role) -> Vec<Resource> {
        self.config.apps.iter().filter(|app| app.role == Some(role)).flat_map(|app| self.resources(app)).collect()
    }

    /// What of these applications is not known, or not carried out yet.
    pub fn unsupported(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let with_role = self.config.apps.iter().filter(|app| app.role.is_some());
        let mut apps: Vec<&App> = with_role.collect();
        if let Launched::Apps(names) = self.launched() {
            let known: Vec<&str> = self.config.apps.iter().map(|app| app.name.as_str()).collect();
            let unknown = names.iter().filter(|name| self.config.app(name).is_none());
            wrong.extend(unknown.map(|name| format!("app name `{name}` is not found in [{}]", known.join(" "))));
            apps.extend(names.iter().filter_map(|name| self.config.app(name)));
        }
        let by_kind = apps.iter().filter(|app| self.commands(app).is_empty() && !matches!(app.kind, AppKind::Kube | AppKind::Shell));
        wrong.extend(by_kind.map(|app| format!("app `{}`: launching a {} application is not carried out yet", app.name, kind(app.kind))));
        wrong
    }

    fn resources(&self, app: &App) -> Vec<Resource> {
        let directory = PathBuf::from(ROOTFS_CURRENT).join(app.root());
        let env = self.environment(Some(app));
        let name = format!("app {}", app.name);
        let run = |line: &str| self.command(&name, directory.clone(), line, &env);
        let commands = self.commands(app);
        if !commands.is_empty() {
            let commands = numbered(&name, &commands);
            return commands.map(|(name, line)| self.command(&name, directory.clone(), line, &env)).collect();
        }
        let files = self.files(app);
        if app.kind == AppKind::Shell {
            return files.iter().map(|file| run(&format!("bash {}", quoted(file)))).collect();
        }
        let files = files.into_iter().map(PathBuf::from).filter(|file| is_manifest(file)).collect();
        vec![Resource::KubeApp(KubeApp { name: app.name.clone(), directory: directory.clone(), files, patience: PATIENCE, wait: true })]
    }

    /// The Clusterfile's commands, else its applications, else the image's commands, else its applications.
    fn launched(&self) -> Launched<'_> {
        match (&self.said.cmds, &self.said.launch_apps) {
            (Some(lines), _) => Launched::Commands(lines),
            (None, Some(apps)) => Launched::Apps(apps),
            (None, None) if !self.config.launch.cmds.is_empty() => Launched::Commands(&self.config.launch.cmds),
            (None, None) => Launched::Apps(&self.config.launch.apps),
        }
    }

    /// The launch commands of an application, those of the Clusterfile before those of the image.
    fn commands(&self, app: &App) -> Vec<String> {
        let said = self.said.config(&app.name).and_then(|config| config.cmds.clone());
        said.unwrap_or_else(|| app.cmds.clone())
    }

    /// What is launched of an application: what the image says, else every file of its kind in its folder.
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

    /// The environment: the host's, the application's of the image over it, the Clusterfile's over both.
    fn environment(&self, app: Option<&App>) -> Env {
        let mut env = self.env.clone();
        if self.config.runtime == RuntimeKind::Kubernetes {
            env.insert("KUBECONFIG".to_owned(), ADMIN.to_owned());
        }
        if let Some(app) = app {
            env.extend(app.env.clone());
            env.extend(self.said.config(&app.name).map(|config| config.env.clone()).unwrap_or_default());
        }
        env
    }

    fn command(&self, name: &str, directory: PathBuf, line: &str, env: &Env) -> Resource {
        Resource::Command(Command { name: name.to_owned(), directory, line: line.to_owned(), env: env.clone(), image: self.rootfs })
    }
}

/// Lines with names that differ where lines are the same: each is run once.
fn numbered<'a>(name: &'a str, lines: &'a [String]) -> impl Iterator<Item = (String, &'a str)> {
    lines.iter().enumerate().map(move |(at, line)| match lines[..at].iter().filter(|earlier| *earlier == line).count() {
        0 => (name.to_owned(), line.as_str()),
        earlier => (format!("{name} (time {})", earlier + 1), line.as_str()),
    })
}

fn kind(kind: AppKind) -> &'static str {
    match kind {
        AppKind::Kube => "kube",
        AppKind::Helm => "helm",
        AppKind::Shell => "shell",
        AppKind::Kustomize => "kustomize",
        AppKind::Unknown => "unknown",
    }
}

/// A word for the shell, whatever is in it.
fn quoted(word: &str) -> String {
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

    /// The titles of what is launched.
    fn launched(change: impl FnOnce(&mut ClusterConfig, &mut Application)) -> (Vec<String>, Vec<String>) {
        let mut config = ClusterConfig::new(ClusterKind::KubeInstaller);
        config.apps = vec![
            app("disk", AppKind::Kube, Some(Role::Csi)),
            app("net", AppKind::Kube, Some(Role::Cni)),
            app("web", AppKind::Kube, None),
            app("job", AppKind::Shell, None),
            app("chart", AppKind::Helm, None),
        ];
        config.launch.apps = vec!["web".into(), "net".into()];
        let mut said = Application::default();
        change(&mut config, &mut said);
        let files = BTreeMap::from([(PathBuf::from("application/apps/job/it's.sh"), vec![])]);
        let applications = Applications { config: &config, said: &said, files: &files, env: &Env::new(), rootfs: Digest::of(b"rootfs") };
        (applications.launch().iter().map(Resource::title).collect(), applications.unsupported())
    }

    #[test]
    fn the_clusterfile_goes_before_the_image_and_storage_before_all() {
        assert_eq!(launched(|_, _| ()).0, ["app disk", "app web"]);
        assert_eq!(launched(|_, said| said.launch_apps = Some(vec!["job".into()])).0, ["app disk", r"app job: bash 'it'\''s.sh'"]);
        assert_eq!(launched(|config, _| config.launch.cmds = vec!["helm x".into()]).0, ["app disk", "launch: helm x"]);
        let own = AppConfig { name: "web".into(), cmds: Some(vec!["make".into()]), ..AppConfig::default() };
        assert_eq!(launched(|_, said| said.configs.push(own)).0, ["app disk", "app web: make"]);
        assert_eq!(launched(|_, said| said.launch_apps = Some(vec![])).0, ["app disk"]);
        let again = |_: &mut ClusterConfig, said: &mut Application| said.cmds = Some(["a", "b", "a"].map(str::to_owned).into());
        assert_eq!(launched(again).0, ["app disk", "launch: a", "launch: b", "launch (time 2): a"]);
    }

    #[test]
    fn what_is_not_known_or_not_carried_out_is_named() {
        let (_, wrong) = launched(|_, said| said.launch_apps = Some(vec!["chart".into(), "nope".into()]));
        assert_eq!(wrong.len(), 2, "{wrong:?}");
        assert!(wrong[0].contains("`nope`") && wrong[1].contains("`chart`"), "{wrong:?}");
    }
}
